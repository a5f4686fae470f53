--- The manual pages and the help say what the commands do, and the pages are well made.
local cli = require "cueball.cli"
local command = require "spec.support.command"
local shell = require "spec.support.shell"
local status = require "cueball.cli.status"

local root, read = shell.root, shell.text_of

-- The options of a command, as its module declares them: { "-f", "--follow" } …
local function options_of(module)
  local found = {}
  local element = setmetatable({}, { __index = function(self) return function() return self end end })
  local function note(_, names)
    for name in names:gmatch "%S+" do found[#found + 1] = name end
    return element
  end
  module.define { argument = function() return element end, option = note, flag = note }
  return found
end

-- Options that a text does not have, as "-f" or as mdoc writes it.
local function missing_options(text, names)
  local missing = {}
  for _, name in ipairs(names) do
    local pattern = "%f[%-%w]" .. name:gsub("%-", "%%-") .. "%f[^%-%w]"
    local mdoc = "Fl " .. name:sub(2):gsub("%-", "%%-") .. "%f[^%-%w]"
    local as_long = ", " .. name:gsub("%-", "%%-") .. "%f[^%-%w]"
    if not text:find(pattern) and not text:find(mdoc) and not text:find(as_long) then missing[#missing + 1] = name end
  end
  return missing
end

-- A command has a page of its own, or is in that of the whole.
local function page_of(row)
  local path = "docs/cueball-" .. row.name .. ".1"
  local file = io.open(root .. "/" .. path, "rb")
  if not file then return "docs/cueball.1" end
  file:close()
  return path
end

-- In mdoc "Fl x , -xylo" is "-x, --xylo".
local function with_flags(page)
  return (page:gsub("(%.It Fl [^\n]*)", function(line) return (line:gsub(", %-", ", --")) end))
end

-- The numbers of an exit status that a text has, each after a mark: "0 1 2".
local function statuses_in(text, pattern)
  local numbers = {}
  for number in text:gmatch(pattern) do numbers[#numbers + 1] = tonumber(number) end
  table.sort(numbers)
  return table.concat(numbers, " ")
end

describe("each command", function()
  for _, row in ipairs(cli.commands) do
    local module = require(row.module)
    describe(row.name, function()
      it("has every option in its help and its manual page", function()
        local names = options_of(module)
        names[#names + 1] = "-h"
        names[#names + 1] = "--help"
        assert.same({}, missing_options(with_flags(read(page_of(row))), names))
        assert.same({}, missing_options(module.help, names))
      end)

      it("tells the same exit statuses in both", function()
        local of_help = statuses_in(module.help:match "\nExit status(:.*)$" or "", "[:;]%s+(%d+) %l")
        assert.is_truthy(of_help:find "0.* 2", of_help)
        if page_of(row) == "docs/cueball.1" then return end
        local section = read(page_of(row)):match "\n%.Sh EXIT STATUS(.-)\n%.Sh "
        assert.equal(of_help, statuses_in(section, "\n%.It (%d+)"))
      end)

      it("prints its help, ends with 2 on wrong usage, and is in the overview", function()
        assert.same({ 0, module.help, "" }, { command.run(row.name .. " --help") })
        local code, out, err = command.run(row.name .. " --no-such-option")
        assert.equal(2, code)
        assert.equal("", out)
        assert.equal(("cueball: unknown option '--no-such-option'\nTry 'cueball %s --help'.\n"):format(row.name), err)
        assert.is_truthy(read "docs/cueball.1":find("\n.It Cm " .. row.name .. "\n", 1, true))
        assert.is_truthy(cli.help_text():find(("\n  %-14s  %s\n"):format(row.name, row.summary), 1, true))
        for line in module.help:gmatch "[^\n]+" do assert.is_true(#line <= 84, line) end
      end)

      it("has a section in docs/cli.md, or a page that this leads to", function()
        local chapter = read "docs/cli.md"
        assert.is_truthy(chapter:find("\n| [`cueball " .. row.name .. "`](", 1, true), row.name)
        local has_section = chapter:find("\n## cueball " .. row.name .. "\n", 1, true)
        assert.is_truthy(has_section or chapter:find("\n| [`cueball " .. row.name .. "`]([^#%)]+%.md"), row.name)
      end)
    end)
  end
end)

describe("the manual page", function()
  local page = read "docs/cueball.1"

  it("would be caught without one", function()
    assert.same({ "--static", "-x" }, missing_options("  -s, --statically  -xy", { "--static", "-x", "-s" }))
  end)

  it("has every exit status, as has docs/cli.md", function()
    local section = page:match "\n%.Sh EXIT STATUS(.-)\n%.Sh "
    local table_of = read "docs/cli.md"
    local count = 0
    for name, number in pairs(status) do
      assert.is_truthy(section:find("\n%.It " .. number .. "\n"), name)
      assert.is_truthy(table_of:find("\n| " .. number .. " |"), name)
      count = count + 1
    end
    assert.equal(count, select(2, section:gsub("\n%.It ", "")))
  end)

  it("names every member of the JSON that there is", function()
    local bench = read "docs/cueball-bench.1"
    for name in pairs(require("cueball.cli.load.report").members) do
      assert.is_truthy(bench:find("Va " .. name .. "%f[^%w_]") or bench:find(", " .. name .. "%f[^%w_]"), name)
    end
    for name in pairs(require("cueball.cli.output").members) do
      assert.is_truthy(page:find("\n%.Va " .. name .. "%f[^%w_]") or page:find("\n%.It Va " .. name .. "\n"), name)
    end
  end)

  it("has no fault that groff or mandoc finds", function()
    local function lint(path)
      return command.shell(("if command -v mandoc >/dev/null; then mandoc -T lint -W warning '%s'; else "
        .. "LC_ALL=C.UTF-8 groff -mandoc -Tutf8 -ww -z '%s' 2>&1; fi"):format(path, path))
    end
    local code, out, err
    for name in shell.must("cd " .. shell.quote(root) .. " && ls docs/*.1"):gmatch "%S+" do
      code, out, err = lint(root .. "/" .. name)
      assert.equal("", out .. err)
      assert.equal(0, code)
    end
    local bad = os.tmpname()
    local file = assert(io.open(bad, "wb"))
    file:write(page, ".Nosuchmacro\n\\fQno such font\n")
    file:close()
    code, out, err = lint(bad)
    os.remove(bad)
    assert.not_equal("0", tostring(code) .. out .. err)
  end)
end)
