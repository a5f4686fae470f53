--- TLS in the simulated world: real OpenSSL at both ends, virtual time between them.
local cueball = require "cueball"
local sim = require "cueball.host.sim"
local tls = require "cueball.tls"
local certificates = require "spec.support.certificates"
local good = certificates.good
local TRUNCATED = require("cueball.cosocket.use").TRUNCATED

local function identity(of, more)
  local given = { cert_file = of.cert, key_file = of.key }
  for name, value in pairs(more or {}) do given[name] = value end
  return given
end

local function trusting(more)
  local given = { ca_file = certificates.ca.cert }
  for name, value in pairs(more or {}) do given[name] = value end
  return assert(tls.context(given))
end

-- A world with one server, and a function that connects to it.
local function town(behaviour, seed)
  local world = sim.new { seed = seed or 1 }
  local server = world.server("10.0.0.1", 443, behaviour)
  return world, function(context, name, session)
    local sock = world.tcp()
    sock:settimeout(1000)
    sock:settls(context)
    assert(sock:connect("10.0.0.1", 443))
    local ok, message = sock:sslhandshake(session, name or "localhost")
    if not ok then return nil, message, sock end
    return sock
  end, server
end

describe("a simulated server with TLS", function()
  it("sends, receives and closes in order", function()
    local world, connect = town { latency = 5, connect_delay = 10, tls = identity(good), banner = "welcome\n", reply = function(text)
      return text:upper()
    end }
    world.run(function()
      local sock = assert(connect(trusting()))
      world.trace "secured"
      assert.equal("welcome", sock:receive "*l")
      sock:send "hello\n"
      assert.equal("HELLO", sock:receive "*l")
      world.trace "answered"
      assert.equal("TLSv1.3", sock:tlsinfo().version)
      assert.equal("CN=localhost", sock:tlsinfo().subject)
      assert.equal(1, sock:close())
    end)
    assert.equal("[  20] secured\n[  40] answered", world.trace_text())
    world.check()
  end)

  it("resumes, with 1.2 and 1.3", function()
    for _, version in ipairs { "1.2", "1.3" } do
      local world, connect = town { tls = identity(good, { min_version = version, max_version = version }) }
      world.run(function()
        local context, session = trusting(), nil
        for round = 1, 3 do
          local sock = assert(connect(context, nil, session))
          sock:send "x"
          assert.equal("x", sock:receive(1))
          assert.equal(round > 1, sock:tlsinfo().resumed)
          session = assert(sock:getsslsession())
          sock:close()
        end
      end)
      world.check()
    end
  end)

  it("tells an orderly end from a truncated one", function()
    local ending
    local world, connect = town { tls = identity(good), reply = function(_, connection)
      connection:send "all of it"
      connection[ending](connection)
    end }
    world.run(function()
      ending = "close"
      local sock = assert(connect(trusting()))
      sock:send "?"
      assert.equal("all of it", sock:receive "*a")
      ending = "truncate"
      sock = assert(connect(trusting()))
      sock:send "?"
      local data, message, partial = sock:receive "*a"
      assert.same({ nil, TRUNCATED, "all of it" }, { data, message, partial })
      ending = "reset"
      sock = assert(connect(trusting()))
      sock:send "?"
      data, message, partial = sock:receive "*a"
      assert.same({ nil, "connection reset by peer", "all of it" }, { data, message, partial })
    end)
    world.check()
  end)

  local faults = {
    close = "TLS: the connection was closed in the middle of the handshake",
    reset = "connection reset by peer",
    silent = "timeout",
    garbage = "TLS: wrong version number: what came may be no TLS",
  }
  for fault, expected in pairs(faults) do
    it("goes wrong in the middle of the handshake: " .. fault, function()
      local world, connect = town { latency = 5, connect_delay = 10, tls = identity(good, { handshake = fault }) }
      world.run(function()
        local sock, message, left = connect(trusting())
        assert.is_nil(sock)
        assert.equal(expected, message)
        assert.equal(fault == "silent" and 1010 or 20, world.time_ms())
        assert.same({ nil, "closed" }, { left:send "x" })
      end)
      world.check()
    end)
  end

  it("is refused where it is not trusted, and knows why", function()
    local seen
    local world, connect, server = town { tls = identity(certificates.unknown_ca) }
    world.run(function()
      local _, message = connect(trusting())
      assert.equal("TLS: unable to get local issuer certificate (subject CN=localhost, issuer CN=cueball unknown CA)", message)
    end)
    world.advance(10)
    assert.equal(0, server.connections)
    world.check()

    world, connect = town { tls = identity(good, { ca_file = certificates.ca.cert }), on_connect = function(one) seen = one end }
    world.run(function()
      local sock = connect(trusting())   -- TLS 1.3 tells with the first bytes
      assert.same({ nil, "TLS: the peer's alert: tlsv13 alert certificate required", "" }, { sock:receive(1) })
      assert.equal("TLS: peer did not return a certificate", seen.tls_error)
      sock = assert(connect(trusting(identity(certificates.client))))
      sock:send "hi"
      assert.equal("hi", sock:receive(2))
      sock:close()
    end)
    world.check()
  end)

  it("is silent where there is no TLS at all", function()
    local world, connect = town { reply = false }
    world.run(function()
      local _, message = connect(trusting())
      assert.equal("timeout", message)
      assert.equal(1000.1, math.floor(world.time_ms() * 10 + 0.5) / 10)
    end)
    world.check()
  end)

  it("ends with the task that was killed in the handshake", function()
    local world, connect = town { latency = 5, tls = identity(good) }
    world.run(function()
      local task = world.spawn(connect, trusting())
      world.sleep(7)
      world.kill(task)
      world.sleep(100)
    end)
    world.check()
  end)

  it("may speak first, in the piece that ends the handshake", function()
    for _, version in ipairs { "1.2", "1.3" } do
      local world, connect = town {
        tls = identity(good, { min_version = version, max_version = version }), banner = "welcome\n", join = true, join_ms = 1,
      }
      world.run(function()
        local sock = assert(connect(trusting()))
        assert.equal("welcome", sock:receive "*l")
        sock:close()
      end)
      world.check()
    end
  end)

  it("takes bytes in any pieces, joined or cut", function()
    sim.for_seeds(20, function(world)
      world.server("10.0.0.1", 443, { tls = identity(good), cut = 0.5, join = 0.3, latency = { 1, 5 } })
      world.run(function()
        local sock = world.tcp()
        sock:settls(trusting())
        assert(sock:connect("10.0.0.1", 443))
        assert(sock:sslhandshake(nil, "localhost"))
        local text = ("0123456789abcdef"):rep(5000)
        assert.equal(#text, sock:send(text))
        assert.equal(text, sock:receive(#text))
        sock:close()
      end)
      world.check()
    end)
  end)
end)

describe("a connection at rest with TLS in the simulated world", function()
  local function watched(behaviour)
    local world, connect, server = town(behaviour)
    return world, server, function()
      local sock = assert(connect(trusting()))
      sock:send "hello\n"
      sock:receive "*l"
      sock:lend()
      local told = {}
      sock:watch(function(message, kind) told[#told + 1] = message .. ", " .. kind end)
      return sock, told
    end
  end

  it("is ended by what ends it, and not by a ticket", function()
    local world, server, rest = watched { tls = identity(good) }
    world.run(function()
      local sock, told = rest()
      world.sleep(10)
      assert.same({}, told)
      assert.same({ true }, { sock:is_fit_still() })
      server:list()[1]:close()
      world.sleep(10)
      assert.same({ "closed, lost" }, told)
      sock:abort()
      sock, told = rest()
      server:list()[1]:truncate()
      world.sleep(10)
      assert.same({ TRUNCATED .. ", lost" }, told)
      sock:abort()
      sock, told = rest()
      server:list()[1]:send "unasked"
      world.sleep(10)
      assert.same({ "unexpected data, worn" }, told)
      sock:abort()
    end)
    world.check()
  end)

  it("is ended by an alert", function()
    local world, connect = town { tls = identity(good, { ca_file = certificates.ca.cert }), latency = 5 }
    world.run(function()
      local sock, told = assert(connect(trusting())), {}   -- without the certificate that the server wants
      sock:watch(function(message, kind) told[#told + 1] = message .. ", " .. kind end)
      world.sleep(20)
      assert.same({ "TLS: the peer's alert: tlsv13 alert certificate required, lost" }, told)
      sock:abort()
    end)
    world.check()
  end)

  it("is asked past the loop: a ticket in the kernel is nothing, all else is", function()
    local world, server, _ = watched { tls = identity(good), latency = 1 }
    world.run(function()
      local context = trusting()
      local function fresh()
        local sock = world.tcp()
        sock:settls(context)
        assert(sock:connect("10.0.0.1", 443))
        assert(sock:sslhandshake(nil, "localhost"))
        return sock
      end
      local sock = fresh()
      world.compute(10)                 -- the tickets have come, and nobody has read them
      assert.same({ true }, { sock:is_fit_still() })
      assert.is_truthy(sock:getsslsession())
      sock:lend()
      server:list()[1]:close()
      world.compute(10)
      assert.same({ nil, "closed", "lost" }, { sock:is_fit_still() })
      sock:abort()
      sock = fresh()
      sock:lend()
      server:list()[#server:list()]:send "unasked"
      world.compute(10)
      assert.same({ nil, "unexpected data", "worn" }, { sock:is_fit_still() })
      assert.equal("unasked", sock:receive(7))
      sock:close()
    end)
    world.check()
  end)

  it("is one of a pool's", function()
    local world = sim.new { seed = 3 }
    world.server("10.0.0.1", 443, { tls = identity(good), latency = 1 })
    world.run(function()
      local context = trusting()
      local pool = cueball.pool {
        host = world, resolver = cueball.resolver.static { "10.0.0.1:443" }, max_connections = 4,
        connect = function(_, attempt)
          local sock = attempt.host.tcp()
          sock:settimeout(attempt.timeout_ms)
          sock:settls(context)
          local ok, message = attempt.connect(sock)
          if ok then ok, message = sock:sslhandshake(context:session "10.0.0.1", "localhost") end
          if not ok then return nil, message end
          return sock
        end,
      }
      for round = 1, 100 do
        assert.equal("round", pool:with(function(sock)
          assert(sock:send("round" .. round))
          local answer = sock:receive(#("round" .. round))
          context:keep_session("10.0.0.1", sock:getsslsession())
          return answer:sub(1, 5)
        end))
      end
      assert.equal(4, pool:stats().opened)
      pool:stop()
    end)
    world.check()
  end)
end)
