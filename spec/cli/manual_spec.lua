--- The manual page and the help say what the command does, and the page is well made.
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

describe("the manual page", function()
  local page = read "docs/cueball.1"
  local names = options_of(require "cueball.cli.resolve")

  it("has every option, as has the help", function()
    assert.is_true(#names >= 15)
    -- In mdoc "Fl x , -xylo" is "-x, --xylo".
    local flags = page:gsub("(%.It Fl [^\n]*)", function(line) return (line:gsub(", %-", ", --")) end)
    assert.same({}, missing_options(flags, names))
    assert.same({}, missing_options(require("cueball.cli.resolve").help, names))
  end)

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
    local output = require "cueball.cli.output"
    for name in pairs(output.members) do
      assert.is_truthy(page:find("\n%.Va " .. name .. "%f[^%w_]") or page:find("\n%.It Va " .. name .. "\n"), name)
    end
  end)

  it("has no fault that groff or mandoc finds", function()
    local function lint(path)
      return command.shell(("if command -v mandoc >/dev/null; then mandoc -T lint -W warning '%s'; else "
        .. "LC_ALL=C.UTF-8 groff -mandoc -Tutf8 -ww -z '%s' 2>&1; fi"):format(path, path))
    end
    local code, out, err = lint(root .. "/docs/cueball.1")
    assert.equal("", out .. err)
    assert.equal(0, code)
    local bad = os.tmpname()
    local file = assert(io.open(bad, "wb"))
    file:write(page, ".Nosuchmacro\n\\fQno such font\n")
    file:close()
    code, out, err = lint(bad)
    os.remove(bad)
    assert.not_equal("0", tostring(code) .. out .. err)
  end)
end)
