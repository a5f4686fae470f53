--- context.secret and context.hide: what a connection factory asks for is shown nowhere. In virtual time.
local cueball = require "cueball"
local monitor = require "cueball.monitor"
local secrets = require "cueball.pool.secrets"
local sim_pool = require "spec.support.sim_pool"
local with = require "spec.support.with"

local RECOVERY = { default = { attempts = 2, timeout_ms = 200, delay_ms = 100, max_delay_ms = 100, spread = 0 } }
local NOT_SHOWN = " (the rest is not shown: a secret may be in it)"

local town

-- A factory that asks for a secret, and then does what `after` says with it; a function that returns nothing connects.
local function factory(given, after, members)
  local tcp = cueball.connection.tcp {}
  return with({
    connect = function(backend, context)
      local value, message = context.secret("token", given)
      if not value then return nil, message end
      local ok, why = after(value, context)
      if ok == false then return nil, why end
      return tcp.connect(backend, context)
    end,
    close = tcp.close,
  }, members)
end

local function open(connect, more)
  town = sim_pool.new {}
  return town:open({ max_connections = 1, connect = connect, recovery = RECOVERY, claim_timeout_ms = 500 }, more)
end

-- All that a pool tells people: its log with all levels, errors, events, the monitor.
local function told(pool, events, more)
  local parts = { pool:last_error() or "", tostring(pool), monitor.json(), monitor.openmetrics(), more or "" }
  for _, one in ipairs(town.world.logs) do parts[#parts + 1] = one.level .. ": " .. one.message end
  for _, list in ipairs { pool:backends(), events } do
    for _, record in ipairs(list) do
      for name, value in pairs(record) do parts[#parts + 1] = name .. "=" .. tostring(value) end
    end
  end
  return table.concat(parts, "\n")
end

local function note_events(pool)
  local events = {}
  pool:subscribe(function(event) events[#events + 1] = event end)
  return events
end

after_each(function()
  if town then town:stop() end
  town = nil
end)

describe("context.secret", function()
  it("returns the text that it is given, or what the function returns, at each connect", function()
    local seen, count = {}, 0
    local function token(backend, context)
      count = count + 1
      town.world.sleep(10)
      return ("%s-%d of %s"):format(context.attempt, count, backend.key)
    end
    local pool = open(factory(token, function(value) seen[#seen + 1] = value end))
    town:advance(50)
    pool:renew { over_ms = 0 }
    town:advance(50)
    assert.same({ "1-1 of db1", "1-2 of db1" }, seen)
    open(factory("fixed", function(value) seen[3] = value end))
    town:advance(50)
    assert.equal("fixed", seen[3])
  end)

  it("called with a colon is told so, as the name would be taken for the secret", function()
    local pool = open(function(_, context)
      local password = context:secret("password", "x")
      return password
    end)
    town:advance(150)
    assert.matches("secrets_spec.lua:%d+: context.secret: expected a name, got a table; it is called with a dot", pool:last_error())
  end)

  it("says why there is none", function()
    for _, case in ipairs {
      { function() error("sealed", 0) end, "token: its function threw: sealed" },
      { function() return nil, "no such key" end, "token: no such key" },
      { function() end, "token: its function returned nothing" },
      { function() return 7777777 end, "token: its function must return a string, not a number" },
      { 7777777, "token: it must be a string or a function, not a number" },
      { nil, "token: it must be a string or a function, not nil" },
    } do
      local pool = open(factory(case[1], function() end))
      town:advance(50)
      assert.equal("db1: " .. case[2], pool:last_error())
      town:stop()
    end
    town = nil
  end)

  it("closes what was connected before it, if the attempt's time is up meanwhile", function()
    local count = 0
    town = sim_pool.new { on_connect = function() count = count + 1 end, on_close = function() count = count - 1 end }
    local pool = town:open { max_connections = 1, recovery = RECOVERY, connect = function(_, context)
      local client = { sock = context.host.tcp() }
      client.connect = function(self, ...) return self.sock:connect(...) end
      context.connect(client)
      return context.secret("token", function() town.world.sleep(1e6) end)
    end }
    town:advance(100)
    assert.equal(1, count)
    town:advance(150)
    assert.equal(0, count)
    assert.equal("db1: the attempt took too long", pool:last_error())
  end)
end)

describe("a secret that was asked for", function()
  local SECRET = "SESAMEOPEN\nYOU"

  -- What goes wrong in a factory: one function each, of the secret and the context; `members` of the factory besides.
  local CASES = {
    ["in the error of an attempt"] = { function(value) return false, "refused: " .. value .. " is wrong" end },
    ["shortened by the server"] = { function(value) return false, "refused: " .. value:sub(1, 8) .. "…" end },
    ["in what connect throws"] = { function(value) error("refused: " .. value, 0) end },
    ["in a line that the factory logs"] = { function(value, context)
      context.log("warn", "refused: sent " .. value)
      context.log("warn", "two lines\nrefused: " .. value, true)
    end },
    ["in what a check says"] = { function() end, { check = function() return false, "refused: SESAMEOPEN" end } },
    ["in what a check throws"] = { function() end, { check = function() error "refused: SESAMEOPEN" end } },
    ["in what broken says"] = { function() end, { broken = function() return "refused: SESAMEOPEN", "lost" end } },
    ["as the kind"] = { function() end, { broken = function() return "refused", "SESAMEOPEN" end } },
  }

  for where, case in pairs(CASES) do
    it("is shown nowhere, " .. where, function()
      local pool = open(factory(function() return SECRET end, case[1], case[2]), { check_interval_ms = 20 })
      local events = note_events(pool)
      town:advance(10)
      town:claim "bob"
      town:advance(10)
      if town.leases.bob then town.leases.bob:release() end
      town:advance(1000)
      local all = told(pool, events, town.refused)
      assert.is_nil(all:find("SESAME", 1, true), all)
      assert.is_truthy(all:find("refused", 1, true), all)
    end)
  end

  it("is shown nowhere by a lease that fails, nor by what its claimer is told, nor by explain", function()
    local pool = open(factory(SECRET, function() end))
    local events = note_events(pool)
    town:run(function()
      local lease = pool:claim()
      local text = lease:explain()
      lease:fail "the server said SESAMEOPEN"
      assert.is_nil(text:find("SESAME", 1, true))
    end)
    assert.equal("db1: the server said" .. NOT_SHOWN, pool:last_error()) -- the secret goes on
    assert.is_nil(told(pool, events):find("SESAME", 1, true))
  end)

  it("is not looked for if it is so short that many messages have it by chance", function()
    local pool = open(factory("re", function() return false, "it refused" end))
    town:advance(50)
    assert.equal("db1: it refused", pool:last_error())
  end)

  it("may be a word of any message: the rest is told", function()
    local pool = open(factory("password", function() return false, 'password authentication failed for user "ann"' end))
    town:advance(50)
    assert.equal('db1: *** authentication failed for user "ann"', pool:last_error())
  end)

  it("that is the beginning of another, or is in it, does not show the rest of that", function()
    local shown
    local tcp = cueball.connection.tcp {}
    open { close = tcp.close, connect = function(backend, context)
      for name, value in pairs { one = "open", other = "open sesame 1234", third = "same", fourth = "a%d+(" } do
        context.secret(name, value)
      end
      shown = context.hide "it said open sesame 1234, open, same, a%d+( and open sesame"
      return tcp.connect(backend, context)
    end }
    town:advance(50)
    assert.equal("it said ***, ***, ***, *** and" .. NOT_SHOWN, shown)
  end)

  it("is forgotten with its connection", function()
    local count = 0
    local pool = open(factory(function()
      count = count + 1
      return ("%04dSESAME"):format(count)
    end, function() end), { max_connections = 3 })
    for _ = 1, 20 do
      pool:renew { over_ms = 0 }
      town:advance(50)
    end
    assert.equal(63, count)
    assert.equal(3, secrets.count(pool))
  end)

  it("can be hidden in what the factory tells claimers", function()
    local shown
    open(factory(SECRET, function(value, context)
      shown = {
        context.hide("it said " .. value .. ", again"), context.hide "it said SESAMEOPEN", context.hide "all is well", context.hide(7),
      }
    end))
    town:advance(50)
    assert.same({ "it said ***, again", "it said" .. NOT_SHOWN, "all is well", "7" }, shown)
  end)
end)

describe("context.log", function()
  it("with a level that there is not is told so, at the factory's line", function()
    local pool = open(function(_, context)
      context.log("warning", "all is well")
      return true
    end)
    town:advance(150)
    assert.matches('secrets_spec.lua:%d+: context.log: the level must be "debug", "info", "warn" or "error", not "warning"',
      pool:last_error())
  end)
end)
