--- The two handlers that are compared, and what they count. Set up by main.lua in each worker.
local cueball = require "cueball"
local found, redis = pcall(require, "resty.redis")
if not found then redis = require "nginx.redis" end

local handlers = {}

--- @param given { backends = { "IP:PORT", … }, max_connections =, claim_timeout_ms =, scope = max_connections_scope, own_options = }
function handlers.setup(given)
  local pool = cueball.pool {
    name = "bench", resolver = cueball.resolver.static(given.backends), max_connections = given.max_connections,
    claim_timeout_ms = given.claim_timeout_ms, max_connections_scope = given.scope, max_connections_dict = given.scope and "cueball",
    connect = cueball.connection.redis { connect_timeout_ms = 1000, read_timeout_ms = 1000 },
  }
  handlers.pool = pool

  local function get(red) return red:get "key" end

  --- GET through cueball.
  function handlers.cueball()
    local value, message = pool:with(get)
    if not value then return ngx.exit(503, message) end
    ngx.print(value)
  end

  local addresses = {}
  for index, backend in ipairs(given.backends) do
    local address, port = backend:match "^(.*):(%d+)$"
    addresses[index] = { address = address, port = tonumber(port) }
  end
  local options, turn = given.own_options, 0

  --- The same with the library's own keepalive, backends in turn: as its manual says.
  function handlers.own()
    turn = turn % #addresses + 1
    local backend = addresses[turn]
    local red = redis:new()
    red:set_timeout(1000)
    local ok = red:connect(backend.address, backend.port, options)
    if not ok then return ngx.exit(503) end
    local value = red:get "key"
    if not value then
      red:close()
      return ngx.exit(503)
    end
    red:set_keepalive(60000, given.max_connections)
    ngx.print(value)
  end

  --- No Redis at all: what a request costs anyway.
  function handlers.nothing()
    ngx.print "value"
  end

  --- µs of a claim and a release alone, in one request that takes and parks; and of connect and set_keepalive alone.
  function handlers.micro()
    local count = 100000
    local function run(fn)
      for _ = 1, count / 10 do fn() end
      local begun = cueball.host().now()
      for _ = 1, count do fn() end
      return (cueball.host().now() - begun) / count / 1000
    end
    local address = addresses[1]
    local ours = run(function() pool:claim():release() end)
    local theirs = run(function()
      local red = redis:new()
      red:set_timeout(1000)
      red:connect(address.address, address.port)
      red:set_keepalive(60000, 100)
    end)
    ngx.say(ours, " ", theirs)
  end
end

return handlers
