--- The manual says what is so: names, numbers and tables in README.md and docs/ are compared with the code.
-- Each checker is first fed what it must refuse.
local manual = require "spec.support.manual"
local native = require "cueball.native"
local options = require "cueball.options"
local shell = require "spec.support.shell"
local lib, ffi = native.lib, native.ffi
local NO_STATS = { [""] = true, struct_size = true, reserved = true }

local read, blocks_of, without_blocks = shell.text_of, manual.blocks_of, manual.without_blocks

-- ----------------------------------------------------------------- reading pages --

--- The names in code quotes of a text, as a set.
local function quoted_names(text)
  local names = {}
  for name in without_blocks(text):gmatch "`([^`\n]+)`" do
    names[name] = true
    for part in name:gmatch "[%w_.]+" do names[part] = true end
  end
  return names
end

--- Rows of all tables: lists of cells.
local function rows_of(text)
  local rows = {}
  for line in without_blocks(text):gmatch "\n%s*|([^\n]*)|" do
    local cells = {}
    for cell in (line .. "|"):gmatch "%s*(.-)%s*|" do cells[#cells + 1] = cell end
    rows[#rows + 1] = cells
  end
  return rows
end

local function missing_from(names, wanted)
  local missing = {}
  for _, name in ipairs(wanted) do
    if not names[name] then missing[#missing + 1] = name end
  end
  return missing
end

-- -------------------------------------------------------------------- the README --

local function first_lua_block(text)
  for _, block in ipairs(blocks_of(text)) do
    if block.language == "lua" then return block.text end
  end
end

describe("README.md", function()
  it("shows examples/readme.lua as it is", function()
    assert.equal(read "examples/readme.lua", first_lua_block(read "README.md"))
  end)

  it("would be caught with another block", function()
    assert.equal("a\nb\n", first_lua_block "x\n```sh\nls\n```\n```lua\na\nb\n```\n")
    assert.not_equal(read "examples/readme.lua", first_lua_block((read "README.md":gsub("hello", "hullo"))))
  end)
end)

-- ----------------------------------------------------------------------- options --

local KIND = { [0] = "whole number", "number", "number", nil, "number per second" }

-- The cells that the manual must have for an option: range, default.
local function cells_for(option)
  if option.choices then
    return "`" .. table.concat(option.choices, "`, `") .. "`", "`" .. option.choices[option.initial + 1] .. "`"
  end
  local range = ("%s, %.15g to %.15g"):format(KIND[option.kind], option.min, option.max)
  local may_be_false = option.may_be_none or option.kind == tonumber(lib.CUEBALL_OPTION_DURATION) and option.min == 0
  if may_be_false then range = range .. ", or `false`" end
  return range, option.initial == math.huge and "`false`" or ("%.15g"):format(option.initial)
end

--- What a page says of the core's options against what they are: list of complaints.
local function option_complaints(text, all)
  local rows, complaints = {}, {}
  for _, cells in ipairs(rows_of(text)) do
    local name = cells[1]:match "^`([%w_.]+)`$"
    if name and #cells == 4 then rows[name] = rows[name] or cells end
  end
  for _, option in ipairs(all) do
    local row = rows[option.name] or rows[option.name:gsub("^recovery%.%l+%.", "recovery.OPERATION.")]
    local range, default = cells_for(option)
    if not row then
      complaints[#complaints + 1] = option.name .. ": not there"
    else
      if row[2] ~= range then complaints[#complaints + 1] = ("%s: range %s, is %s"):format(option.name, row[2], range) end
      if row[3] ~= default then complaints[#complaints + 1] = ("%s: default %s, is %s"):format(option.name, row[3], default) end
    end
  end
  return complaints
end

describe("docs/lua.md", function()
  local text = read "docs/lua.md"

  it("has every option of the core with its range and default", function()
    assert.same({}, option_complaints(text, options.all()))
  end)

  it("would be caught with a wrong range, a wrong default, an option left out", function()
    local max = options.all()[1]
    assert.equal("max_connections", max.name)
    assert.same({ "max_connections: not there" }, option_complaints("", { max }))
    assert.same({ "max_connections: range whole number, 0 to 1000000, is whole number, 1 to 1000000" },
      option_complaints("\n| `max_connections` | whole number, 0 to 1000000 | 10 | x |", { max }))
    assert.same({ "max_connections: default 11, is 10" },
      option_complaints("\n| `max_connections` | whole number, 1 to 1000000 | 11 | x |", { max }))
  end)

  local function stats_fields()
    local fields = { "memory_bytes" }
    for _, one in ipairs(native.layout) do
      if one.type == "cueball_stats" and not NO_STATS[one.member] then fields[#fields + 1] = one.member end
    end
    return fields
  end

  -- Those of the section about pool:stats() only: "idle" is many things.
  local function stats_section(page)
    return "\n" .. assert(page:match "\n### pool:stats%(%)(.-)\n## ")
  end

  it("explains every field of pool:stats()", function()
    assert.is_true(#stats_fields() > 40)
    assert.same({}, missing_from(quoted_names(stats_section(text)), stats_fields()))
  end)

  it("would be caught without one", function()
    assert.same({ "total" }, missing_from(quoted_names(stats_section((text:gsub("`total`", "`sum`")))), stats_fields()))
  end)

  local function names_of(name_of)
    local names, index = {}, 0
    while ffi.string(name_of(index)) ~= "unknown" do
      names[#names + 1] = ffi.string(name_of(index))
      index = index + 1
    end
    return names
  end

  local function event_rows(page)
    local names = {}
    for _, cells in ipairs(rows_of(page)) do names[cells[1]:match "^`([%w_]+)`$" or 0] = true end
    return names
  end

  it("has every kind of event in a table", function()
    local kinds = names_of(lib.cueball_event_name)
    assert.equal(28, #kinds)
    assert.same({}, missing_from(event_rows(text), kinds))
    assert.same({ "backend_dead" }, missing_from(event_rows((text:gsub("`backend_dead`", "`backend_gone`"))), kinds))
  end)

  it("has every cause, slot state, pool state and error by name", function()
    local names = quoted_names(text)
    local causes = names_of(lib.cueball_cause_name)
    assert.equal(26, #causes)
    assert.same({}, missing_from(names, causes))
    assert.same({}, missing_from(names, names_of(lib.cueball_slot_state_name)))
    assert.same({}, missing_from(names, names_of(lib.cueball_pool_state_name)))
    assert.same({ "unfit" }, missing_from(quoted_names((text:gsub("`unfit`", ""))), causes))
  end)

  it("has every reason of lease:explain(), each in a table", function()
    local reasons = names_of(lib.cueball_reason_name)
    assert.equal(13, #reasons)
    assert.same({}, missing_from(event_rows(text), reasons))
    assert.same({ "growing" }, missing_from(event_rows((text:gsub("\n| `growing`", "\n| growing"))), reasons))
  end)

  it("has every field of pool:backends()", function()
    local world = require("cueball.host.sim").new { seed = 1 }
    local pool = require("cueball").pool { host = world, connect = function() return nil, "down" end,
      resolver = require("cueball").resolver.static { "10.0.0.1:80" } }
    world.advance(1)
    local section = "\n" .. assert(text:match "\n### pool:backends%(%)(.-)\n### ")
    local fields = {}
    for field in pairs(pool:backends()[1]) do fields[#fields + 1] = field end
    assert.is_true(#fields >= 14)
    assert.same({}, missing_from(quoted_names(section), fields))
    pool:stop()
    world.close()
  end)

  it("has a heading for every method of a lease", function()
    for name, value in pairs(require("cueball.pool.lease").methods) do
      if type(value) == "function" and not name:find "^__" then
        assert.is_truthy(text:find("\n### lease:" .. name, 1, true), "lease:" .. name .. " has no heading")
      end
    end
  end)

  it("has a heading for every public function", function()
    local wanted = {}
    for name, value in pairs(require "cueball") do
      if type(value) == "function" then wanted[#wanted + 1] = "cueball." .. name end
    end
    for name in text:gmatch "\n### ([%w_.:]+)" do wanted[name] = nil end
    table.sort(wanted)
    for _, name in ipairs(wanted) do assert.is_truthy(text:find("\n### " .. name, 1, true), name .. " has no heading") end
    for _, name in ipairs { "claim", "try_claim", "with", "owner", "state", "stats", "backends", "last_error", "set", "replace",
      "stop", "subscribe" } do
      assert.is_function(require "cueball.pool"[name])
      assert.is_truthy(text:find("\n### pool:" .. name, 1, true), "pool:" .. name .. " has no heading")
    end
  end)
end)

describe("docs/sets.md", function()
  local text = read "docs/sets.md"
  local FOR_OUR_OWN = { new = true, new_for = true, read = true, notice = true } -- modules

  it("has a heading for every method of a set and its members", function()
    local cueball = require "cueball"
    local world = require("cueball.host.sim").new { seed = 1 }
    local members = {}
    local set = cueball.set { host = world, connect = function() return {} end, resolver = cueball.resolver.static { "10.0.0.1:80" },
      added = function(member) members[#members + 1] = member end, removed = function(member) member:release() end }
    world.advance(1)
    local headings = {}
    for line in text:gmatch "\n### ([^\n]*)" do headings[#headings + 1] = line end
    local all = table.concat(headings, "\n")
    for what, object in pairs { set = set, member = members[1] } do
      local count = 0
      for name, value in pairs(getmetatable(object).__index) do
        if type(value) == "function" and not FOR_OUR_OWN[name] and not name:find "^__" then
          count = count + 1
          assert.is_truthy(all:find(what .. ":" .. name .. "(", 1, true), what .. ":" .. name .. " has no heading")
        end
      end
      assert.is_true(count >= 3)
    end
    set:stop()
    world.close()
  end)
end)

-- ------------------------------------------------------------------------ the C API --

local function public_functions(header)
  local names = {}
  for declaration in header:gmatch "\nCUEBALL_API%s+([^;]-)%(" do names[#names + 1] = declaration:match "([%w_]+)$" end
  for name in header:gmatch "\nstatic inline void ([%w_]+)%(" do names[#names + 1] = name end
  return names
end

local function members_of(header, enum)
  local names = {}
  for name in assert(header:match("\ntypedef enum " .. enum .. " {(.-)\n}")):gmatch "\n%s*(CUEBALL_[%w_]+) =" do
    names[#names + 1] = name
  end
  return names
end

describe("docs/core.md", function()
  local text, header = read "docs/core.md", read "src/include/cueball_types.h" .. read "src/include/cueball.h"

  it("names every header, and says how many there are beside cueball.h", function()
    local headers = {}
    for name in shell.must(("ls '%s/src/include'"):format(shell.root)):gmatch "[^\n]+" do headers[#headers + 1] = name end
    assert.same({}, missing_from(quoted_names((text:gsub("%[src/include/cueball%.h%]", "`cueball.h`"))), headers))
    assert.equal(12, #headers)
    assert.is_truthy(text:find "There%s+are%s+eleven%s+more%s+headers")
    assert.same({ "cueball_new.h" }, missing_from(quoted_names(text), { "cueball_types.h", "cueball_new.h" }))
  end)

  it("names every public function", function()
    local names = public_functions(header)
    assert.equal(select(2, header:gsub("\nCUEBALL_API ", "")) + select(2, header:gsub("\nstatic inline ", "")), #names)
    assert.same({}, missing_from(quoted_names(text), names))
    assert.same({ "cueball_new_thing" }, missing_from(quoted_names(text), public_functions "\nCUEBALL_API int cueball_new_thing(int x);\n"))
  end)

  it("names every error, action and event", function()
    local names = quoted_names(text)
    for enum, count in pairs { cueball_error = 17, cueball_action_kind = 8, cueball_event_kind = 29, cueball_reason = 13 } do
      local members = members_of(header, enum)
      assert.equal(count, #members)
      assert.same({}, missing_from(names, members))
    end
  end)

  it("has no function that there is not", function()
    local known = {}
    for _, name in ipairs(public_functions(header)) do known[name] = true end
    for _, block in ipairs(blocks_of(text)) do
      if block.language == "c" then
        for name in block.text:gmatch "(cueball_[%w_]+)%(" do assert.is_true(known[name], name) end
      end
    end
  end)
end)

-- ----------------------------------------------------------------- the state machine --

--- Rows of design.md's table of a slot's transitions: "idle -> busy: claim" as a set.
local function transitions_of(text)
  local known = {}
  for _, cells in ipairs(rows_of(text)) do
    local from, to = cells[1]:match "^`(%l+)` → `(%l+)`$"
    if from then
      for cause in cells[2]:gmatch "`(%l+)`" do known[("%s -> %s: %s"):format(from, to, cause)] = true end
    end
  end
  return known
end

-- A short and eventful life of a pool: every transition that happens in it.
local function transitions_seen(seed)
  local cueball = require "cueball"
  local world = require("cueball.host.sim").new { seed = seed, faults = { refuse = 0.2, hang = 0.1, reset = 0.1 } }
  local seen = {}
  local keys = {}
  for i = 1, 4 do
    keys[i] = "10.0.0." .. i .. ":80"
    world.server("10.0.0." .. i, 80, { accept_then_close = 0.3, close_after = { 0, 300 } })
  end
  local tcp = cueball.connection.tcp {}
  local factory = {
    connect = tcp.connect, close = function(socket) if world.random() < 0.1 then world.sleep(500) end tcp.close(socket) end,
    check = function() if world.random() < 0.2 then world.sleep(1000) end return world.random() < 0.7 end,
    broken = tcp.broken, watch = tcp.watch, unwatch = tcp.unwatch,
  }
  local pool = cueball.pool {
    host = world, max_connections = 6, connect = factory, resolver = cueball.resolver.static { keys[1], keys[2] },
    check_interval_ms = 40, check_timeout_ms = 30, idle_timeout_ms = 100, max_lifetime_ms = 90, drain_timeout_ms = 50,
    rebalance_delay_ms = 5, recovery = { default = { timeout_ms = 30, delay_ms = 10, max_delay_ms = 40 } },
  }
  pool:subscribe(function(event)
    if event.kind == "slot_state" then seen[("%s -> %s: %s"):format(event.from, event.to, event.cause)] = true end
  end)
  local ends = { "release", "release", "release", "release", "close", "fail" }
  for _ = 1, 12 do
    world.spawn(function()
      while pool:state() ~= "stopped" do
        if world.random() < 0.2 then world.sleep(300) end
        local owner = world.random() < 0.2 and pool:state() ~= "stopping" and pool:owner() or nil
        local lease = pool:claim { timeout_ms = 50, owner = owner }
        world.sleep(world.random(0, 30))
        if owner then owner:gone() elseif lease then lease[ends[math.ceil(world.random(0, #ends))] or "release"](lease) end
        world.sleep(world.random(0, 60))
      end
    end)
  end
  world.spawn(function()
    for _ = 1, 60 do
      world.sleep(world.random(5, 60))
      if pool:state() == "stopping" then return end
      local how = world.random()
      if how < 0.5 then
        pool:set { max_connections = math.ceil(world.random(0.1, 8)) }
      else
        local list = {}
        for i = 1, 4 do if world.random() < 0.6 then list[#list + 1] = keys[i] end end
        pool:replace { resolver = cueball.resolver.static(list) }
      end
    end
  end)
  world.advance(1500)
  pool:stop()
  world.advance(2000)
  assert.equal("stopped", pool:state())
  world.close()
  return seen
end

describe("docs/design.md", function()
  local text = read "docs/design.md"

  it("has every transition of a slot that is ever seen, by name and cause", function()
    local known, strange = transitions_of(text), {}
    local count = 0
    for _ in pairs(known) do count = count + 1 end
    assert.is_true(count > 30)
    for seed = 1, 20 do
      for transition in pairs(transitions_seen(seed)) do
        if not known[transition] then strange[#strange + 1] = transition end
      end
    end
    assert.same({}, strange)
  end)

  it("would be caught without one", function()
    local known = transitions_of((text:gsub("\n| `idle` → `busy`[^\n]*", "")))
    assert.is_nil(known["idle -> busy: claim"])
    assert.is_true(transitions_of(text)["idle -> busy: claim"])
    assert.is_true(transitions_seen(1)["idle -> busy: claim"])
  end)
end)
