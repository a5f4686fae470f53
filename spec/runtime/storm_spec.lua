--- Random scripts under load, in virtual time: pools come and go, options, resolvers and factories change, scripts fail or are tried out.
-- No lease is lost, no claim stays without an answer, and what was not changed is untouched. CUEBALL_STORM is how many seeds there are.
local ffi = require("cueball.native").ffi
local script = require "cueball.runtime.script"
local sim = require "cueball.host.sim"

local SEEDS = tonumber(os.getenv "CUEBALL_STORM") or 25
local NAMES = { "a", "b", "c", "d" }
local ANSWERS = { claim_timeout = true, pool_stopping = true, no_backends = true, pool_failed = true, overloaded = true }

local RESOLVERS = {
  "static { %s }", "function(sink) sink:set { %s } end",
  "function(sink) for _, one in ipairs { %s } do sink:add(one) end sink:complete() end",
  "cueball.resolver.poll { interval_ms = 50, step = function() return { %s } end }",
}
local FACTORIES = {
  "tcp {}", "tcp { read_timeout_ms = 70 }", "tcp { connect_timeout_ms = 90 }", "function(...) return connect(...) end",
  "{ made_of = 1, fits = function() return true end, connect = connect }",
}

local Storm = {}
Storm.__index = Storm

local function whole(self, low, high) return math.floor(self.world.random(low, high + 1 - 1e-9)) end

local function pick(self, list) return list[whole(self, 1, #list)] end

local function random_servers(self)
  local list = {}
  for number = 1, 4 do
    if self.world.random() < 0.6 then list[#list + 1] = ("%q"):format("10.0.0." .. number .. ":80") end
  end
  return #list > 0 and table.concat(list, ", ") or '"10.0.0.1:80"'
end

local function random_declaration(self)
  return {
    max = whole(self, 1, 6), spares = self.world.random() < 0.5 and whole(self, 1, 6) or nil,
    resolver = pick(self, RESOLVERS):format(random_servers(self)), connect = pick(self, FACTORIES),
  }
end

-- What the next script declares: that of the last one, with a few changes. By name.
local function random_change(self)
  local next_one = {}
  for name, one in pairs(self.declared) do
    next_one[name] = { max = one.max, spares = one.spares, resolver = one.resolver, connect = one.connect }
  end
  for _ = 1, whole(self, 0, 3) do
    local name, how = pick(self, NAMES), self.world.random()
    local one = next_one[name]
    if not one or how < 0.15 then
      next_one[name] = not one and random_declaration(self) or nil
    else
      local other, field = random_declaration(self), pick(self, { "max", "spares", "resolver", "connect" })
      one[field] = other[field]
    end
  end
  return next_one
end

local HEAD = [[
local cueball = require "cueball"
local tcp, static = cueball.connection.tcp, cueball.resolver.static
local count = 0
local function connect(backend, context)
  local socket = context.host.tcp()
  count = count + 1
  local ok, message = socket:connect(backend.address, backend.port)
  return ok and socket or nil, message
end
cueball.spawn(function() while true do cueball.sleep(50) count = count + 1 end end) -- a script takes less time until it has returned
]]

local DECLARATION = "cueball.pool { name = %q, max_connections = %d, spares = %s, drain_timeout_ms = 3600000,"
  .. " resolver = %s, connect = %s }\n"

local function text_of(self, declared)
  local parts = { HEAD, ("-- %d\n"):format(whole(self, 1, 1e6)) }
  for _, name in ipairs(NAMES) do
    local one = declared[name]
    if one then
      parts[#parts + 1] = DECLARATION:format(name, one.max, tostring(one.spares), one.resolver, one.connect)
    end
    if self.world.random() < 0.1 then parts[#parts + 1] = "cueball.sleep(3)\n" end
  end
  return table.concat(parts)
end

-- What stays the same in a pool that is not touched.
local function state_of(self)
  local found = {}
  for name in pairs(self.declared) do
    local pool = assert(self.loaded:pool(name))
    found[name] = { pool = pool, sink = pool.sink, factory = pool.factory, max = pool.given.max_connections, spares = pool.given.spares }
  end
  return found
end

local function check_pool(pool)
  local words = ffi.new "char[512]"
  if pool.core:check(words, 512) ~= 0 then error(pool.name .. ": " .. ffi.string(words)) end
end

local function check_all(self)
  for _, pool in ipairs(self.pools) do check_pool(pool) end
  local names = {}
  for _, name in ipairs(NAMES) do names[#names + 1] = self.declared[name] and name end
  assert.same(names, self.loaded:names())
end

-- The pools are what the script says, and what it says as before is as before.
local function check_success(self, before, declared)
  local after = state_of(self)
  for name, one in pairs(declared) do
    local was, now, known = before[name], after[name], self.declared_before[name]
    assert.equal(one.max, now.max)
    assert.equal(one.spares, now.spares)
    if known then
      assert.equal(was.pool, now.pool)
      assert.equal(known.resolver == one.resolver, was.sink == now.sink, name .. ": resolver")
      assert.equal(known.connect == one.connect, was.factory == now.factory, name .. ": factory")
    end
    if not was or was.pool ~= now.pool then self.pools[#self.pools + 1] = now.pool end
  end
end

local MISTAKES = { "error 'oops'", "x =", "cueball.pool { name = 'z' }", "cueball.sleep(1e6)", "cueball.sleep(1) error {}" }

local function reload(self)
  local before, declared, how = state_of(self), random_change(self), self.world.random()
  local text = text_of(self, declared)
  if how < 0.2 then text = text .. pick(self, MISTAKES) end
  local is_dry = how > 0.2 and how < 0.35
  local report, message = self.loaded:reload { text = text, dry_run = is_dry }
  assert.equal(how >= 0.2, report ~= nil, message)
  if report and not is_dry then
    self.declared_before, self.declared = self.declared, declared
    check_success(self, before, declared)
    self.counts.done = self.counts.done + 1
  else
    assert.same(before, state_of(self))
    self.counts.undone = self.counts.undone + 1
  end
  check_all(self)
end

-- Claims again and again, whatever pools there are.
local function claimer(self)
  local world, counts = self.world, self.counts
  while not self.is_over do
    world.sleep(world.random(0, 20))
    local pool = self.loaded:pool(pick(self, NAMES))
    if pool then
      counts.claims = counts.claims + 1
      local lease, _, name = pool:claim { timeout_ms = world.random(1, 200) }
      counts.answers = counts.answers + 1
      if lease then
        world.sleep(world.random(0, 60))
        assert.is_truthy(lease.connection)
        local ok, why = lease:release()
        assert.is_true(ok, why)
        counts.leases = counts.leases + 1
      else
        assert.is_true(ANSWERS[name], name)
      end
    end
  end
end

local function storm(world)
  for number = 1, 4 do world.server("10.0.0." .. number, 80) end
  world.faults { refuse = 0.05, hang = 0.02, slow = 0.1, slow_ms = 20 }
  local self = setmetatable({
    world = world, declared = {}, declared_before = {}, pools = {}, is_over = false,
    counts = { claims = 0, answers = 0, leases = 0, done = 0, undone = 0 },
  }, Storm)
  self.declared = { a = random_declaration(self), b = random_declaration(self) }
  world.run(function()
    self.loaded = assert(script.load { text = text_of(self, self.declared), host = world, limit_ms = 100 })
    for _, one in pairs(state_of(self)) do self.pools[#self.pools + 1] = one.pool end
    local left, done = 8, world.waiter()
    for _ = 1, left do
      world.spawn(function()
        claimer(self)
        left = left - 1
        if left == 0 then done:wake() end
      end)
    end
    for _ = 1, 20 do
      world.sleep(world.random(0, 150))
      reload(self)
    end
    local is_last_asked = world.random() < 0.5
    if is_last_asked then
      world.spawn(function() self.loaded:reload { text = text_of(self, random_change(self)) .. "cueball.sleep(20)" } end)
    end
    self.is_over = not is_last_asked
    self.loaded:stop { drain_timeout_ms = 3600000 }
    self.is_over = true
    if left > 0 then done:wait() end
  end)
  world.settle()
  assert.equal(self.counts.claims, self.counts.answers)
  for _, pool in ipairs(self.pools) do assert.equal("stopped", pool:state()) end
  world.check { errors = "cueball %a: failed" }
  return self.counts
end

describe("scripts that are loaded anew under load", function()
  it("lose no lease, answer every claim, and leave alone what has not changed", function()
    local total = { claims = 0, answers = 0, leases = 0, done = 0, undone = 0 }
    sim.for_seeds(SEEDS, function(world)
      for name, count in pairs(storm(world)) do total[name] = total[name] + count end
    end)
    if os.getenv "CUEBALL_SEED" then return end -- one alone
    assert.is_true(total.leases > 50 * SEEDS and total.done > 5 * SEEDS and total.undone > 2 * SEEDS,
      ("%d leases, %d reloads, %d undone"):format(total.leases, total.done, total.undone))
  end)
end)
