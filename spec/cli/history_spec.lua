--- The file of what was typed at a prompt, and what may stand in its place.
local histories = require "cueball.cli.history"
local shell = require "spec.support.shell"

describe("the history of a prompt", function()
  local folder, path

  before_each(function()
    folder = shell.must "mktemp -d":match "^[^\n]+"
    path = folder .. "/cueball/history"
    shell.must("mkdir " .. shell.quote(folder .. "/cueball"))
  end)
  after_each(function() shell.run("rm -rf " .. shell.quote(folder)) end)

  local function open()
    return histories.open("history", { environment = function(name) return name == "XDG_STATE_HOME" and folder or nil end })
  end

  it("is kept, in a file that nobody else can read", function()
    shell.write(path, "one\n")
    shell.must("chmod 666 " .. shell.quote(path))
    local one = open()
    one:add "two\nlines"
    assert.same({ "one", "two\nlines" }, one.entries)
    assert.same({ "one", "two\nlines" }, open().entries)
    assert.equal("600", shell.must("stat -c %a " .. shell.quote(path)):match "%d+")
  end)

  it("has the last 2000 entries, of a file of any size", function()
    shell.must(("yes 'some line of this history, which is a long one' | head -c 40000000 >%s"):format(shell.quote(path)))
    shell.must(("printf '\\nlast\\n' >>%s"):format(shell.quote(path)))
    local one = open()
    assert.same({ 2000, "last" }, { #one.entries, one.entries[#one.entries] })
    assert.equal(2000, tonumber(shell.must("wc -l <" .. shell.quote(path))))
    shell.must(("head -c 40000000 /dev/zero >%s"):format(shell.quote(path)))
    assert.same({}, open().entries)
  end)

  it("is not waited for, nor changed, where it is no file", function()
    local commands = { "mkdir P", "mkfifo P", "ln -s /dev/zero P", "ln -s P P" }
    for _, command in ipairs(commands) do
      shell.must((command:gsub("P", function() return shell.quote(path) end)))
      local one = open()
      one:add "typed"
      assert.same({ "typed" }, one.entries, command)
      shell.must("rm -r " .. shell.quote(path))
    end
  end)

  it("leaves the mode of a device as it is", function()
    local before = shell.must "stat -L -c %a /dev/zero"
    shell.must("ln -s /dev/zero " .. shell.quote(path))
    open():add "typed"
    local after = shell.must "stat -L -c %a /dev/zero"
    shell.must("chmod " .. before:match "%d+" .. " /dev/zero")
    assert.equal(before, after)
  end)
end)
