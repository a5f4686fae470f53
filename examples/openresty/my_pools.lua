--- The pools of this nginx: one of each per worker. Loaded by init_worker_by_lua_block, used as the global `pools`.
local cueball = require "cueball"

return {
  cache = cueball.pool {
    name = "cache",
    resolver = cueball.resolver.static { "127.0.0.1:6379" },
    connect = cueball.connection.redis { connect_timeout_ms = 500, read_timeout_ms = 1000 },
    max_connections = 10,    -- per worker
    claim_timeout_ms = 1000,
  },
}
