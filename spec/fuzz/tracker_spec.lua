--- The fuzzer's programs that once failed, run again without a fuzzer: see tracker_fuzz.c.

local program = require "spec.support.program"

describe("the tracker fuzzer's corpus", function()
  setup(program.setup)
  teardown(program.teardown)

  it("finds no fault", function()
    program.run("tracker_fuzz", "-DREPLAY spec/fuzz/tracker_fuzz.c src/core/*/*.c", "spec/fuzz/corpus/tracker/*")
  end)
end)
