--- What a connection factory is given for its sockets, on hosts where a pool holds its connections itself. Where the host parks them,
-- pool.parking has functions of the same names.
local address = require "cueball.address"
local misuse = require "cueball.misuse"
local text = require "cueball.text"

local context = {}

local LEVELS = { debug = true, info = true, warn = true, error = true }

--- What a factory is given as `log`. Not every host knows what to do with another level: that is the factory's mistake, and told as such.
-- @return function(level, message, has_lines, event); has_lines: the message is not made one line; event: for our own
function context.logger(pool)
  return function(level, message, has_lines, event)
    if not LEVELS[level] then
      misuse.raise('context.log: the level must be "debug", "info", "warn" or "error", not ' .. text.show(level))
    end
    pool:log(level, has_lines and message or text.message(message), event or "factory_says")
  end
end

--- The options of a socket's connect that name the connection to keepalive pools of the host, if it has some.
function context.options(pool, slot)
  return { pool = ("cueball:%s:%d"):format(pool.name, slot), pool_size = 1 }
end

--- Lends a socket's own connect to another function, for one call.
function context.lend_connect(socket, connect)
  local own = rawget(socket, "connect")
  socket.connect = function(self)
    socket.connect = own
    local how, message = connect(self)
    if not how then return nil, message end
    return 1
  end
end

--- Closes what an attempt connected and came to nothing: its factory may have left it open.
function context.close_client(given)
  local client = given.client
  if type(client) ~= "table" then return end
  local socket = rawget(client, "_sock") or rawget(client, "sock") or client
  local close = socket.abort or socket.close
  if close then pcall(close, socket) end
end

--- Completes what a factory is given, for sockets and the clients built on them:
-- given.connect(client) → "new"; or nil, message;
-- given.through(socket): the next call of socket:connect, whatever its arguments, is that;
-- given.memo: an empty table for what the greeting tells, see cueball.pool.memo.
function context.equip(_, backend, given)
  given.memo = {}
  function given.connect(client)
    given.client, given.memo = client, {}
    local ok, message = address.connect(client, backend, given.socket_options)
    if not ok then return nil, message end
    return "new"
  end
  function given.through(socket) context.lend_connect(socket, given.connect) end
end

return context
