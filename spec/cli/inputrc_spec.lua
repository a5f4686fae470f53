--- What GNU readline must not read: an inputrc that includes itself.
local inputrc = require "cueball.cli.editor.inputrc"
local shell = require "spec.support.shell"

describe("an inputrc", function()
  local folder

  before_each(function() folder = shell.must "mktemp -d" end)
  after_each(function() shell.must("rm -r " .. folder) end)

  local function write(name, ...)
    shell.write(folder .. "/" .. name, table.concat({ ... }, "\n") .. "\n")
  end

  local function fault(environment)
    local found = inputrc.fault(function(name) return environment[name] end)
    return found and found:gsub("^" .. folder:gsub("%p", "%%%0"), "F") or nil
  end

  it("that includes itself is told, however it does", function()
    write("own", "set bell-style none", "$include " .. folder .. "/own")
    assert.equal("F/own includes itself", fault { INPUTRC = folder .. "/own" })
    write("a", "  $ InClude \t" .. folder .. "/b")
    write("b", "# nothing", "$include ~/a")
    assert.equal("F/a includes itself", fault { INPUTRC = "~/a", HOME = folder })
    write(".inputrc", "$if vi", "$include ~/a", "$endif")
    for _, none in ipairs { false, "" } do
      assert.equal("F/a includes itself", fault { INPUTRC = none or nil, HOME = folder })
    end
  end)

  it("that includes others is well, also one of them twice, and what is no file", function()
    write("twice", "$include ~/x", "$include ~/y", "# $include ~/twice", "$include", "set include ~/twice")
    write("x", "$include ~/y", "$include ~/nowhere", "$include ~somebody/twice")
    write("y", "$include /", "$include " .. folder)
    assert.is_nil(fault { INPUTRC = folder .. "/twice", HOME = folder })
    assert.is_nil(fault { INPUTRC = folder .. "/nowhere", HOME = folder })
    assert.is_nil(fault { INPUTRC = folder })
    assert.is_nil(fault {})
  end)
end)
