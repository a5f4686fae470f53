-- Your own service discovery: a file with a backend on each line, looked at again and again.
--   examples/run examples/resolver.lua
local cueball = require "cueball"
local servers = require "examples.support.servers"

-- A resolver is a function that tells a sink what it knows. This one says the whole list each time; the pool works out
-- what is new and what is gone. It runs in a task of its own, and may throw: the pool logs that and starts it again.
local function file_resolver(path, interval_ms)
  return function(sink)
    local last
    repeat
      local file, message = io.open(path)
      if file then
        local text, list = file:read "*a", {}
        file:close()
        for address, port in text:gmatch "(%S+):(%d+)" do
          list[#list + 1] = { address = address, port = tonumber(port) }
        end
        if text ~= last then sink:set(list) end
        last = text
      else
        sink:fail(message) -- the last known backends stay
        last = nil
      end
    until not sink:sleep(interval_ms) -- false: the pool stops
  end
end

local function write(path, list)
  local file = assert(io.open(path .. ".new", "w"))
  file:write(table.concat(list, "\n"), "\n")
  file:close()
  assert(os.rename(path .. ".new", path)) -- all at once: nobody reads half a list
end

-- Waits until the pool has just these backends, evenly; prints them.
local function show(pool, wanted, connections)
  local backends
  repeat
    cueball.sleep(10)
    local is_settled = true
    backends = pool:backends()
    for _, backend in ipairs(backends) do
      is_settled = is_settled and backend.idle == connections / wanted
    end
  until is_settled and #backends == wanted
  table.sort(backends, function(a, b) return a.key < b.key end)
  for _, backend in ipairs(backends) do print(("  %s: %d connections"):format(backend.key, backend.idle)) end
end

cueball.run(function()
  local one, two, three = servers.start(), servers.start(), servers.start()
  local path = os.tmpname()
  write(path, { one.address, two.address })
  local pool = cueball.pool { resolver = file_resolver(path, 50), connect = cueball.connection.tcp {}, max_connections = 6 }

  print "two lines in the file:"
  show(pool, 2, 6)
  write(path, { one.address, two.address, three.address })
  print "a third line:"
  show(pool, 3, 6)
  write(path, { three.address })
  print "only the third:"
  show(pool, 1, 6)

  pool:stop()
  os.remove(path)
end)
servers.kill_all()
