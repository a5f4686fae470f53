--- The fuzzer's programs that once failed, run again without a fuzzer: see pool_fuzz.c.

local program = require "spec.support.program"

describe("the fuzzer's corpus", function()
  setup(program.setup)
  teardown(program.teardown)

  it("finds no fault", function()
    program.run("pool_fuzz", "-DREPLAY spec/fuzz/pool_fuzz.c src/core/*/*.c", "spec/fuzz/corpus/pool/*")
  end)
end)
