--- docs/troubleshooting.md: the messages that it explains are those that cueball has, and the numbers and options that it names are there.
local shell = require "spec.support.shell"
local ffi = require "ffi"
local native = require "cueball.native"
local options = require "cueball.options"

-- What a row of a table explains: code in its first cell, of three words or more.
local function messages_of(page)
  local list = {}
  for cell in page:gmatch "\n| ([^\n|]*) |" do
    for message in cell:gmatch "`([^`]*)`" do
      if select(2, message:gsub("%S+", "")) >= 3 then list[#list + 1] = message end
    end
  end
  return list
end

-- Everything that the modules and the library can say, with "…" for what is put in.
local function source()
  local text = shell.must(("cd '%s' && cat $(find lua src -name '*.lua' -o -name '*.c')"):format(shell.root))
  return (text:gsub('"%s*%.%.%s*"', ""):gsub("%%[%d.]*[sdgq]", "…"):gsub("\\\"", '"'))
end

local said = source()

-- The parts of messages that nothing says.
local function unsaid(messages)
  local missing = {}
  for _, message in ipairs(messages) do
    for part in (message:gsub("…", ":") .. ":"):gmatch "([^:]*):" do
      part = part:match "^[%s)]*(.-)[%s(]*$"
      if #part > 4 and not said:find(part, 1, true) then missing[#missing + 1] = part end
    end
  end
  return missing
end

-- Put together from parts, or said by libuv.
local FOREIGN = { ["no route to host"] = true, ["cueball: libcueball not found"] = true }

describe("docs/troubleshooting.md", function()
  local page = shell.text_of("docs/troubleshooting.md"):match "\n## A claim got nothing.*"

  it("explains messages that there are", function()
    local own = {}
    for _, message in ipairs(messages_of(page)) do
      if not FOREIGN[message] then own[#own + 1] = message end
    end
    assert.is_true(#own > 25)
    assert.same({}, unsaid(own))
  end)

  it("would be caught with another one", function()
    assert.same({ "the claim was not liked" }, unsaid { "the claim was not liked: …", "claim timed out after … ms (… ahead)" })
  end)

  it("names counters that there are", function()
    local fields, count = {}, 0
    for index = 0, tonumber(native.lib.CUEBALL_CAUSE_LAST) do
      fields["closed_" .. ffi.string(native.lib.cueball_cause_name(index))] = true
    end
    for counter in page:gmatch "`(closed_%w+)`" do
      count = count + 1
      assert.is_true(fields[counter], counter)
    end
    assert.is_true(count >= 8)
  end)

  it("names options that there are", function()
    local known = {}
    for _, option in ipairs(options.all()) do known[option.name:match "[%w_]+$"] = true end
    for _, module in ipairs { "lua/cueball/pool/options.lua", "lua/cueball/connection/tcp.lua", "lua/cueball/pool/claim.lua" } do
      for name in shell.text_of(module):gmatch "\n%s+([%l_]+) = " do known[name] = true end
    end
    local fields = {}
    for _, one in ipairs(native.layout) do fields[one.member] = true end
    for name in page:gmatch "`(%l[%l_]*_ms)`" do assert.is_true(known[name] or fields[name], name) end
  end)
end)
