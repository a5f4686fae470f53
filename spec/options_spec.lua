--- Options: each by the core's own list, and mistakes raised at the caller's line.
local sim_pool = require "spec.support.sim_pool"
local cueball = require "cueball"
local options = require "cueball.options"
local native = require "cueball.native"
local with = require "spec.support.with"
local lib, ffi = native.lib, native.ffi

local world, connect, resolver

before_each(function()
  world, connect, resolver = sim_pool.new().world, sim_pool.factory(), function() end
end)

-- A pool with these options beside the required ones.
local function all(given)
  local complete = with({ host = world, connect = connect, resolver = resolver }, given)
  return complete
end

describe("options.read", function()
  it("gives what the core has by default", function()
    local default = ffi.new "cueball_options"
    lib.cueball_options_init_sized(default, ffi.sizeof(default))
    local read = options.read("x", {}, 1)
    assert.equal(ffi.string(default, ffi.sizeof(default)), ffi.string(read, ffi.sizeof(read)))
  end)

  it("writes each option in its place, at both ends of its range", function()
    local function place(cdata, option)
      local struct, name = cdata, option.name
      local operation, field = name:match "^recovery%.(%w+)%.([%w_]+)$"
      if operation then struct, name = cdata["recovery_" .. operation], field end
      if name:find "^outlier%." then struct, name = cdata.outlier, name:match "%.(.+)" end
      return tonumber(struct[name])
    end
    for _, option in ipairs(options.all()) do
      for _, value in ipairs { option.min, option.max } do
        -- max_… may not be below its start, which goes down with it.
        local given = {}
        local node, path, last = given, option.name:match "^(.-)([^.]+)$"
        for part in path:gmatch "[^.]+" do
          node[part] = {}
          node = node[part]
        end
        node[last] = option.choices and option.choices[value + 1] or value
        if last == "queue" then given.target_claim_delay_ms = 5 end -- without which there is no overload control
        local start = last:match "^max_(%w+_ms)$"
        if start and path ~= "" then node[start] = value end
        local follower = path:find "^recovery" and not last:match "^max_" and last:match "_ms$" and "max_" .. last
        if follower and value > option.initial then node[follower] = value end
        assert.equal(value, place(options.read("x", given, 1), option), option.name)
      end
      if option.may_be_none then
        assert.is_true(place(options.read("x", { [option.name] = false }, 1), option) >= 0xffffffff, option.name)
        assert.is_true(place(options.read("x", { [option.name] = math.huge }, 1), option) >= 0xffffffff, option.name)
      end
    end
  end)

  it("gives an operation what it leaves out from connect and default", function()
    local read = options.read("x", { recovery = {
      default = { attempts = 5, delay_ms = 7 }, connect = { delay_ms = 8, spread = 0.5 }, initial = { spread = 1 },
    } }, 1)
    local function four(recovery) return { recovery.attempts, recovery.delay_ms, recovery.spread, recovery.timeout_ms } end
    assert.same({ 5, 7, 0.2, 2000 }, four(read.recovery_default))
    assert.same({ 5, 8, 0.5, 2000 }, four(read.recovery_connect))
    assert.same({ 5, 8, 1, 2000 }, four(read.recovery_initial))
  end)

  it("has outlier = {} turned on, with what Envoy has by default", function()
    local function four(outlier) return { outlier.consecutive, outlier.interval_ms, outlier.ejection_ms, outlier.max_ejected } end
    local function read(outlier) return four(options.read("x", { outlier = outlier }, 1).outlier) end
    assert.same({ 0, 10000, 30000, 0.1 }, read(nil))
    assert.same({ 5, 10000, 30000, 0.1 }, read {})
    assert.same({ 5, 10000, 500, 0.1 }, read { ejection_ms = 500 })
    assert.same({ 2, 10000, 30000, 0.5 }, read { consecutive = 2, max_ejected = 0.5 })
    assert.same({ 0, 10000, 30000, 0.1 }, read { consecutive = 0 })
  end)

  it("takes fractions of milliseconds, and false for what is off", function()
    local read = options.read("x", { claim_timeout_ms = 0.5, idle_timeout_ms = false, check_interval_ms = false, max_waiters = false }, 1)
    assert.same({ 0.5, 0, 0, 0xffffffff }, { read.claim_timeout_ms, read.idle_timeout_ms, read.check_interval_ms, read.max_waiters })
  end)
end)

describe("recovery of a resolver's questions", function()
  it("is checked like the others and is not the core's", function()
    local cdata = options.read("it", { recovery = { default = { attempts = 7 }, dns = { attempts = 9 }, dns_srv = { timeout_ms = 5 } } }, 1)
    assert.equal(7, cdata.recovery_connect.attempts)
    assert.equal(7, cdata.recovery_default.attempts)
    local function raises(message, recovery)
      assert.blames("cueball.pool: " .. message, function() cueball.pool(all { recovery = recovery }) end)
    end
    raises("option 'recovery.dns.attempts' must be a whole number from 1 to 1000, not 0", { dns = { attempts = 0 } })
    raises("option 'recovery.dns_srv' must be a table, not 5", { dns_srv = 5 })
    raises("unknown option 'recovery.dns.attemps'; did you mean 'attempts'?", { dns = { attemps = 1 } })
    raises("option 'recovery.dns.max_delay_ms' must be at least delay_ms (100), not 1", { dns = { max_delay_ms = 1 } })
  end)
end)

describe("cueball.pool", function()
  it("names the option that is unknown, and the one that may be meant", function()
    local function raises(message, fn) assert.blames("cueball.pool: " .. message, fn) end
    assert.blames("cueball.pool: unknown option 'max_conections'; did you mean 'max_connections'?",
      function() cueball.pool(all { max_conections = 5 }) end)
    raises("unknown option 'conect'; did you mean 'connect'?", function() cueball.pool(all { conect = connect }) end)
    raises("unknown option 'resolvr'; did you mean 'resolver'?", function() cueball.pool(all { resolvr = resolver }) end)
    raises("unknown option 'recovery.conect'; did you mean 'connect'?", function() cueball.pool(all { recovery = { conect = {} } }) end)
    raises("unknown option 'recovery.default.delay'; did you mean 'delay_ms'?",
      function() cueball.pool(all { recovery = { default = { delay = 5 } } }) end)
    raises("unknown option 'recovery.default.backoff'; there are attempts, " ..
      "delay_ms, jitter, max_delay_ms, max_timeout_ms, spread, timeout_ms",
      function() cueball.pool(all { recovery = { default = { backoff = 5 } } }) end)
    raises("unknown option 1", function() cueball.pool(all { 5 }) end)
    local ok, message = pcall(cueball.pool, all { something_else = 5 })
    assert.is_false(ok)
    assert.matches("unknown option 'something_else'; there are balance, check_interval_ms, .*connect, .*resolver, "
      .. "seed, slow_start_ms, spares, target_claim_delay_ms$", message)
  end)

  it("names the range of what is out of it, or of another type", function()
    local function raises(message, fn) assert.blames("cueball.pool: option " .. message, fn) end
    local COUNT = "'max_connections' must be a whole number from 1 to 1000000, not "
    raises(COUNT .. "0", function() cueball.pool(all { max_connections = 0 }) end)
    raises(COUNT .. "1000001", function() cueball.pool(all { max_connections = 1000001 }) end)
    raises(COUNT .. "2.5", function() cueball.pool(all { max_connections = 2.5 }) end)
    raises(COUNT .. '"5"', function() cueball.pool(all { max_connections = "5" }) end)
    raises(COUNT .. "false", function() cueball.pool(all { max_connections = false }) end)
    raises(COUNT .. "inf", function() cueball.pool(all { max_connections = math.huge }) end)
    raises(COUNT .. "nan", function() cueball.pool(all { max_connections = 0 / 0 }) end)
    raises("'max_waiters' must be a whole number from 0 to 2000000, or false for none, not -1",
      function() cueball.pool(all { max_waiters = -1 }) end)
    raises("'claim_timeout_ms' must be a number from 0 to 86400000 (milliseconds), or false for none, not true",
      function() cueball.pool(all { claim_timeout_ms = true }) end)
    raises("'idle_timeout_ms' must be a number from 0 to 86400000 (milliseconds), or false for 0, not 86400001",
      function() cueball.pool(all { idle_timeout_ms = 86400001 }) end)
    raises("'check_timeout_ms' must be a number from 0.001 to 86400000 (milliseconds), not 0",
      function() cueball.pool(all { check_timeout_ms = 0 }) end)
    raises('\'balance\' must be "fifo" or "lifo" or "p2c", not "p3c"', function() cueball.pool(all { balance = "p3c" }) end)
    raises('\'balance\' must be "fifo" or "lifo" or "p2c", not 1', function() cueball.pool(all { balance = 1 }) end)
    raises('\'queue\' must be "fifo" or "codel" or "adaptive_lifo", not "lifo"', function() cueball.pool(all { queue = "lifo" }) end)
    raises("'queue' codel and adaptive_lifo need option 'target_claim_delay_ms'", function() cueball.pool(all { queue = "codel" }) end)
    raises("'max_churn_rate' must be a number from 0.001 to 1000000 (per second), or false for none, not 0",
      function() cueball.pool(all { max_churn_rate = 0 }) end)
    raises("'outlier' must be a table, not false", function() cueball.pool(all { outlier = false }) end)
    raises("'outlier.max_ejected' must be a number from 0 to 1, not 2",
      function() cueball.pool(all { outlier = { max_ejected = 2 } }) end)
    raises('\'recovery.initial.jitter\' must be "spread" or "full" or "decorrelated", not "none"',
      function() cueball.pool(all { recovery = { initial = { jitter = "none" } } }) end)
    raises("'recovery' must be a table, not 3", function() cueball.pool(all { recovery = 3 }) end)
    raises("'recovery.default' must be a table, not true", function() cueball.pool(all { recovery = { default = true } }) end)
    raises("'recovery.initial.spread' must be a number from 0 to 1, not 1.5",
      function() cueball.pool(all { recovery = { initial = { spread = 1.5 } } }) end)
    raises("'recovery.connect.attempts' must be a whole number from 1 to 1000, not 0",
      function() cueball.pool(all { recovery = { connect = { attempts = 0 } } }) end)
    raises("'recovery.default.max_timeout_ms' must be at least timeout_ms (2000), not 100",
      function() cueball.pool(all { recovery = { default = { max_timeout_ms = 100 } } }) end)
  end)

  it("wants its own options of their types, and what is required", function()
    local RESOLVER = "option 'resolver' %s a function(sink) or a table with run(self, sink)"
    local CONNECT = "option 'connect' %s a function(backend, context) or a table with connect(backend, context)"
    local function raises(message, fn) assert.blames("cueball.pool: " .. message, fn) end
    raises("expected a table of options, got nil", function() cueball.pool() end)
    raises('expected a table of options, got "db"', function() cueball.pool "db" end)
    raises(RESOLVER:format "is required:", function() cueball.pool { connect = connect, host = world } end)
    raises(CONNECT:format "is required:", function() cueball.pool { resolver = resolver, host = world } end)
    raises(RESOLVER:format "must be" .. ', not "static"', function() cueball.pool(all { resolver = "static" }) end)
    raises(CONNECT:format "must be" .. ", not true", function() cueball.pool(all { connect = true }) end)
    raises("option 'name' must be a string of 1 to 255 bytes without control characters, not 5",
      function() cueball.pool(all { name = 5 }) end)
    raises("option 'seed' must be a whole number from 0 to 9007199254740991, not 1.5", function() cueball.pool(all { seed = 1.5 }) end)
    raises("option 'seed' must be a whole number from 0 to 9007199254740991, not -1", function() cueball.pool(all { seed = -1 }) end)
    raises("option 'leak_detection' must be true or false, not 1", function() cueball.pool(all { leak_detection = 1 }) end)
    raises("option 'claim_sites' must be true or false, not 1", function() cueball.pool(all { claim_sites = 1 }) end)
    raises("option 'leak_warning_ms' must be a number of milliseconds from 1 to 86400000, or false for none, not 0.5",
      function() cueball.pool(all { leak_warning_ms = 0.5 }) end)
    raises('option \'host\' must be a host, not "uv"', function() cueball.pool(all { host = "uv" }) end)
    for _, member in ipairs { "close", "check", "broken", "watch", "unwatch" } do
      local factory = { connect = function() end, [member] = 7 }
      raises(("the connection factory's '%s' must be a function, not 7"):format(member),
        function() cueball.pool(all { connect = factory }) end)
    end
    assert.same({}, world.leaks())
  end)

  it("takes the same seed for the same choices", function()
    local orders = {}
    for run, seed in ipairs { 5, 5, 6, 7, 8, 9 } do
      local town = sim_pool.new { servers = 8 }
      local pool = town:open { seed = seed }
      local keys = {}
      for index, backend in ipairs(pool:backends()) do keys[index] = backend.key end
      orders[run] = table.concat(keys, " ")
      town:stop()
    end
    assert.equal(orders[1], orders[2])
    local is_other = false
    for run = 3, #orders do is_other = is_other or orders[run] ~= orders[1] end
    assert.is_true(is_other)
  end)
end)

describe("connection.tcp", function()
  it("refuses mistakes at the caller's line", function()
    local tcp = cueball.connection.tcp
    local MS = "must be a number of milliseconds from 0.001 to 86400000, not "
    local function raises(message, fn) assert.blames("cueball.connection.tcp: " .. message, fn) end
    raises("option 'read_timeout_ms' " .. MS .. "0", function() tcp { read_timeout_ms = 0 } end)
    raises("option 'send_timeout_ms' " .. MS .. '"1"', function() tcp { send_timeout_ms = "1" } end)
    raises("option 'connect_timeout_ms' " .. MS .. "86400001", function() tcp { connect_timeout_ms = 86400001 } end)
    raises("option 'nodelay' must be true or false, not 1", function() tcp { nodelay = 1 } end)
    raises("unknown option 'timeout'; there are connect_timeout_ms, keepalive_ms, nodelay, read_timeout_ms, send_timeout_ms, tls",
      function() tcp { timeout = 5 } end)
    raises("expected a table of options, got 5", function() tcp(5) end)
  end)
end)
