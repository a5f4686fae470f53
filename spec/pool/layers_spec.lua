--- Who may do what to a pool: one file calls its core. The checker is first fed what it must refuse.
local source = require "spec.support.source"
local read, files, line_number, strip_lua = source.read, source.files, source.line_number, source.strip_lua

-- ---------------------------------------------------------- Lua: one door to the core --

local DOOR = "lua/cueball/pool/core.lua"

--- Where the Lua text names a function of the pool's core: a list of "line: name". Types, in strings, are no functions.
local function core_call_violations(text)
  local code = strip_lua(text)
  local found = {}
  for position, name in code:gmatch "()%f[%w_](cueball_[%l_]+)%f[^%w_]" do
    if name:find "^cueball_pool_" or name == "cueball_owner_gone" then
      found[#found + 1] = ("%d: %s"):format(line_number(code, position), name)
    end
  end
  for position in text:gmatch '()%[%s*["\']cueball_pool_' do
    found[#found + 1] = ("%d: a name in brackets"):format(line_number(text, position))
  end
  for position in text:gmatch '()["\']cueball_pool_["\']%s*%.%.' do
    found[#found + 1] = ("%d: a name that is put together"):format(line_number(text, position))
  end
  return found
end

describe("the check of who calls the pool's core", function()
  it("refuses its functions, however they are named", function()
    assert.same({ "1: cueball_pool_stats" }, core_call_violations "lib.cueball_pool_stats(pool.pointer, room)")
    assert.same({ "2: cueball_pool_claim" }, core_call_violations 'local x\nlocal claim = require("cueball.native").lib.cueball_pool_claim')
    assert.same({ "1: cueball_owner_gone" }, core_call_violations "C.cueball_owner_gone(owner)")
    assert.same({ "1: a name in brackets" }, core_call_violations 'lib["cueball_pool_stats"](pool)')
    assert.same({ "1: a name that is put together" }, core_call_violations 'local name = "cueball_pool_" .. what')
  end)

  it("lets pass other functions, comments and names of types and metrics", function()
    assert.same({}, core_call_violations "-- cueball_pool_claim\nlib.cueball_tracker_free(t) lib.cueball_error_name(1) x.cueball_pooled()")
    assert.same({}, core_call_violations 'ffi.new "cueball_pool *[1]" text.gauge("cueball_pool_connections")')
  end)
end)

describe("the Lua modules but the door", function()
  it("call no function of the pool's core", function()
    local found, count = {}, 0
    for _, path in ipairs(files("lua/cueball", "*.lua")) do
      for _, violation in ipairs(path == DOOR and {} or core_call_violations(read(source.root .. "/" .. path))) do
        found[#found + 1] = path .. ":" .. violation
      end
      count = count + 1
    end
    assert.is_true(count > 0, "no files in lua/cueball")
    assert.same({}, found)
  end)
end)
