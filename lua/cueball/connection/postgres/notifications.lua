--- NOTIFY: what others have sent to the channels that a connection listens to. They come at any time, during queries too, and are kept in
-- the connection's inbox until somebody takes them.
local exchange = require "cueball.connection.postgres.exchange"
local misuse = require "cueball.misuse"
local text_of = require "cueball.text"

local notifications = {}

-- Some were dropped: whoever relies on them has to look for itself.
local function overflowed(inbox)
  local lost = inbox:take_lost()
  return nil, ("%d notifications were lost: more than %d waited to be taken"):format(lost, inbox.limit), "overflow"
end

local function taken(conn)
  local inbox = conn.inbox
  local one = inbox:take()
  if one then return one end
  if inbox.lost > 0 then return overflowed(inbox) end
end

local function wait(conn, deadline)
  while true do
    local ok, message, name = exchange.await(conn, deadline)
    local one, why, how = taken(conn)
    if one or why then return one, why, how end
    if not ok then return nil, message, name end
    if conn.is_lost then return exchange.broken(conn) end
  end
end

local function is_limit(value)
  return type(value) == "number" and value >= 0
end

--- Methods of connections.
function notifications.install(Connection)
  --- Waits for a notification, unless one has come already.
  -- @param timeout_ms nil: the time limit of queries; math.huge: none
  -- @return { channel =, payload =, pid = }; or nil, message, name: "timeout", "closed", "overflow"
  function Connection:wait_notification(timeout_ms)
    if timeout_ms ~= nil and not is_limit(timeout_ms) then
      misuse.raise("conn:wait_notification: expected a number of milliseconds from 0, got " .. text_of.show(timeout_ms))
    end
    local one, message, name = taken(self)
    if one or message then return one, message, name end
    local ok
    ok, message, name = exchange.begin(self, "wait_notification")
    if not ok then return nil, message, name end
    one, message, name = wait(self, exchange.deadline(self, timeout_ms or self.query_ms))
    exchange.finish(self)
    return one, message, name
  end

  --- Takes the notifications that have come, without waiting.
  -- @return a list, perhaps empty; how many were lost before
  function Connection:notifications()
    if self.pg and not self.operation then exchange.consume(self) end
    local list, one = {}, self.inbox:take()
    while one do
      list[#list + 1] = one
      one = self.inbox:take()
    end
    return list, self.inbox:take_lost()
  end
end

return notifications
