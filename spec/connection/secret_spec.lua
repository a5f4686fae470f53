--- Secrets of cueball.connection.redis: functions that are asked at each connect, and that no secret is shown to anybody. In virtual time,
-- against a server that says what it likes; and against a real redis-server.
local cueball = require "cueball"
local monitor = require "cueball.monitor"
local redis = require "spec.support.redis"
local sim_pool = require "spec.support.sim_pool"
local until_true = require "spec.support.until_true"
local uv_host = require "cueball.host.uv"

local RECOVERY = { default = { attempts = 2, timeout_ms = 200, delay_ms = 100, max_delay_ms = 100, spread = 0 } }

local town, heard, open_connections

-- The words of a command.
local function words_of(data)
  local words = {}
  for word in data:gmatch "%$%d+\r\n(.-)\r\n" do words[#words + 1] = word end
  return words
end

-- A server that has `auth` answer AUTH, and takes all else; `heard` lists what came, `open_connections` counts.
local function server(auth)
  heard, open_connections = {}, 0
  local function reply(data)
    local words = words_of(data)
    heard[#heard + 1] = table.concat(words, " ")
    if words[1] == "auth" and auth then return auth(words) end
    return words[1] == "ping" and "+PONG\r\n" or "+OK\r\n"
  end
  town = sim_pool.new {
    reply = reply,
    on_connect = function() open_connections = open_connections + 1 end,
    on_close = function() open_connections = open_connections - 1 end,
  }
  return town
end

local function open(options, more)
  return town:open({ max_connections = 1, connect = cueball.connection.redis(options), recovery = RECOVERY }, more)
end

describe("a secret that is a function", function()
  it("is asked at each connect, and may wait", function()
    server()
    local asked, backend, context = 0, nil, nil
    local pool = open({
      username = function(...)
        backend, context = ...
        return "ann"
      end,
      password = function()
        town.world.sleep(50)
        asked = asked + 1
        return "secret" .. asked
      end,
    }, { max_connections = 2 })
    town:advance(49)
    assert.equal(0, pool:stats().opened)
    town:advance(10)
    assert.equal(2, pool:stats().opened)
    assert.same({ "auth ann secret1", "auth ann secret2" }, { heard[1], heard[2] })
    assert.equal("db1", backend.key)
    assert.equal(town.world, context.host)
    pool:renew { over_ms = 0 }
    town:advance(100)
    assert.same({ "auth ann secret3", "auth ann secret4" }, { heard[5], heard[6] })
    pool:stop()
  end)

  it("fails the attempt, and says why, if it throws or has none", function()
    for _, case in ipairs {
      { function() error("the vault is sealed", 0) end, "password: its function threw: the vault is sealed" },
      { function() return nil, "no such key" end, "password: no such key" },
      { function() end, "password: its function returned nothing" },
      { function() return 7777777 end, "password: its function must return a string, not a number" },
    } do
      server()
      local pool = open { username = "ann", password = case[1] }
      town:advance(50)
      assert.equal("db1: " .. case[2], pool:last_error())
      assert.same({ { }, 0 }, { heard, open_connections })
      pool:stop()
    end
    server()
    local pool = open { username = function() return nil, "no such user" end, password = "secret" }
    town:advance(50)
    assert.equal("db1: username: no such user", pool:last_error())
    pool:stop()
  end)

  it("that takes too long is ended with the attempt, and so is its connection", function()
    server()
    local pool = open { password = function() town.world.sleep(1e6) end }
    town:advance(100)
    assert.equal(1, open_connections)
    town:advance(150)
    assert.equal(0, open_connections)
    assert.equal("db1: the attempt took too long", pool:last_error())
    pool:stop()
  end)
end)

describe("a secret", function()
  -- All that tells people about a pool, in one text.
  local function all_of(pool, log, more)
    local parts = { log, pool:last_error() or "none", tostring(pool), monitor.json(), monitor.openmetrics() }
    for _, backend in ipairs(pool:backends()) do
      for name, value in pairs(backend) do parts[#parts + 1] = name .. "=" .. tostring(value) end
    end
    for _, text in ipairs(more) do parts[#parts + 1] = text end
    return table.concat(parts, "\n")
  end

  local function note_events(pool, list)
    pool:subscribe(function(event)
      for name, value in pairs(event) do list[#list + 1] = name .. "=" .. tostring(value) end
    end)
  end

  local ECHOES = {
    ["that does not know the command, and repeats it"] = function(words)
      return ("-ERR unknown command 'AUTH', with args beginning with: '%s' '%s' \r\n"):format(words[2], words[3])
    end,
    ["as Redis 6 does, shortened"] = function(words)
      return ("-ERR unknown command `AUTH`, with args beginning with: `%s`, `%s`, \r\n"):format(words[2], words[3]:sub(1, 5))
    end,
    ["without quotes"] = function(words) return ("-ERR %s is no password of %s\r\n"):format(words[3], words[2]) end,
    ["and shortened"] = function(words) return ("-ERR invalid %s\r\n"):format(words[3]:sub(1, 9)) end,
    ["as its only word"] = function(words) return ("-%s\r\n"):format(words[3]) end,
    ["as its first word"] = function(words) return ("-%s is wrong\r\n"):format(words[3]) end,
    ["that says no more than Redis"] = function() return "-WRONGPASS invalid username-password pair or user is disabled.\r\n" end,
  }

  for how, answer in pairs(ECHOES) do
    it("is shown nowhere, though the server tells it, " .. how, function()
      server(answer)
      local told = {}
      local factory = cueball.connection.redis { username = "SESAMEUSER", password = function() return "SESAMEOPEN" end }
      local pool = town:open { max_connections = 1, connect = factory, recovery = RECOVERY, claim_timeout_ms = 500 }
      note_events(pool, told)
      town:claim "bob"
      town:advance(1000)
      assert.matches("^db1: auth: ", pool:last_error())
      local all = all_of(pool, town:log "debug", { table.concat(told, "\n"), town.refused, tostring(factory), pool:last_error() })
      assert.is_nil(all:find("SESAM", 1, true), all)
      assert.is_truthy(all:find("auth: ", 1, true), all)
      pool:stop()
    end)
  end

  it("is not shown without its line ends, as Redis repeats it", function()
    local repeats = ECHOES["that does not know the command, and repeats it"]
    server(function(words) return repeats { "auth", "ann", (words[3]:gsub("\n", " ")) } end)
    local pool = open { username = "ann", password = "A\nSESAMEOPEN" }
    town:advance(50)
    assert.equal("db1: auth: ERR unknown command (the rest is not shown: a secret may be in it)", pool:last_error())
    pool:stop()
  end)

  it("is shown nowhere by a server that repeats it later", function()
    local said
    town = sim_pool.new { reply = function(data)
      local words = words_of(data)
      if words[1] == "auth" then
        said = words[3]
        return "+OK\r\n"
      end
      return "-NOPERM " .. said .. " may not\r\n"
    end }
    local pool = open { username = "SESAMEUSER", password = "SESAMEOPEN" }
    town:advance(50)
    assert.equal("db1: ping: NOPERM (the rest is not shown: a secret may be in it)", pool:last_error())
    pool:stop()
  end)

  it("is not shown where it is no string", function()
    for _, name in ipairs { "password", "username" } do
      assert.has_error(function() cueball.connection.redis { [name] = 7777777 } end,
        ("cueball.connection.redis: option '%s' must be a string or a function, not a number"):format(name))
    end
  end)

  it("is shown nowhere by a pool on a real server, with the right one or a wrong one; a change is followed", function()
    local backend = redis.start { password = "SESAMEROOT" }
    backend:call("ACL", "SETUSER", "ann", "on", ">SESAMEOLD", "~*", "+@all")
    local log, logged, password = uv_host.log, {}, "SESAMEOLD"
    uv_host.log = function(_, message) logged[#logged + 1] = message end
    local ok, why = pcall(uv_host.run, function()
      local more = {}
      local pool = cueball.pool {
        host = uv_host, max_connections = 2, claim_timeout_ms = 15000,
        recovery = { default = { attempts = 2, timeout_ms = 15000, delay_ms = 100, max_delay_ms = 100 } },
        resolver = cueball.resolver.static { backend.backend },
        connect = cueball.connection.redis { username = function() return "ann" end, password = function()
          uv_host.sleep(1)
          return password
        end },
      }
      note_events(pool, more)
      local function whoami(red, lease)
        more[#more + 1] = tostring(red) .. tostring(lease) .. lease:explain()
        return red:acl "whoami"
      end
      assert.equal("ann", pool:with(whoami))
      backend:call("ACL", "SETUSER", "ann", "<SESAMEOLD", ">SESAMENEW")
      pool:renew { over_ms = 0 }
      until_true(function() return (pool:last_error() or ""):find "WRONGPASS" end)
      password = "SESAMENEW"
      until_true(function() return pool:with(whoami) == "ann" end)
      assert.equal(backend.backend .. ": auth: WRONGPASS invalid username-password pair or user is disabled.", pool:last_error())
      local all = all_of(pool, table.concat(logged, "\n"), more)
      assert.is_truthy(all:find("WRONGPASS", 1, true), all)
      assert.is_nil(all:find("SESAM", 1, true), all)
      pool:stop()
    end)
    uv_host.log = log
    backend:stop()
    assert.is_true(ok, why)
  end)
end)
