--- Every allocation of every input fails once: see allocation_test.c.

local program = require "spec.support.program"

describe("failing memory", function()
  setup(program.setup)
  teardown(program.teardown)

  it("loses nothing and leaks nothing, whichever allocation of whichever input it is", function()
    local output = program.run("allocation_test", "spec/core/allocation_test.c src/core/*/*.c")
    assert.is_true(tonumber(output:match "^(%d+) failed allocations") > 100, output)
  end)
end)
