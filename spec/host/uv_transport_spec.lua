--- libuv's transport: its words, and the options of a real connection.
local host = require "cueball.host.uv"
local server = require "spec.support.server"
local transport = require "cueball.host.uv.transport"

it("what libuv's resolver says is worded as nginx words what its own says", function()
  assert.equal("3: Host not found", transport.message_of "EAI_NONAME: unknown node or service")
  assert.equal("2: Server failure", transport.message_of "EAI_AGAIN")
end)

it("a connection takes every option of ngx_lua's but reuseaddr", function()
  local one = server.echo()
  host.run(function()
    local sock = host.tcp()
    assert(sock:connect("127.0.0.1", one.port))
    for _, value in ipairs { true, false, 0, 50000 } do
      for _, name in ipairs { "keepalive", "tcp-nodelay", "sndbuf", "rcvbuf" } do assert.is_true(sock:setoption(name, value)) end
    end
    assert.same({ nil, "unsupported option reuseaddr" }, { sock:setoption("reuseaddr", true) })
    assert.equal(2, sock:send "x\n")
    assert.equal("x", (sock:receive()))
    sock:close()
  end)
  one:close()
end)
