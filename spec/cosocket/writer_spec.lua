--- Who is told that a write is done: the task whose write it was, also if that of a killed task is under way.
local host = require "cueball.host.uv"
local socket = require "cueball.cosocket.socket"

-- A socket on a transport that says when a write is done as it is told to.
local function connected()
  local fake = { read = function() end, close = function() end }
  function fake.connect(_, _, _, done) host.tasks:defer(function() done() end) end
  function fake.write(self, _, done) self.write_done = done end
  local sock = socket.new(host, fake)
  assert.equal(1, sock:connect("127.0.0.1", 80))
  return sock, fake
end

it("a killed writer's write is not taken for that of the next one", function()
  host.run(function()
    local sock, fake = connected()
    local t = host.spawn(function() sock:send "one" end)
    local first_done = fake.write_done
    host.kill(t)
    local sent
    host.spawn(function() sent = sock:send "second" end)
    host.tasks:defer(first_done)
    host.sleep(0)
    assert.is_nil(sent)
    host.tasks:defer(fake.write_done)
    host.sleep(0)
    assert.equal(6, sent)
    host.spawn(function() sent = sock:send "3" end)
    host.tasks:defer(fake.write_done)
    host.sleep(0)
    assert.equal(1, sent)
    sock:close()
  end)
end)
