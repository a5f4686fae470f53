--- Cosockets that remember how they are used (cueball.cosocket.use).
--
-- ngx_lua's cosocket is a Lua table with a metatable that all of them share. While a claimer has one, it gets another metatable, whose
-- methods note what happens and call nginx's. So whoever holds it (the claimer, or the client library of his) uses the same table as
-- ever, and nothing has to be handed through. As it is parked it gets its own metatable back.
local descriptor = require "cueball.cosocket.descriptor"
local use = require "cueball.cosocket.use"

local socket = {}

local COSOCKET = debug.getregistry().__tcp_cosocket_mt -- as resty.core.socket finds it
local USE = "cueball_use"                              -- the field of a tracked cosocket that has its cueball.cosocket.use

local Tracked = setmetatable({}, { __index = COSOCKET })
Tracked.__index = Tracked

--- Is it a TCP cosocket?
function socket.is(value)
  if type(value) ~= "table" then return false end
  local meta = getmetatable(value)
  return meta == Tracked or meta ~= nil and meta == COSOCKET
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
  end
  use.lent(known)
  known.descriptor = number
  cosocket[USE] = known
  setmetatable(cosocket, Tracked)
  return known
end

--- Nothing more is noted.
function socket.untrack(cosocket)
  cosocket[USE] = nil
  setmetatable(cosocket, COSOCKET)
end

-- What ngx_lua says if nothing was wrong with the connection.
local function is_refusal(message)
  return message:find("^socket busy") ~= nil or message == "timeout"
end

-- The end of a receive.
local function received(known, data, message, partial)
  if not known then return data, message, partial end -- an iterator that outlived its lease
  if data and data ~= "" and not known.unfinished then -- what follows, written out for what happens most often
    known.has_delivered, known.is_asked = known.was_lent or known.has_delivered, false
    return data, message, partial
  end
  if data then
    if data ~= "" then use.arrived(known) end
    use.received(known)
  elseif message then
    if partial and partial ~= "" then use.arrived(known) end
    if message == "timeout" then use.receive_timed_out(known) end
    if not is_refusal(message) then use.ended(known, "peer", message) end
  end
  return data, message, partial
end

function Tracked:receive(...)
  local known = self[USE]
  if tonumber((...)) == 0 then known = nil end -- it asks for nothing
  return received(known, COSOCKET.receive(self, ...)) -- which tells a nil from nothing
end

function Tracked:receiveany(...)
  return received(self[USE], COSOCKET.receiveany(self, ...))
end

function Tracked:receiveuntil(...)
  local iterator, message = COSOCKET.receiveuntil(self, ...)
  if not iterator then return iterator, message end
  return function(...) return received(self[USE], iterator(...)) end
end

function Tracked:send(...)
  local known = self[USE]
  known.is_asked = true
  if known.unfinished then use.sends(known) end
  local sent, message = COSOCKET.send(self, ...)
  if sent then return sent end
  if message == "timeout" then use.send_timed_out(known) end
  if message and not is_refusal(message) then use.ended(known, "peer", message) end
  return sent, message
end

-- Its claimer closes it, half of it, or parks it without a word to the pool.
for _, name in ipairs { "close", "shutdown", "setkeepalive" } do
  Tracked[name] = function(self, ...)
    local known = self[USE]
    local ok, message = COSOCKET[name](self, ...)
    if ok then use.ended(known, "claimer", "closed") end
    return ok, message
  end
end

function Tracked:connect(...)
  local known = self[USE]
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
function Tracked:is_fit()
  local known = self[USE]
  local message = known.end_message
  if not message and known.descriptor and (known.is_asked or not known.has_delivered) then message = look(known) end
  local kind
  message, kind = use.judge(known, message)
  if message then return nil, message, kind end
  return true
end

--- Why nginx did not park it, in the same words.
-- @param known of socket.track
-- @return message, kind
function socket.not_parked(known, message)
  return use.judge(known, message)
end

--- Has a byte come since it was lent?
function Tracked:has_delivered()
  return self[USE].has_delivered
end

return socket
