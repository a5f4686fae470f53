--- What a connection factory is given for its sockets, on hosts where a pool holds its connections itself. Where the host parks them,
-- pool.parking has functions of the same names.
local address = require "cueball.address"

local context = {}

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

--- Completes what a factory is given, for sockets and the clients built on them:
-- given.connect(client) → "new"; or nil, message;
-- given.through(socket): the next call of socket:connect, whatever its arguments, is that.
function context.equip(_, backend, given)
  function given.connect(client)
    given.client = client
    local ok, message = address.connect(client, backend, given.socket_options)
    if not ok then return nil, message end
    return "new"
  end
  function given.through(socket) context.lend_connect(socket, given.connect) end
end

return context
