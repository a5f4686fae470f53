--- Who may do what to a pool: one file calls its core. The checker is first fed what it must refuse.
local source = require "spec.support.source"
local read, files, line_number, strip_lua = source.read, source.files, source.line_number, source.strip_lua

local function set_of(words)
  local set = {}
  for word in words:gmatch "%S+" do set[word] = true end
  return set
end

-- ---------------------------------------------------------- Lua: one door to the core --

local DOOR = "lua/cueball/pool/core.lua"

--- Where the Lua text names a function of the pool's core: a list of "line: name". Types, in strings, are no functions; the names
-- of states are no pool's.
local function core_call_violations(text)
  local code = strip_lua(text)
  local found = {}
  for position, name in code:gmatch "()%f[%w_](cueball_[%l_]+)%f[^%w_]" do
    if name:find "^cueball_pool_" and name ~= "cueball_pool_state_name" or name == "cueball_owner_gone" or name == "cueball_set_new" then
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

-- ------------------------------------------------- Lua: mistakes are raised in one way --

-- Where an error says itself at which level it is: what stands in for functions of ngx_lua's, and what a host has of its own.
local RAISES_ITSELF = { "^lua/cueball/host/", "^lua/cueball/cosocket/", "^lua/cueball/nginx/", "^lua/cueball/cli/" }

-- Who counts the levels of a stack for what they do.
local COUNTS_LEVELS = set_of "lua/cueball/misuse.lua lua/cueball/pool/reach.lua lua/cueball/host/task.lua"

--- Where the Lua text counts how far away its caller is: a list of "line: what".
local function level_violations(text)
  local code = strip_lua(text)
  local found = {}
  for position, arguments in code:gmatch "%f[%w_.]error()%s*(%b())" do
    local level = arguments:match ",%s*([%w_ +]+)%)$"
    if level and level ~= "0" then found[#found + 1] = ("%d: error at level %s"):format(line_number(code, position), level) end
  end
  return found
end

--- Where the Lua text passes on how far away its caller is: a list of "line: …".
local function passing_violations(text)
  local code = strip_lua(text)
  local found = {}
  for position in code:gmatch "[,(]%s*()level%s*%+%s*%d" do
    found[#found + 1] = ("%d: passes a level on"):format(line_number(code, position))
  end
  return found
end

describe("the check of how mistakes are raised", function()
  it("refuses levels", function()
    assert.same({ "1: error at level 2" }, level_violations 'error("no", 2)')
    assert.same({ "2: error at level level" }, level_violations 'options.check(what, given)\nerror(("%s"):format(x), level)')
    assert.same({ "1: passes a level on" }, passing_violations "options.check(what, given, RULES, level + 1)")
  end)

  it("lets pass what blames nobody, and what is caught here", function()
    assert.same({}, level_violations "error((...), 0) error(message) misuse.raise(message) pool:log(level, text)")
  end)
end)

describe("the Lua modules", function()
  it("raise mistakes with misuse.raise", function()
    local found = {}
    for _, path in ipairs(files("lua/cueball", "*.lua")) do
      local text, is_exempt = read(source.root .. "/" .. path), false
      for _, pattern in ipairs(RAISES_ITSELF) do is_exempt = is_exempt or path:find(pattern) ~= nil end
      for _, violation in ipairs(is_exempt and {} or level_violations(text)) do found[#found + 1] = path .. ":" .. violation end
      for _, violation in ipairs(COUNTS_LEVELS[path] and {} or passing_violations(text)) do found[#found + 1] = path .. ":" .. violation end
    end
    assert.same({}, found)
  end)
end)
