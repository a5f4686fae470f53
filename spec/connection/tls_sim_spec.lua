--- Pools over TLS in the simulated world: handshakes that go wrong in all ways, in virtual time. Every claim is answered, nothing is lost.
local certificates = require "spec.support.certificates"
local cueball = require "cueball"
local sim = require "cueball.host.sim"

local good = { cert_file = certificates.good.cert, key_file = certificates.good.key }

local function with(more)
  local all = {}
  for name, value in pairs(good) do all[name] = value end
  for name, value in pairs(more or {}) do all[name] = value end
  return all
end

local function echo(text) return text end

local function pool_of(world, more, list)
  local given = {
    host = world, max_connections = 4, claim_timeout_ms = 2000, resolver = cueball.resolver.static(list or { "10.0.0.1:443" }),
    recovery = { default = { attempts = 2, timeout_ms = 300, max_timeout_ms = 300, delay_ms = 50, max_delay_ms = 100, spread = 0 } },
    connect = cueball.connection.tcp {
      read_timeout_ms = 500, tls = { ca_file = certificates.ca.cert, server_name = "localhost" },
    },
  }
  for name, value in pairs(more or {}) do given[name] = value end
  return cueball.pool(given)
end

local function ask(socket)
  assert(socket:send "hello\n")
  return assert(socket:receive "*l")
end

describe("a pool over TLS in the simulated world", function()
  for handshake, expected in pairs {
    close = "TLS: the connection was closed in the middle of the handshake", reset = "TLS: ",
    silent = "TLS: the handshake took too long", garbage = "TLS: ",
  } do
    it("is told of a server that goes wrong in the handshake: " .. handshake, function()
      local world = sim.new { seed = 1 }
      world.server("10.0.0.1", 443, { latency = 5, tls = with { handshake = handshake } })
      world.run(function()
        local pool = pool_of(world, { max_connections = 1 })
        local began = world.now()
        local lease, message, name = pool:claim()
        assert.is_nil(lease)
        assert.equal("pool_failed", name)
        assert.is_truthy(message:find(expected, 1, true), message)
        assert.is_true((world.now() - began) / 1e6 <= 700, "two attempts of 300 ms and a pause")
        pool:stop()
      end)
      world.check { errors = "failed" }
    end)
  end

  it("resumes what a connection before it began", function()
    local world = sim.new { seed = 1 }
    world.server("10.0.0.1", 443, { latency = 5, tls = good, reply = echo })
    world.run(function()
      local pool = pool_of(world, { max_connections = 1 })
      local resumed = {}
      for index = 1, 3 do
        pool:with(function(socket, lease)
          assert.equal("hello", ask(socket))
          resumed[index] = socket:tlsinfo().resumed
          lease:close()
        end)
      end
      assert.same({ false, true, true }, resumed)
      pool:stop()
    end)
    world.check()
  end)

  it("takes no session of a backend for another", function()
    local world = sim.new { seed = 1 }
    for index = 1, 2 do world.server("10.0.0." .. index, 443, { tls = good, reply = echo }) end
    world.run(function()
      local pool = pool_of(world, { max_connections = 2 }, { "10.0.0.1:443", "10.0.0.2:443" })
      local seen = {}
      for _ = 1, 8 do
        pool:with(function(socket, lease)
          ask(socket)
          local key = lease:backend().key
          assert.equal(seen[key] ~= nil, socket:tlsinfo().resumed)
          seen[key] = true
          lease:close()
        end)
        world.sleep(100)
      end
      assert.same({ ["10.0.0.1:443"] = true, ["10.0.0.2:443"] = true }, seen)
      pool:stop()
    end)
    world.check()
  end)

  it("answers every claim while handshakes go wrong at random", function()
    for seed = 1, 6 do
      local world = sim.new { seed = seed }
      local behaviours = { good, good, good, good, good, good, with { handshake = "close" }, with { handshake = "silent" },
        with { handshake = "garbage" },
        with { handshake = "reset" }, { cert_file = certificates.expired.cert, key_file = certificates.expired.key } }
      local servers = {}
      for index = 1, 3 do servers[index] = world.server("10.0.0." .. index, 443, { latency = 2, tls = good, reply = echo }) end
      world.run(function()
        local pool = pool_of(world, { max_connections = 6 }, { "10.0.0.1:443", "10.0.0.2:443", "10.0.0.3:443" })
        local answered, went_well, claims = 0, 0, 200
        for index = 1, claims do
          world.spawn(function()
            world.sleep(world.random(0, 8000))
            local ok, answer = pcall(pool.with, pool, function(socket, lease)
              local got = ask(socket)
              if index % 3 == 0 then lease:close() end
              return got
            end)
            answered = answered + 1
            if ok and answer == "hello" then went_well = went_well + 1 end
          end)
        end
        for _ = 1, 40 do
          servers[math.floor(world.random(1, 4))]:set { tls = behaviours[math.floor(world.random(1, #behaviours + 1))] }
          world.sleep(200)
        end
        for _, server in ipairs(servers) do server:set { tls = good } end
        world.sleep(12000)
        assert.equal(claims, answered, "seed " .. seed)
        assert.is_true(went_well > claims * 0.8, "seed " .. seed .. ": " .. went_well)
        assert.equal("hello", pool:with(ask))
        assert.equal(0, pool:stats().busy)
        pool:stop()
      end)
      world.check { errors = "failed" }
    end
  end)
end)
