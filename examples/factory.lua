-- Your own connections: a factory that logs in before anybody gets the connection, and tells whether it is still good.
--   examples/run examples/factory.lua
local cueball = require "cueball"
local uv = require "luv"

-- ------------------------------------------------------------- the factory --

local tcp = cueball.connection.tcp { read_timeout_ms = 5000 }

local function ask(socket, line)
  local ok, message = socket:send(line .. "\n")
  if not ok then return nil, message end
  return socket:receive "*l"
end

-- The connection that a lease holds can be any value: here a table around the socket.
local Session = {}
Session.__index = Session

function Session:get(name)
  return ask(self.socket, "GET " .. name)
end

function Session:begin()
  self.is_in_transaction = true
  return ask(self.socket, "BEGIN")
end

local function login(user, secret)
  return {
    -- In a task, so it may wait; the pool ends it at its time limit whatever it does.
    connect = function(backend, context)
      local socket, message = tcp.connect(backend, context)
      if not socket then return nil, message end
      local answer
      answer, message = ask(socket, ("LOGIN %s %s"):format(user, secret))
      if answer ~= "OK" then
        tcp.close(socket)
        return nil, "login: " .. (answer or message)
      end
      return setmetatable({ socket = socket, is_in_transaction = false }, Session)
    end,
    close = function(session) tcp.close(session.socket) end,
    -- Asked of idle connections every check_interval_ms. In a task too.
    check = function(session)
      local answer, message = ask(session.socket, "PING")
      return answer == "PONG", answer or message
    end,
    -- Asked whenever a lease is released, so it must be quick: what is wrong, and whose doing it is; or nil.
    broken = function(session)
      if session.is_in_transaction then return "left in a transaction", "unfit" end
      return tcp.broken(session.socket)
    end,
    -- Where the host can tell, the loss of an idle connection is noticed at once.
    watch = function(session, lost) tcp.watch(session.socket, lost) end,
    unwatch = function(session) tcp.unwatch(session.socket) end,
  }
end

-- -------------------------------------------------------------- a toy server --

local logins, pings = 0, 0

local function answer(line)
  if line == "LOGIN ada lovelace" then
    logins = logins + 1
    return "OK"
  elseif line == "PING" then
    pings = pings + 1
    return "PONG"
  elseif line == "BEGIN" then
    return "OK"
  end
  local name = line:match "^GET (.*)"
  return name and "the value of " .. name or "DENIED"
end

local function server()
  local listener = uv.new_tcp()
  listener:bind("127.0.0.1", 0)
  listener:listen(128, function()
    local client, text = uv.new_tcp(), ""
    listener:accept(client)
    client:read_start(function(_, data)
      if not data then return client:close() end
      text = (text .. data):gsub("([^\n]*)\n", function(line)
        client:write(answer(line) .. "\n")
        return ""
      end)
    end)
  end)
  return "127.0.0.1:" .. listener:getsockname().port
end

-- --------------------------------------------------------------------- use --

cueball.run(function()
  local backend = server()
  local pool = cueball.pool {
    name = "login",
    resolver = cueball.resolver.static { backend },
    connect = login("ada", "lovelace"),
    max_connections = 2,
    check_interval_ms = 20,
  }
  print(pool:with(function(session) return session:get "x" end))
  print(("%d logged in"):format(logins))

  while pings < 4 do cueball.sleep(5) end
  print "idle connections were checked"

  local unsubscribe = pool:subscribe(function(event)
    if event.to == "closing" then print("closed as " .. event.cause) end
  end)
  pool:with(function(session) return session:begin() end) -- and nothing else: it is released in a transaction
  while pool:stats().idle < 2 do cueball.sleep(5) end
  print(("%d logged in: that one was replaced"):format(logins))
  unsubscribe()
  pool:stop()

  -- A factory that cannot connect says why, and the claimers hear it.
  local stranger = cueball.pool {
    name = "stranger",
    resolver = cueball.resolver.static { backend },
    connect = login("eve", "guess"),
    recovery = { default = { attempts = 1 } },
  }
  local _, message, name = stranger:claim { timeout_ms = 10000 }
  print(name, (message:gsub("127.0.0.1:%d+", "HOST:PORT")))
  stranger:stop()
end)
