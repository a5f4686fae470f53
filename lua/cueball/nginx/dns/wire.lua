--- Asks a nameserver over cosockets, with bytes of our own; libcueball reads the response (cueball_dns_answer_read).
--
-- The happy path: a query with EDNS over UDP, from a port of its own, since each question has its own socket, connected to the server, so
-- that nothing from elsewhere comes in; the response with its id and question is read.
-- What can go wrong: it is cut (asked again over TCP), the server will not have EDNS (asked again without), something else comes
-- (passed over: the right one may still come), nothing comes in half of the time, or in a second (asked without EDNS too), or at all
-- (whoever began this ends it at the time limit).
local bit = require "bit"
local native = require "cueball.native"
local lib, ffi = native.lib, native.ffi

local EDNS_SIZE = 1232   -- what goes through everywhere, as in src/dns
local UDP_MAX = 8192     -- the most that a UDP cosocket receives
local HEADER_SIZE = 12
local FLAG_QR, FLAG_TC = 0x80, 0x02
local FORMERR, NOTIMP, BADVERS = 1, 4, 16
local RR_OPT = 41
local ENOMEM = -2
local LABEL_MAX, NAME_MAX = 63, 255
local PLAIN_MS = 1000    -- so long, or half of the time, a server may be silent before it is asked without EDNS too
local GRACE_MS = 1000    -- the question's alarm comes first: nginx would log an error

local wire = {}

local function u16(number)
  return string.char(bit.rshift(number, 8), bit.band(number, 255))
end

-- ------------------------------------------------------------------------ the query --

--- A name as it goes over the wire.
-- @param text "db.example", "a\.b.example", "a\032b."
-- @return bytes; nil: it has an empty label, or too long a one, or is too long
function wire.name(text)
  local out, label, at = {}, {}, 1
  local function end_label()
    if #label == 0 or #label > LABEL_MAX then return false end
    out[#out + 1] = string.char(#label) .. table.concat(label)
    label = {}
    return true
  end
  text = text:gsub("^%.$", "")
  while at <= #text do
    local digits, escaped = text:match("^\\(%d%d%d)", at), text:match("^\\(.)", at)
    if digits then
      if tonumber(digits) > 255 then return nil end
      label[#label + 1], at = string.char(tonumber(digits)), at + 4
    elseif escaped then
      label[#label + 1], at = escaped, at + 2
    elseif text:sub(at, at) == "." then
      if not end_label() then return nil end
      at = at + 1
    else
      label[#label + 1], at = text:sub(at, at), at + 1
    end
  end
  if #label > 0 and not end_label() then return nil end
  local bytes = table.concat(out) .. "\0"
  return #bytes <= NAME_MAX and bytes or nil
end

-- The question section is compared with what comes back.
local function query_of(id, question, with_edns)
  local recursion_desired, opt = "\1\0", "\0\0\41" .. u16(EDNS_SIZE) .. "\0\0\0\0\0\0"
  return u16(id) .. recursion_desired .. "\0\1\0\0\0\0" .. (with_edns and "\0\1" or "\0\0") .. question .. (with_edns and opt or "")
end

-- --------------------------------------------------------------------- the response --

local function rcode_of(bytes)
  return bit.band(bytes:byte(4), 15)
end

local function is_bare(bytes)
  return bytes:sub(5, 6) == "\0\0"
end

-- Is it a response to this query?  Old servers answer what they cannot read with an error and nothing but a header.
local function is_ours(bytes, ids, question)
  if #bytes < HEADER_SIZE or not ids[bytes:sub(1, 2)] or bit.band(bytes:byte(3), FLAG_QR) == 0 then return false end
  if is_bare(bytes) then return rcode_of(bytes) == FORMERR or rcode_of(bytes) == NOTIMP end
  return bytes:sub(HEADER_SIZE + 1, HEADER_SIZE + #question):lower() == question:lower()
end

-- An OPT record with the upper bits of BADVERS: the root, the type, a size, and those.
local function is_bad_version(bytes)
  local at = bytes:find("\0\0" .. string.char(RR_OPT), HEADER_SIZE, true)
  return at ~= nil and rcode_of(bytes) == 0 and bytes:byte(at + 5) == BADVERS / 16
end

-- Is it EDNS that the server will not have (RFC 6891, 7)?
local function refuses_edns(bytes)
  local rcode = rcode_of(bytes)
  return rcode == FORMERR or rcode == NOTIMP or is_bad_version(bytes)
end

local ROOMS = { 8, 150 } -- as many times the answer's length

-- @return a cueball_answer that keeps what it points to while the question lives; or nil, "garbage"
local function read(self, bytes)
  local answer = ffi.new "cueball_answer"
  for _, times in ipairs(ROOMS) do
    local size = 1024 + times * #bytes
    local room = ffi.new("uint64_t[?]", math.ceil(size / 8))
    local result = lib.cueball_dns_answer_read(bytes, #bytes, self.name, self.rr, room, size, answer)
    self.room = room
    if result == 0 then return answer end
    if result ~= ENOMEM then break end
  end
  return nil, "garbage"
end

-- -------------------------------------------------------------------------- asking --

local function silence_of(message)
  if message == "timeout" then return "timeout" end
  return message == "connection refused" and "refused" or "network"
end

-- One exchange of datagrams: what was sent, and what is waited for.
local function send(self, socket, ids, question, with_edns)
  local id = self.dns:random()
  ids[u16(id)] = with_edns and "edns" or "plain"
  return socket:send(query_of(id, question, with_edns))
end

-- A refusal of EDNS that came so late that it has been asked without meanwhile: the answer to that is waited for.
local function is_overtaken(self, bytes, ids)
  return self.is_plain and ids[bytes:sub(1, 2)] == "edns" and refuses_edns(bytes)
end

-- Sends, and waits for the response; where nothing comes for a while, one without EDNS is sent as well.
local function exchange(self, socket, question, with_edns)
  local ids = {}
  local left = self:left_ms()
  if not left then return nil, "timeout" end
  local ok, message = send(self, socket, ids, question, with_edns)
  if not ok then return nil, silence_of(message) end
  -- What is left of the time when it is asked without EDNS too.
  local plain_left = with_edns and math.max(left / 2, left - PLAIN_MS)
  while left do
    if plain_left and left <= plain_left then
      plain_left, self.is_plain = nil, true
      ok, message = send(self, socket, ids, question, false)
      if not ok then return nil, silence_of(message) end
    end
    socket:settimeout(plain_left and math.max(1, left - plain_left) or left + GRACE_MS)
    local bytes
    bytes, message = socket:receive(UDP_MAX)
    if bytes and is_ours(bytes, ids, question) and not is_overtaken(self, bytes, ids) then return bytes end
    if not bytes and message ~= "timeout" then return nil, silence_of(message) end
    left = self:left_ms()
  end
  return nil, "timeout"
end

local function ask_over_udp(self, question)
  local socket = ngx.socket.udp()
  local ok = socket:setpeername(self.host, self.port)
  if not ok then return nil, "network" end
  local bytes, silence = exchange(self, socket, question, true)
  if bytes and not self.is_plain and refuses_edns(bytes) then
    self.is_plain = true
    bytes, silence = exchange(self, socket, question, false)
  end
  socket:close()
  return bytes, silence
end

local function exchange_over_tcp(self, socket, query)
  local ok, message = socket:connect(self.host, self.port)
  if ok then ok, message = socket:send(u16(#query) .. query) end
  local size, bytes
  if ok then size, message = socket:receive(2) end
  if size then bytes, message = socket:receive(size:byte(1) * 256 + size:byte(2)) end
  return bytes, message
end

local function ask_over_tcp(self, question)
  local left = self:left_ms()
  if not left then return nil, "timeout" end
  local id, socket = self.dns:random(), ngx.socket.tcp()
  socket:settimeout(left + GRACE_MS)
  local bytes, message = exchange_over_tcp(self, socket, query_of(id, question, not self.is_plain))
  socket:close()
  if not bytes then return nil, silence_of(message) end
  if not is_ours(bytes, { [u16(id)] = true }, question) then return nil, "garbage" end
  if self.is_plain or not refuses_edns(bytes) then return bytes end
  self.is_plain = true
  return ask_over_tcp(self, question)
end

local function ask(self)
  local question = wire.name(self.name) .. u16(self.rr) .. "\0\1"
  local bytes, silence
  if not self.use_tcp then bytes, silence = ask_over_udp(self, question) end
  local is_cut = bytes and bit.band(bytes:byte(3), FLAG_TC) ~= 0
  if self.use_tcp or is_cut then
    self.is_cut = is_cut
    bytes, silence = ask_over_tcp(self, question)
  end
  if not bytes then return nil, is_cut and silence ~= "garbage" and "cut" or silence end
  -- An error with nothing but a header: there is nothing to read in it.
  if is_bare(bytes) then return ffi.new("cueball_answer", rcode_of(bytes)) end
  return read(self, bytes)
end

local function fault(name)
  return not wire.name(name) and "it is no name that fits into a question" or nil
end

function wire.new()
  return { ask = ask, fault = fault }
end

return wire
