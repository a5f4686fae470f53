--- Finds the primary of a Redis that Sentinel watches, and hears of each failover. (Library: apt install lua-nginx-redis)
--
--   resolver = sentinel { service = "mymaster", sentinels = { "10.0.0.1:26379", "10.0.0.2:26379" } },
--   connect = cueball.connection.redis { role = "primary" },    asks the server itself, too
local cueball = require "cueball"

local function dial(redis, sentinel)
  local client = redis:new()
  client:set_timeouts(1000, 1000, 1000)
  local address, port = sentinel:match "^(.*):(%d+)$"
  local ok, message = client:connect(address, tonumber(port))
  if not ok then return nil, ("%s: %s"):format(sentinel, message) end
  return client
end

return function(options)
  local first = 0

  -- Asks the sentinels in turn, beginning with the next one each time, and stays with the first that answers. It is subscribed to before
  -- it is asked, so that no failover falls in between.
  local function list(sink)
    local redis = cueball.cosocket.load("redis", sink.host)
    local message
    first = first + 1
    for turn = 0, #options.sentinels - 1 do
      local sentinel = options.sentinels[(first + turn - 1) % #options.sentinels + 1]
      local hearing, asking, found
      hearing, message = dial(redis, sentinel)
      if hearing then found, message = hearing:subscribe "+switch-master" end
      if found then asking, message = dial(redis, sentinel) end
      if asking then
        found, message = asking:sentinel("get-master-addr-by-name", options.service)
        asking:close()
        if type(found) == "table" then
          return { { address = found[1], port = tonumber(found[2]), provenance = "the sentinel " .. sentinel } }, hearing
        end
        message = ("%s: %s"):format(sentinel, message or "it knows no " .. options.service)
      end
      if hearing then hearing:close() end
    end
    return nil, message
  end

  -- A message is "SERVICE OLD-IP OLD-PORT NEW-IP NEW-PORT". After a minute of silence another sentinel is asked.
  local function follow(sink, hearing)
    hearing:set_timeouts(1000, 1000, 60000)
    local news, message = hearing:read_reply()
    if not news then
      hearing:close()
      if message == "timeout" then return false end
      return nil, message
    end
    local service, address, port = tostring(news[3]):match "^(%S+) %S+ %S+ (%S+) (%d+)$"
    if service == options.service then sink:set { { address = address, port = tonumber(port), provenance = "a failover" } } end
    return hearing
  end

  return cueball.resolver.watch { name = options.service, list = list, follow = follow }
end
