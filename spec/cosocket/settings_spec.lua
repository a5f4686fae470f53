--- What sockets say of what they are given, in ngx_lua's words. In virtual time.
local sim = require "cueball.host.sim"

local world

local function results(...)
  return { n = select("#", ...), ... }
end

local function world_it(name, fn)
  it(name, function()
    world = sim.new { seed = 1 }
    world.server("10.0.0.1", 80, { reply = function(data) return data end, connect_delay = 10 })
    world.run(function()
      local sock = world.tcp()
      sock:settimeout(100)
      fn(sock)
    end)
    world.check()
  end)
end

local function connected(sock)
  assert(sock:connect("10.0.0.1", 80))
  return sock
end

describe("connect says what is wrong:", function()
  local function refused(address, port)
    local sock = world.tcp()
    local ok, message = sock:connect(address, port)
    assert.is_nil(ok)
    return message
  end

  world_it("the port", function()
    for _, port in ipairs { "", "x", {}, true } do assert.equal("missing the port number", refused("10.0.0.1", port)) end
    assert.equal("missing the port number", refused("10.0.0.1"))
    assert.equal("missing the port number", refused(12))
    assert.equal("bad port number: -1", refused("10.0.0.1", -1))
    assert.equal("bad port number: 65536", refused("10.0.0.1", "65536"))
    assert.equal("bad port number: nan", refused("10.0.0.1", 0 / 0))
  end)

  world_it("the name", function()
    local function because(address)
      return (refused(address, 80):match(('^failed to parse host name "%s": (.*)$'):format((address:gsub("%p", "%%%0")))))
    end
    local wrong = {
      [""] = "no host", [":80"] = "no host", ["[]"] = "no host", [":"] = "invalid port", ["a:b"] = "invalid port", ["a:0"] = "invalid port",
      ["[::1]:"] = "invalid port", ["[::1"] = "invalid host", ["[::1]x"] = "invalid host", ["a/b"] = "invalid host",
      ["a?b"] = "invalid host", ["http://10.0.0.1"] = "invalid host",
      ["[1.2.3.4]"] = "invalid IPv6 address", ["unix:"] = "no path in the unix domain socket",
    }
    local said = {}
    for address in pairs(wrong) do said[address] = because(address) end
    assert.same(wrong, said)
  end)

  world_it("not where it is read as nginx reads it", function(sock)
    for _, port in ipairs { 80.9, "80", "80.5" } do assert.equal(1, sock:connect("10.0.0.1", port)) end
    assert.equal(1, sock:connect("10.0.0.1:80", 81))
    sock:close()
  end)

  world_it("the open connection is closed for a wrong name, not for a wrong port", function(sock)
    connected(sock):connect "10.0.0.1"
    assert.equal(1, sock:send "x")
    sock:connect("a/b", 80)
    assert.same(results(nil, "closed"), results(sock:send "x"))
  end)
end)

describe("while a task connects", function()
  world_it("the others hear that the socket is busy", function(sock)
    local result
    world.spawn(function() result = results(sock:connect("10.0.0.1", 80)) end)
    local busy = results(nil, "socket busy connecting")
    assert.same(busy, results(sock:connect("10.0.0.1", 80)))
    assert.same(busy, results(sock:send "x"))
    assert.same(busy, results(sock:receive()))
    assert.same(busy, results(sock:receiveany(1)))
    assert.same(busy, results(sock:receiveuntil "x" ()))
    assert.same(busy, results(sock:setoption("keepalive", true)))
    assert.same(busy, results(sock:setkeepalive()))
    assert.same(busy, results(sock:sslhandshake()))
    assert.same(busy, results(sock:close()))
    assert.same(results(0), results(sock:getreusedtimes()))
    world.sleep(20)
    assert.same(results(1), result)
    assert.equal(1, sock:close())
  end)
end)

describe("setoption", function()
  world_it("says what is missing, or unknown", function(sock)
    connected(sock)
    assert.same(results(nil, 'missing the "option" argument'), results(sock:setoption()))
    assert.same(results(nil, 'missing the "value" argument'), results(sock:setoption "keepalive"))
    assert.same(results(nil, "unsupported option tcp_nodelay"), results(sock:setoption("tcp_nodelay", true)))
    assert.same(results(nil, "unsupported option 1"), results(sock:setoption(1, true)))
    local ok, message = pcall(function() sock:setoption("keepalive", "on") end)
    assert.is_false(ok)
    assert.matches("settings_spec.lua:%d+: bad argument #2 to 'setoption' %(number or boolean expected, got string%)", message)
    for _, name in ipairs { "keepalive", "tcp-nodelay", "sndbuf", "rcvbuf" } do assert.is_true(sock:setoption(name, 1)) end
    sock:close()
  end)
end)

describe("setkeepalive", function()
  world_it("closes, and says 1", function(sock)
    connected(sock)
    assert.same(results(1), results(sock:setkeepalive(1000, 10)))
    assert.same(results(nil, "closed"), results(sock:setkeepalive()))
    assert.same(results(nil, "closed"), results(sock:close()))
    assert.same({}, world.leaks())
  end)

  world_it("leaves the socket open if somebody is in it, or bytes are", function(sock)
    connected(sock)
    world.spawn(function() sock:receive() end)
    assert.same(results(nil, "socket busy reading"), results(sock:setkeepalive()))
    sock:send "x\nrest"
    world.sleep(5)
    assert.same(results(nil, "unread data in buffer"), results(sock:setkeepalive()))
    assert.equal(1, sock:close())
  end)

  world_it("closes a connection on which bytes came that nobody has read", function(sock)
    connected(sock):send "x"
    world.sleep(5)
    assert.same(results(nil, "connection in dubious state"), results(sock:setkeepalive()))
    assert.same(results(nil, "closed"), results(sock:close()))
  end)

  world_it("raises for what is no number", function(sock)
    connected(sock)
    assert.error_matches(function() sock:setkeepalive "x" end, "bad argument #1 to 'setkeepalive' %(number expected, got string%)")
    assert.error_matches(function() sock:setkeepalive(1, {}) end, "bad argument #2 to 'setkeepalive' %(number expected, got table%)")
    assert.error_matches(function() sock:setkeepalive(1, 0) end, "bad argument #2 to 'setkeepalive' %(bad \"pool_size\" option value: 0%)")
    assert.error_matches(function() sock:setkeepalive(1, 2, 3) end, "expecting 1 to 3 arguments %(including the object%), but got 4")
    sock:close()
  end)
end)
