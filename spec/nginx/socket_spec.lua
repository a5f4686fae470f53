--- Cosockets that remember how they were used: nobody reads another's answer, and it is known whose doing it is that a connection cannot be
-- lent again. A server in this process answers "N text" with "text" after N ms, in the order of the questions; "bye text" and closes.
local nginx = require "spec.support.nginx"
local server = require "spec.support.server"
local uv = require "luv"

local RECEIVE = "timeout: a receive timed out, and its answer may still come"

-- Factories as people write them; `socket` of a connection is what the claimers here use.
local POOLS = [[
local cueball = require "cueball"
local PORT = %d
local BACKEND = "127.0.0.1:" .. PORT
local tcp = cueball.connection.tcp { read_timeout_ms = 20000 }

local function open(backend, context)
  local socket = context.host.tcp()
  socket:settimeout(20000)
  local ok, message = socket:connect(backend.address, backend.port, context.socket_options)
  if not ok then return nil, message end
  return socket
end

local Client = {}
Client.__index = Client
function Client:connect(...) return self.sock:connect(...) end
function Client:set_keepalive(...) return self.sock:setkeepalive(...) end
function Client:close() return self.sock:close() end

local factories = {
  tcp = tcp,
  documented = open,
  library = function(_, context)
    local client = setmetatable({ sock = ngx.socket.tcp() }, Client)
    client.sock:settimeout(20000)
    local ok, message = context.connect(client)
    if not ok then return nil, message end
    return client
  end,
  wrapped = {
    connect = function(backend, context)
      local socket, message = tcp.connect(backend, context)
      return socket and { socket = socket }, message
    end,
    close = function(connection) tcp.close(connection.socket) end,
    park = function(connection, idle_ms) return connection.socket:setkeepalive(idle_ms) end,
    broken = function(connection) return connection.left end,
  },
}

local pools = {}
for name, factory in pairs(factories) do
  local pool = cueball.pool {
    name = name, max_connections = 1, claim_timeout_ms = 15000, resolver = cueball.resolver.static { BACKEND }, connect = factory,
  }
  local tell = pool.unfit
  pool.said = {}
  function pool:unfit(slot, message, kind)
    table.insert(self.said, kind .. ": " .. message)
    return tell(self, slot, message, kind)
  end
  pools[name] = pool
end

function pools.ask(socket, line)
  socket:send(line .. "\n")
  return socket:receive "*l"
end

-- Waits until the backend has done what it was asked for before: it answers others in turn.
function pools.catch_up()
  local socket = ngx.socket.tcp()
  socket:settimeout(20000)
  assert(socket:connect("127.0.0.1", PORT))
  assert(pools.ask(socket, "20 done") == "done")
  socket:close()
end

-- What the pool found wrong with what fn(socket, connection) leaves.
function pools.left_by(name, fn)
  local pool = pools[name]
  pool.said = {}
  pool:with(function(connection) return fn(connection.sock or connection.socket or connection, connection) end)
  return table.concat(pool.said, "; ")
end

return pools
]]

local function on_client(client)
  local free_at = 0
  local function answer(text, closes)
    if client:is_closing() then return end
    client:write(text .. "\n")
    if closes then client:close() end
  end
  client:read_start(function(_, data)
    if not data then return client:is_closing() or client:close() end
    for line in data:gmatch "[^\n]+" do
      local delay, text = line:match "^(%d+) (.*)$"
      if line == "close" then
        client:close()
      elseif not delay then
        answer(line:match "^bye (.*)$", true)
      else
        free_at = math.max(free_at, uv.now()) + tonumber(delay)
        local timer = uv.new_timer()
        timer:start(free_at - uv.now(), 0, function() timer:close() answer(text) end)
      end
    end
  end)
end

describe("a cosocket", function()
  local one, backend

  setup(function()
    backend = server.listen(on_client)
    one = nginx.start {
      files = { ["my_pools.lua"] = POOLS:format(backend.port) },
      http = "init_worker_by_lua_block { pools = require 'my_pools' }\n",
      server = [[
        location / { content_by_lua_block {
          ngx.req.read_body()
          local fn = assert(loadstring("local ask, name = ... " .. ngx.unescape_uri(ngx.var.arg_code)))
          ngx.print(tostring(fn(pools.ask, ngx.var.arg_name)))
        } }]],
    }
  end)
  teardown(function()
    one:stop()
    backend:close()
  end)

  -- Runs code in a request; `name` is a pool's.
  local function run(name, code)
    local text = code:gsub("[^%w]", function(c) return ("%%%02X"):format(c:byte()) end)
    return one:ask(("/?name=%s&code=%s"):format(name, text))
  end

  local function left_by(name, code)
    return run(name, "return pools.left_by(name, function(socket, connection) " .. code .. " end)")
  end

  for _, name in ipairs { "tcp", "documented", "library", "wrapped" } do
    it("whose receive timed out is not lent again: factory " .. name, function()
      assert.equal(RECEIVE, left_by(name, 'socket:settimeout(100) ask(socket, "60000 late")'))
      for _, user in ipairs { "alice", "bob" } do
        assert.equal(user, run(name, ([[return (pools[name]:with(function(c)
          return (ask(c.sock or c.socket or c, "1 %s")) end))]]):format(user)))
      end
    end)
  end

  -- The sockets' own limits are 30 s, and the backend answers after 25 s.
  for _, name in ipairs { "tcp", "documented", "library", "wrapped" } do
    for what, code in pairs {
      receive = "return socket:receive '*l'", receiveany = "return socket:receiveany(9)",
      receiveuntil = "return socket:receiveuntil '--' ()",
      ["a limit set later"] = "socket:settimeout(29000) return socket:receive '*l'",
    } do
      it(("waits no longer than its lease's deadline: factory %s, %s"):format(name, what), function()
        run(name, "return pools[name]:with(function() return 1 end)") -- so that a connection is there at once
        assert.equal("timeout, in time", run(name, ([[
          ngx.update_time()
          local began = ngx.now()
          local _, message = pools[name]:with(function(c)
            local socket = c.sock or c.socket or c
            socket:settimeouts(30000, 30000, 30000)
            socket:send "25000 late\n"
            %s
          end, { timeout_ms = 300 })
          ngx.update_time()
          return tostring(message) .. (ngx.now() - began < 20 and ", in time" or ", late")]]):format(code)))
        assert.equal("alice", run(name, [[return (pools[name]:with(function(c)
          return (ask(c.sock or c.socket or c, "400 alice")) end))]]))
      end)
    end
  end

  local ways = {
    { "", "nothing" , "" },
    { "", "an answer", 'ask(socket, "1 a")' },
    { "", "a receive that timed out and was repeated",
      'socket:settimeout(100) ask(socket, "3000 a") socket:settimeout(20000) socket:receive()' },
    { "", "receiveuntil and receiveany", 'socket:send "1 ab--cd\\n" socket:receiveuntil "--"() socket:receiveany(10)' },
    { RECEIVE, "a receiveuntil that timed out", 'socket:settimeout(100) socket:send "60000 ab--\\n" socket:receiveuntil "--"()' },
    { RECEIVE, "a receiveany that timed out", 'socket:settimeout(100) socket:send "60000 a\\n" socket:receiveany(1)' },
    { RECEIVE, "another question after the first timed out",
      'socket:settimeout(100) ask(socket, "3000 a") socket:settimeout(20000) ask(socket, "1 b")' },
    { RECEIVE, "a close after a receive that timed out", 'socket:settimeout(100) ask(socket, "60000 a") socket:close()' },
    { "worn: closed", "a close after an answer", 'ask(socket, "1 a") socket:close()' },
    { "unfit: closed", "a close before any", "socket:close()" },
    { "worn: closed", "setkeepalive after an answer", 'ask(socket, "1 a") socket:setkeepalive()' },
    { "lost: closed", "the backend's close instead of an answer", 'ask(socket, "close")' },
    { "unfit: closed", "the same, after it had answered", 'ask(socket, "1 a") ask(socket, "close")' },
    { "worn: closed", "the backend's close after its answer", 'ask(socket, "bye a") socket:receive()' },
    { "worn: .*could not be parked", "the same, and the claimer does not look", 'ask(socket, "bye a") pools.catch_up()' },
    { "worn: .*could not be parked", "an unread line", 'socket:send "1 a\\n1 b\\n" socket:receive() pools.catch_up()' },
    { "worn: unexpected data", "an unread answer", 'socket:send "1 a\\n" pools.catch_up()' },
    { "unfit: connected anew", "another connection", 'socket:connect("127.0.0.1", tonumber(ngx.var.server_port))' },
  }
  for _, way in ipairs(ways) do
    local said, what, code = unpack(way)
    it(("with %s is %s"):format(what, said == "" and "fit" or said), function()
      run("tcp", "return pools.tcp:claim():close()") -- so that it is one that has not delivered
      assert.matches(said == "" and "^$" or "^" .. said, left_by("tcp", code))
    end)
  end

  it("remembers from lease to lease that it delivered, and leaves the kind of a message to it", function()
    run("wrapped", "return pools.wrapped:claim():close()")
    assert.equal("", left_by("wrapped", 'ask(socket, "1 a")'))
    assert.equal("worn: in a transaction", left_by("wrapped", "connection.left = 'in a transaction'"))
    assert.equal("unfit: in a transaction", left_by("wrapped", "connection.left = 'in a transaction'"))
  end)

  it("tells what it knows also if its claimer throws, or closes the lease", function()
    assert.equal(RECEIVE, run("tcp", [[pools.tcp.said = {}
      pcall(pools.tcp.with, pools.tcp, function(socket) socket:settimeout(100) assert(ask(socket, "60000 late")) end)
      return pools.tcp.said[1] ]]))
    assert.equal("nil", run("tcp", [[pools.tcp.said = {}
      pcall(pools.tcp.with, pools.tcp, function(socket) ask(socket, "1 a") error "a bug" end)
      return pools.tcp.said[1] ]]))
  end)

  it("is nginx's own again as it is parked", function()
    assert.equal("true", run("tcp", [[
      local kept
      pools.tcp:with(function(socket) kept = socket end)
      return getmetatable(kept) == getmetatable(ngx.socket.tcp())]]))
  end)
end)
