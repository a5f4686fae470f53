--- A runtime whose program and script ask for what they should not.
local runtime = require "spec.support.runtime"

describe("a runtime", function()
  setup(runtime.setup)
  teardown(runtime.teardown)

  it("survives what its program asks for, and says whose fault it is", function()
    local output = runtime.run("abuse_test")
    assert.equal([[
a pointer is enough
endless options are refused
a thread that is cancelled leaves no lock behind
a script that breaks Lua is blamed for it]], (output:gsub("%d%S+ %a+ cueball[^\n]*\n", "")))
  end)
end)
