--- A pool for as long as a function runs, on libuv: run_pool(options, fn). fn(pool) is called in a task; what it throws is raised here,
-- once the pool has stopped.
local cueball = require "cueball"
local host = require "cueball.host.uv"

return function(options, fn)
  host.run(function()
    local pool = cueball.pool(options)
    local ok, message = xpcall(fn, debug.traceback, pool)
    pool:stop()
    if not ok then error(message, 0) end
  end)
end
