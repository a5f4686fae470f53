--- docs/repl.md: its session is typed, and what comes is compared with what stands there.
local prompts = require "spec.support.prompt"
local repl = require "cueball.cli.repl"
local shell = require "spec.support.shell"
local status = require "cueball.cli.status"

local page = shell.read(shell.root .. "/docs/repl.md")

describe("docs/repl.md", function()
  it("has a session that goes as it says", function()
    local section = page:match "\n## What it looks like\n(.-)\n## "
    local prompt, count = prompts.new(), 0
    for block in section:gmatch "```text\n(.-)```" do
      -- A prompt, the line behind it, and what comes up to the next prompt.
      for mark, line, came in (block .. "[end] > "):gmatch "(%[[^\n%]]+%] > )([^\n]*)\n(.-)%f[%[]" do
        assert.equal(mark, prompt.session:prompt(false), line)
        prompt:type(line)
        local said = prompt:said():gsub("\n[#!] ", "\n"):gsub("^[#!] ", "")
        assert.equal((came:gsub("\n$", "")), said, line)
        count = count + 1
      end
    end
    prompt:close()
    assert.equal(6, count)
  end)

  it("has every command of the prompt's own, and no other", function()
    local prompt = prompts.new()
    local verbs = {}
    for _, row in ipairs(require("cueball.console.verbs").commands({ who = "spec" }, true)) do verbs[row.name] = true end
    local named, missing, unknown = {}, {}, {}
    for line in page:gmatch "\n(| `:[^\n]*)" do
      for name in line:match("^| (.-) |"):gmatch "`:(%l+)" do named[name] = true end
    end
    for _, name in ipairs(prompt.session.commands.names) do
      if not named[name] and not verbs[name] then missing[#missing + 1] = name end
    end
    for name in pairs(named) do
      if not prompt.session.commands.by_name[name] then unknown[#unknown + 1] = name end
    end
    prompt:close()
    assert.same({ {}, {} }, { missing, unknown })
  end)

  it("has the exit statuses, as have the help and the manual page", function()
    local man = shell.read(shell.root .. "/docs/cueball-repl.1")
    for _, number in ipairs { status.found, status.failed, status.usage, status.broken, status.interrupted } do
      assert.is_truthy(page:find("\n| " .. number .. " |", 1, true), number)
      assert.is_truthy(man:find("\n.It " .. number .. "\n", 1, true), number)
      assert.is_truthy(repl.help:match "Exit status:.*":find("%f[%d]" .. number .. " "), number)
    end
  end)

  it("is where the help's options are told, in the manual page", function()
    local man = shell.read(shell.root .. "/docs/cueball-repl.1")
    local count = 0
    for name in repl.help:gmatch "%-%-([%l-]+)" do
      assert.is_truthy(man:find("-" .. name, 1, true), name)
      count = count + 1
    end
    assert.is_true(count >= 6)
  end)
end)
