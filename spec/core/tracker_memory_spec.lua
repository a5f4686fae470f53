--- Every allocation of a tracker's life fails once: see tracker_test.c.

local program = require "spec.support.program"

describe("a tracker's failing memory", function()
  setup(program.setup)
  teardown(program.teardown)

  it("loses nothing that is known and leaks nothing, whichever allocation it is", function()
    local output = program.run("tracker_test", "spec/core/tracker_test.c src/core/*/*.c")
    assert.is_true(tonumber(output:match "^(%d+) failed allocations") > 500, output)
  end)
end)
