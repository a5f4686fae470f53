--- What TLS takes from malloc it gives back: counted by glibc, over connections that go well and such that do not.
local ffi = require "ffi"
local sim = require "cueball.host.sim"
local tls = require "cueball.tls"
local certificates = require "spec.support.certificates"
local good = certificates.good

require "spec.support.memory" -- declares mallinfo2

-- Bytes that malloc has given and not got back; nil: nobody counts here (a sanitizer has a malloc of its own).
local function allocated()
  collectgarbage()
  collectgarbage()
  local ok, info = pcall(function() return ffi.C.cueball_spec_mallinfo2() end)
  if not ok or info.uordblks == 0 then return nil end
  return tonumber(info.uordblks + info.hblkhd)
end

-- Of what is not counted by the piece: hash tables, Lua's own, and some connections (35 KB each) that are not collected yet.
local GROWTH_MAX, GROWTH_FORGOTTEN_MAX = 64 * 1024, 256 * 1024

-- Runs fn(times) often enough that all is warm, then twice as often: what it holds then must not have grown.
local function assert_flat(fn, times, growth_max)
  fn(times)
  local before = allocated()
  if not before then return end
  fn(times)
  fn(times)
  local growth = allocated() - before
  assert.is_true(growth < (growth_max or GROWTH_MAX), ("%d bytes more after %d times"):format(growth, 2 * times))
end

describe("memory", function()
  local trusting = assert(tls.context { ca_file = certificates.ca.cert })
  local strange = assert(tls.context { ca_file = certificates.stranger.cert })

  local function connect_in(world, port, context, session)
    local sock = world.tcp()
    sock:settimeout(1000)
    sock:settls(context)
    assert(sock:connect("10.0.0.1", port))
    return sock, sock:sslhandshake(session, "localhost")
  end

  -- A world with a server for each way to go wrong: they stay, as their contexts would count otherwise.
  local world = sim.new { seed = 1 }
  local ways = { "close", "reset", "silent", "garbage" }
  world.server("10.0.0.1", 1, { tls = { cert_file = good.cert, key_file = good.key } })
  for index, way in ipairs(ways) do
    world.server("10.0.0.1", 1 + index, { tls = { cert_file = good.cert, key_file = good.key, handshake = way } })
  end

  it("is flat over connections, new and resumed", function()
    assert_flat(function(times)
      world.run(function()
        local session
        for index = 1, times do
          local sock = connect_in(world, 1, trusting, index % 3 ~= 0 and session or nil)
          sock:send "hello"
          assert.equal("hello", sock:receive(5))
          session = sock:getsslsession()
          if index % 2 == 0 then sock:close() else sock:abort() end
        end
      end)
      world.settle()
    end, 60)
  end)

  it("is flat over handshakes that fail", function()
    assert_flat(function(times)
      world.run(function()
        for index = 1, times do
          local sock, ok = connect_in(world, 1 + index % #ways + 1, trusting)
          assert.is_nil(ok)
          assert.is_nil(sock:tlsinfo())
          sock, ok = connect_in(world, 1, strange)
          assert.is_nil(ok)
          assert.is_nil(sock:getsslsession())
        end
      end)
      world.settle()
    end, 40)
  end)

  it("is flat over tasks that are killed in a handshake, and sockets that are forgotten", function()
    assert_flat(function(times)
      world.run(function()
        for index = 1, times do
          local task = world.spawn(connect_in, world, index % 2 == 0 and 4 or 1, trusting)
          world.sleep(0.12)
          world.kill(task)
          world.spawn(function() connect_in(world, 1, trusting) end)   -- and nobody closes it
        end
        world.sleep(10)
      end)
      world.settle()
    end, 40, GROWTH_FORGOTTEN_MAX)
  end)

  it("is flat over contexts", function()
    assert_flat(function(times)
      for _ = 1, times do
        assert(tls.context { ca_file = certificates.ca.cert, cert_file = good.cert, key_file = good.key, alpn = { "h2" } })
        assert(tls.server { cert_file = good.cert, key_file = good.key, alpn = { "h2" }, ca = certificates.ca.cert_pem })
        assert(not tls.context { ca = "none" })
      end
      collectgarbage()
    end, 100)
  end)
end)
