--- docs/reference.md, everything by name: neither lacks what the other has. The code is asked for its names; each checker is first fed
-- what it must refuse.
local ffi = require "ffi"
local cueball = require "cueball"
local native = require "cueball.native"
local options = require "cueball.options"
local shell = require "spec.support.shell"
local sim = require "cueball.host.sim"

local page = shell.text_of "docs/reference.md"

-- ------------------------------------------------------------------ the page --

local function section(title)
  return assert(page:match("\n## " .. title .. "\n(.-)\n## ") or page:match("\n## " .. title .. "\n(.*)$"), title .. ": no such section")
end

-- The names that rows of a section's tables begin with, as links or in code, as a set; and what stands in the second cell of each.
local function rows_of(text)
  local names, cells = {}, {}
  for row in text:gmatch "\n(|[^\n]*)" do
    local first, second = row:match "^| (.-) | (.-) |"
    for name in (first or ""):gmatch "%[([^%]]+)%]%(" do names[name], cells[name] = true, second end
    for name in (first or ""):gsub("%[[^%]]+%]%([^)]*%)", ""):gmatch "`([^`]+)`" do names[name], cells[name] = true, second end
  end
  return names, cells
end

-- What one has and the other lacks, as sentences.
local function differences(there, wanted)
  local list = {}
  for name in pairs(wanted) do
    if not there[name] then list[#list + 1] = "the page lacks " .. name end
  end
  for name in pairs(there) do
    if not wanted[name] then list[#list + 1] = "the code lacks " .. name end
  end
  table.sort(list)
  return list
end

local function set_of(names)
  local set = {}
  for name in names:gmatch "%S+" do set[name] = true end
  return set
end

-- ------------------------------------------------------------------ the code --

-- Methods that are for modules of our own.
local OWN = {
  pool = set_of [[call cause clean cleaning_ms counts guarded hand_over input inspect inspect_closed inspect_plain log
    max_connections new new_for prepare pump read refusal replace_for set_for take tell unfit waits]],
  log = set_of "tell say flush",
  set = set_of "new new_for notice read",
}

local function add(into, prefix, object, own)
  for name, value in pairs(object) do
    if type(value) == "function" and not name:find "^_" and not (own and own[name]) then into[prefix .. name] = true end
  end
end

local function files(folder)
  local names = {}
  for name in shell.must(("cd '%s/lua/cueball/%s' && ls"):format(shell.root, folder)):gmatch "[^\n]+" do
    names[#names + 1] = name:gsub("%.lua$", "")
  end
  return names
end

-- Parts of modules that are no function for users.
local PARTS = set_of "sink limits tls"

local function add_modules(into, folder)
  for _, name in ipairs(files(folder)) do
    if not PARTS[name] then into[("cueball.%s.%s"):format(folder, name)] = true end
  end
end

-- Objects of which the code makes one, with all their methods.
local function objects()
  local world, members = sim.new { seed = 1 }, {}
  local resolver = cueball.resolver.static { "10.0.0.1:80" }
  local pool = cueball.pool { host = world, resolver = resolver, connect = function() return {} end }
  local set = cueball.set { host = world, resolver = resolver, connect = function() return {} end,
    added = function(member) members[1] = member end, removed = function() end }
  world.advance(1)
  local owner = pool:owner()
  local made = { set = getmetatable(set).__index, member = getmetatable(members[1]).__index, owner = getmetatable(owner).__index }
  if type(made.owner) == "function" then made.owner = { gone = owner.gone } end
  world.close()
  return made
end

local function functions()
  local into, made = {}, objects()
  add(into, "cueball.", cueball)
  for name in ("balancer native"):gmatch "%S+" do into["cueball." .. name] = true end
  add_modules(into, "resolver")
  add_modules(into, "connection")
  into["cueball.connection.native"] = nil -- it is cueball.native
  add(into, "pool:", require "cueball.pool", OWN.pool)
  add(into, "lease:", require("cueball.pool.lease").methods)
  add(into, "owner:", made.owner)
  add(into, "set:", made.set, OWN.set)
  add(into, "member:", made.member)
  add(into, "monitor.", require "cueball.monitor")
  add(into, "log.", cueball.log or {}, OWN.log)
  for name in ("listen serve"):gmatch "%S+" do
    if shell.run(("test -e '%s/lua/cueball/console/%s.lua' && echo yes"):format(shell.root, name)) == "yes" then
      into["cueball.console." .. name] = true
    end
  end
  add(into, "cueball.cosocket.", require "cueball.cosocket")
  add(into, "script.", require "cueball.runtime.script")
  return into
end

-- ----------------------------------------------------------------- functions --

-- Fields, and what has its names from elsewhere: a connection of PostgreSQL, what script.load returns, a balancer, which needs nginx.
local NOT_ASKED = { "^cueball%.version$", "^pool%.name$", "^lease%.connection$", "^conn:", "^loaded:", "^balancer:", "^resolver:",
  "^cueball%.tls%." }

local function is_asked(name)
  for _, pattern in ipairs(NOT_ASKED) do
    if name:find(pattern) then return false end
  end
  return true
end

describe("docs/reference.md", function()
  it("has every public function, and no other", function()
    local there = {}
    for name in pairs((rows_of(section "Functions"))) do
      if is_asked(name) then there[name] = true end
    end
    assert.same({}, differences(there, functions()))
  end)

  it("would be caught lacking one, or with one too many", function()
    assert.same({ "the code lacks pool:borrow", "the page lacks pool:claim" },
      differences({ ["pool:borrow"] = true }, { ["pool:claim"] = true }))
    assert.same({ a = true, ["b:c"] = true }, (rows_of "\n| name | what |\n|---|---|\n| [a](x.md#a) | one |\n| `b:c` | two |\n"))
  end)

  -- What stands under the heading with this anchor, the heading too; nil: there is none.
  local function under(path, anchor)
    local text
    for line in shell.text_of("docs/" .. path):gmatch "[^\n]*" do
      local heading = line:match "^#+ (.*)"
      if heading and text then return text end
      if heading and heading:lower():gsub("[^%w%s_-]", ""):gsub("%s", "-") == anchor then text = "" end
      if text then text = text .. line .. "\n" end
    end
    return text
  end

  it("leads to where the function is told of", function()
    local count = 0
    for name, path, anchor in section("Functions"):gmatch "%[([^%]]+)%]%(([%w-]+%.md)#([^)]+)%)" do
      local found = under(path, anchor)
      assert.is_truthy(found and found:find(name:match "[%w_]+$", 1, true), name .. " leads to " .. path .. "#" .. anchor)
      count = count + 1
    end
    assert.is_true(count > 50)
    assert.is_nil(under("lua.md", "nowhere"))
  end)
end)

-- ------------------------------------------------------------------- options --

-- What options.check is asked to check while fn runs: { [what] = { option = true } }.
local function rules_of(fn)
  local seen, check, split = {}, options.check, options.split
  local function note(what, rules)
    seen[what] = seen[what] or {}
    for name in pairs(rules) do seen[what][name] = true end
  end
  options.check = function(what, given, rules)
    note(what, rules)
    return check(what, given, rules)
  end
  options.split = function(what, given, rules)
    note(what, rules)
    return split(what, given, rules)
  end
  fn()
  options.check, options.split = check, split
  return seen
end

-- Each public function that takes options is called with none, or with too few of them.
local function ask_all()
  local resolver, connection = cueball.resolver, cueball.connection
  for _, make in ipairs { resolver.poll, resolver.watch, resolver.file, resolver.shared, resolver.dns, connection.tcp, connection.redis,
    connection.postgres, connection.resty, require("cueball.runtime.script").load, cueball.tls and cueball.tls.context } do
    pcall(make, {})
  end
  pcall(connection.tcp, { tls = { verify = false } })
  pcall(resolver.from, "10.0.0.1:80", {})
  local world = sim.new { seed = 1 }
  local pool = cueball.pool { host = world, resolver = resolver.static { "10.0.0.1:80" }, connect = function() return {} end }
  world.run(function()
    pool:ready {}
    pool:renew {}
    pool:claim({}):release()
    pcall(function() resolver.dns({ domain = "x.example", host = world }):lookup {} end)
    for _, name in ipairs { "pause", "drain", "restore", "plan", "revoke", "ask_anew", "leases", "waiters" } do
      if pool[name] then pcall(pool[name], pool, {}) end
    end
    pool:stop()
  end)
  local log = cueball.log
  if log then
    log.to {}
    log.to()
    log.recent {}
    log.limit {}
    log.limit()
  end
  pcall(cueball.set, {})
  world.close()
end

local function core_options(of_set)
  local names = {}
  for _, option in ipairs(options.all()) do
    local name = option.name:match "^[%w_]+"
    names[name] = not of_set or nil
  end
  return names
end

describe("the options in docs/reference.md", function()
  local _, cells = rows_of(section "Options")

  -- Those that have rows of their own, as they are read in another way.
  local function wanted()
    local seen = rules_of(ask_all)
    seen["cueball.pool"] = seen["cueball.pool"] or {}
    for name in pairs(core_options()) do seen["cueball.pool"][name] = true end
    return seen
  end

  it("are those of each function that has some", function()
    local complaints, seen = {}, wanted()
    for what, names in pairs(seen) do
      local title = what:gsub(": option 'tls'$", " tls"):gsub("^script:", "loaded:")
      if next(names) and not cells[title] then
        complaints[#complaints + 1] = "the page lacks the options of " .. title
      elseif next(names) then
        local there = {}
        for name in cells[title]:gmatch "`([%w_]+)`" do there[name] = true end
        for _, line in ipairs(differences(there, names)) do complaints[#complaints + 1] = title .. ": " .. line end
      end
    end
    table.sort(complaints)
    assert.same({}, complaints)
  end)
end)

-- --------------------------------------------------- names of the core, metrics --

local lib = native.lib

local function names_of(name_of)
  local names, index = {}, 0
  while ffi.string(name_of(index)) ~= "unknown" do
    names[ffi.string(name_of(index))] = true
    index = index + 1
  end
  return names
end

local function errors()
  local names, index = {}, -1
  while ffi.string(lib.cueball_error_name(index)) ~= "unknown" do
    names[ffi.string(lib.cueball_error_name(index))] = true
    index = index - 1
  end
  return names
end

local function metrics()
  local names, world = {}, sim.new { seed = 1 }
  local pool = cueball.pool { host = world, resolver = cueball.resolver.static { "10.0.0.1:80" }, connect = function() return {} end }
  world.advance(100)
  for name in require("cueball.monitor").openmetrics():gmatch "# TYPE ([%w_]+)" do names[name] = true end
  pool:stop()
  world.close()
  return names
end

describe("the names in docs/reference.md", function()
  local function has(title, wanted)
    it("of " .. title:lower() .. " are those of the code", function()
      assert.is_not_nil(next(wanted))
      assert.same({}, differences((rows_of(section(title))), wanted))
    end)
  end

  has("Errors", errors())
  has("Events", names_of(lib.cueball_event_name))
  has("Causes", names_of(lib.cueball_cause_name))
  has("Reasons of a wait", names_of(lib.cueball_reason_name))
  has("Metrics", metrics())

  it("of states are those of the code", function()
    local wanted = names_of(lib.cueball_pool_state_name)
    for name in pairs(names_of(lib.cueball_slot_state_name)) do wanted[name] = true end
    assert.same({}, differences((rows_of(section "States")), wanted))
  end)

  it("of commands are those of the command", function()
    local wanted = {}
    for name in shell.text_of("lua/cueball/cli/init.lua"):match("local COMMANDS = {(.-)\n}"):gmatch 'name = "(%w+)"' do
      wanted["cueball " .. name] = true
    end
    assert.same({}, differences((rows_of(section "Commands")), wanted))
  end)

  it("of the environment are those that are asked for", function()
    local wanted = { CUEBALL_LOG = true }
    local command = "cd '%s' && grep -rhoE '(getenv|environment) *\\(?\"CUEBALL_[A-Z_]+' lua src | grep -oE 'CUEBALL_[A-Z_]+' | sort -u"
    for name in shell.must(command:format(shell.root)):gmatch "[^\n]+" do wanted[name] = true end
    assert.same({}, differences((rows_of(section "Environment")), wanted))
  end)

  it("of headers are those that are installed", function()
    local wanted = {}
    for name in shell.must(("ls '%s/src/include'"):format(shell.root)):gmatch "[^\n]+" do wanted[name] = true end
    assert.same({}, differences((rows_of(section "C")), wanted))
  end)
end)
