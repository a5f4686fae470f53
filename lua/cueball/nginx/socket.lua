--- Cosockets that remember how they are used (cueball.cosocket.use).
--
-- ngx_lua's cosocket is a Lua table with a metatable that all of them share. While a claimer has one, it gets another metatable, whose
-- methods note what happens and call nginx's. So whoever holds it (the claimer, or its client library) uses the same table as
-- ever, and nothing has to be handed through. As it is parked it gets its own metatable back.
local descriptor = require "cueball.cosocket.descriptor"
local use = require "cueball.cosocket.use"

local socket = {}

local COSOCKET = debug.getregistry().__tcp_cosocket_mt -- as resty.core.socket finds it
local receive, send, setkeepalive = COSOCKET.receive, COSOCKET.send, COSOCKET.setkeepalive
local getmetatable, setmetatable, type = getmetatable, setmetatable, type

-- A tracked cosocket has its cueball.cosocket.use at 0, where ngx_lua has nothing: it counts from 1. Most leases send and receive, and
-- nothing goes wrong: of those only `latest` is noted, what was done last, as few steps count here. `settle` tells the rest from it.
local SENT, RECEIVED = "sent", "received"

-- The methods of a cosocket with which nothing went wrong in this lease.
local Tracked = setmetatable({}, { __index = COSOCKET })
Tracked.__index = Tracked

-- The methods of one with which something did, so that all has to be noted.
local Doubtful = setmetatable({}, { __index = Tracked })
Doubtful.__index = Doubtful

-- The methods of one whose lease has a deadline. All is noted there, too.
local Limited = setmetatable({}, { __index = Doubtful })
Limited.__index = Limited

--- Is it a TCP cosocket?
function socket.is(value)
  if type(value) ~= "table" then return false end
  local meta = getmetatable(value)
  return meta == Tracked or meta ~= nil and (meta == COSOCKET or meta == Doubtful or meta == Limited)
end

-- A cosocket is a table with its time limits at 2, 4 and 5. Asked once: another version of ngx_lua may have it otherwise.
local is_as_known

local function find_out()
  local made, count = ngx.socket.tcp(), 0
  made:settimeouts(11, 12, 13)
  for _ in next, made do count = count + 1 end
  is_as_known = count == 3 and made[2] == 11 and made[4] == 12 and made[5] == 13 and getmetatable(made) == COSOCKET
end

--- What ngx.socket.tcp() and settimeouts make, without these two: LuaJIT compiles no calls of C functions.
-- @param connect_ms, send_ms, read_ms whole numbers of milliseconds
function socket.limited(connect_ms, send_ms, read_ms)
  if is_as_known == nil then find_out() end
  if is_as_known then
    return (setmetatable({ nil, connect_ms, nil, send_ms, read_ms, nil, nil, [0] = false }, COSOCKET))
  end
  local made = ngx.socket.tcp()
  made:settimeouts(connect_ms, send_ms, read_ms)
  return made
end

-- What `latest` stands for.
local function settle(known)
  local latest = known.latest
  if latest == RECEIVED then
    known.has_delivered, known.is_asked = true, false
  elseif latest == SENT then
    known.is_asked = true
  end
  known.latest = nil
  return known
end

-- From now on all is noted.
local function doubt(cosocket)
  if getmetatable(cosocket) ~= Limited then setmetatable(cosocket, Doubtful) end
  return settle(cosocket[0])
end

--- A claimer has it: from now on what is done with it is noted.
-- @param known what is known of the connection if it was parked before, or nil
-- @param number of its descriptor, as far as is known
-- @param how "reused" or "new", if that is known
-- @return what is known of it now
function socket.track(cosocket, known, number, how)
  if not known or how == "new" or how == nil and cosocket:getreusedtimes() == 0 then
    known = use.new()
    use.pooled(known)
    use.lent(known)
  end
  known.descriptor = number
  cosocket[0] = known
  setmetatable(cosocket, Tracked)
  return known
end

--- Nothing more is noted.
function socket.untrack(cosocket)
  cosocket[0] = nil
  setmetatable(cosocket, COSOCKET)
end

--- Parks a tracked cosocket, for ever: what untrack and setkeepalive(0) do. It must be its own request that calls this.
-- @return 1; or nil, message
function socket.park(cosocket)
  cosocket[0] = nil
  setmetatable(cosocket, COSOCKET)
  local parked, message = setkeepalive(cosocket, 0) -- no tail call: LuaJIT goes on behind it
  return parked, message
end

-- What ngx_lua says if nothing was wrong with the connection.
local function is_refusal(message)
  return message:find("^socket busy") ~= nil or message == "timeout"
end

-- The end of a receive, unless it is the usual one.
local function received(cosocket, data, message, partial)
  local known = cosocket[0]
  if not known then return data, message, partial end -- an iterator that outlived its lease
  settle(known)
  if data then
    if data ~= "" then use.arrived(known) end
    use.received(known)
  elseif message then
    doubt(cosocket)
    if partial and partial ~= "" then use.arrived(known) end
    if message == "timeout" then use.receive_timed_out(known) end
    if not is_refusal(message) then use.ended(known, "peer", message) end
  end
  return data, message, partial
end

function Doubtful:receive(what, ...)
  if tonumber(what) == 0 then return receive(self, what, ...) end
  if what == nil then return received(self, receive(self)) end
  return received(self, receive(self, what, ...))
end

-- In the usual case: as few steps as can be, as it is called for each piece of an answer.
function Tracked:receive(what, extra)
  if extra ~= nil then return Doubtful.receive(self, what, extra) end -- nginx says what it thinks of that
  local data, message, partial
  if what == nil then
    data, message, partial = receive(self)
  else
    data, message, partial = receive(self, what)
  end
  if data and data ~= "" then
    local known = self[0]
    if known then known.latest = RECEIVED end
    return data
  end
  if tonumber(what) == 0 then return data, message, partial end -- it asks for nothing
  return received(self, data, message, partial)
end

function Tracked:receiveany(...)
  return received(self, COSOCKET.receiveany(self, ...))
end

function Tracked:receiveuntil(...)
  local iterator, message = COSOCKET.receiveuntil(self, ...)
  if not iterator then return iterator, message end
  return function(...) return received(self, iterator(...)) end
end

-- The end of a send that was not done.
local function not_sent(cosocket, sent, message)
  local known = doubt(cosocket)
  if message == "timeout" then use.send_timed_out(known) end
  if message and not is_refusal(message) then use.ended(known, "peer", message) end
  return sent, message
end

function Doubtful:send(...)
  use.sends(self[0])
  local sent, message = send(self, ...)
  if sent then return sent end
  return not_sent(self, sent, message)
end

function Tracked:send(...)
  local known = self[0]
  if known.latest == RECEIVED then known.has_delivered = true end
  known.latest = SENT
  local sent, message = send(self, ...)
  if sent then return sent end
  return not_sent(self, sent, message)
end

-- The claimer closes the socket, or half of it, or parks it by itself, without telling the pool.
for _, name in ipairs { "close", "shutdown", "setkeepalive" } do
  Tracked[name] = function(self, ...)
    local ok, message = COSOCKET[name](self, ...)
    if ok then use.ended(doubt(self), "claimer", "closed") end
    return ok, message
  end
end

function Tracked:connect(...)
  local known = doubt(self)
  known.is_foreign = known.is_pooled
  return COSOCKET.connect(self, ...)
end

-- What the kernel knows of it. Asked only where it matters whether something came: nginx looks by itself as it parks.
local function look(known)
  local found = descriptor.look(known.descriptor)
  if not found then return nil end
  if found == "data" then
    use.arrived(known)
    return use.UNREAD
  end
  use.ended(known, "peer", found)
  return found
end

--- As a socket of other hosts.
-- @return true; or nil, message, kind
function Doubtful:is_fit()
  local known = settle(self[0])
  local message = known.end_message
  if not message and known.descriptor and (known.is_asked or not known.has_delivered) then message = look(known) end
  local kind
  message, kind = use.judge(known, message)
  if message then return nil, message, kind end
  return true
end

function Tracked:is_fit()
  if self[0].latest == RECEIVED then return true end
  return Doubtful.is_fit(self)
end

--- Is this tracked cosocket fit, without a look at the kernel? false: is_fit may find that it is nevertheless.
function socket.is_fit(cosocket)
  return getmetatable(cosocket) == Tracked and cosocket[0].latest == RECEIVED
end

--- Why nginx did not park it, in the same words.
-- @param known of socket.track
-- @return message, kind
function socket.not_parked(known, message)
  return use.judge(settle(known), message)
end

-- ---------------------------------------------------------------- deadlines --

local DEFAULT_MS = 60000 -- nginx's own time limits, where none was set

-- Sets nginx's time limits to the claimer's, cut to what is left of the lease; 1 ms at least, as nginx takes 0 for its own.
local function cut(self)
  local known = self[0]
  if not known then return end -- an iterator that outlived its lease
  local left = math.max(1, math.ceil((known.deadline - known.now()) / 1e6))
  local own = known.own_limits
  COSOCKET.settimeouts(self, math.min(own.connect, left), math.min(own.send, left), math.min(own.read, left))
end

--- What waits in it waits until then at most, however long its own limits are, until its lease ends. nginx counts anew with each piece of
-- an answer that comes: a receive that takes several may last longer.
-- @param at nanoseconds as host.now() counts
-- @param now host.now
function Tracked:limit(at, now)
  if is_as_known == nil then find_out() end
  local known = doubt(self)
  local is_known = is_as_known
  known.deadline, known.now = at, now
  known.own_limits = {
    connect = is_known and self[2] or DEFAULT_MS, send = is_known and self[4] or DEFAULT_MS, read = is_known and self[5] or DEFAULT_MS,
  }
  setmetatable(self, Limited)
end

function Limited:settimeouts(connect_ms, send_ms, read_ms)
  COSOCKET.settimeouts(self, connect_ms, send_ms, read_ms) -- which says what is no time
  self[0].own_limits = { connect = connect_ms or DEFAULT_MS, send = send_ms or DEFAULT_MS, read = read_ms or DEFAULT_MS }
end

function Limited:settimeout(ms)
  COSOCKET.settimeout(self, ms)
  self[0].own_limits = { connect = ms or DEFAULT_MS, send = ms or DEFAULT_MS, read = ms or DEFAULT_MS }
end

for _, name in ipairs { "connect", "send", "receive", "receiveany", "sslhandshake" } do
  Limited[name] = function(self, ...)
    cut(self)
    return Doubtful[name](self, ...)
  end
end

function Limited:receiveuntil(...)
  local iterator, message = Doubtful.receiveuntil(self, ...)
  if not iterator then return iterator, message end
  return function(...)
    cut(self)
    return iterator(...)
  end
end

--- As a socket of other hosts.
function Tracked:expected_nothing()
  use.expected_nothing(settle(self[0]))
end

--- Has a byte come since it was lent?
function Tracked:has_delivered()
  return settle(self[0]).has_delivered
end

return socket
