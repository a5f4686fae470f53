--- Connections to LDAP servers: a connection factory for pools, on libuv and in nginx. examples/ldap.lua uses it.
--
--   local ldap = require "examples.support.ldap"
--   cueball.pool { resolver = …, connect = ldap { dn = "uid=app,dc=example", password = "…", timeout_ms = 2000 } }
--   pool:with(function(directory) return directory:search { base = "dc=example", where = { uid = "ann" } } end)
--
-- A connection counts as open once it is bound: RFC 4511, simple authentication. Its methods return nil, message, name where something went
-- wrong; name is that of RFC 4511 for an error of the server ("invalidCredentials"), else "timeout", "closed" … as sockets have them.
--
-- Messages are encoded and decoded by OpenLDAP's liblber (Debian: apt install libldap-2.5-0): it has met more servers than code of ours.
-- Only its functions on memory are used. They wait for nothing, keep no state but in the element that they are given, and call nothing
-- back, so any loop and any thread may use them. libldap itself is not used: it waits in its own sockets. One request is under way at a
-- time.
local ffi = require "ffi"
local tls = require "cueball.connection.tls"

if not pcall(ffi.typeof, "struct cueball_ldap_text") then ffi.cdef [[
  struct cueball_ldap_text { unsigned long length; char *bytes; };
  void *ber_alloc_t(int options);
  int ber_printf(void *element, const char *format, ...);
  int ber_flatten2(void *element, struct cueball_ldap_text *text, int is_copied);
  void *ber_init(struct cueball_ldap_text *text);
  unsigned long ber_scanf(void *element, const char *format, ...);
  unsigned long ber_peek_tag(void *element, unsigned long *length);
  unsigned long ber_first_element(void *element, unsigned long *length, char **last);
  unsigned long ber_next_element(void *element, unsigned long *length, const char *last);
  void ber_free(void *element, int with_buffer);
]] end

local SONAMES = { "liblber-2.5.so.0", "liblber.so.2", "liblber-2.4.so.2" } -- of OpenLDAP 2.5, 2.6, 2.4
local MESSAGE_MAX = 16 * 1024 * 1024 -- bytes of an answer: a server that says more is not believed

local SEARCH_ENTRY, SEARCH_DONE, SEARCH_REFERENCE, BIND_DONE, EXTENDED_DONE = 0x64, 0x65, 0x73, 0x61, 0x78
local WHO_AM_I, START_TLS, DISCONNECTION = "1.3.6.1.4.1.4203.1.11.3", "1.3.6.1.4.1.1466.20037", "1.3.6.1.4.1.1466.20036"
local SCOPES = { base = 0, one = 1, all = 2 }

local NAMES = {
  [1] = "operationsError", [2] = "protocolError", [3] = "timeLimitExceeded", [4] = "sizeLimitExceeded", [8] = "strongerAuthRequired",
  [10] = "referral", [11] = "adminLimitExceeded", [13] = "confidentialityRequired", [16] = "noSuchAttribute", [32] = "noSuchObject",
  [34] = "invalidDNSyntax", [48] = "inappropriateAuthentication", [49] = "invalidCredentials", [50] = "insufficientAccessRights",
  [51] = "busy", [52] = "unavailable", [53] = "unwillingToPerform", [80] = "other",
}
local OF_THE_SERVER = { busy = true, unavailable = true } -- evidence against it; all else is about what was asked

-- ------------------------------------------------------------------- messages --

local found

local function liblber()
  if found then return found end
  for _, name in ipairs(SONAMES) do
    local ok, library = pcall(ffi.load, name)
    if ok then
      found = library
      return library
    end
  end
  return nil, "LDAP needs liblber of OpenLDAP, which could not be loaded: apt install libldap-2.5-0"
end

local function int(value) return ffi.cast("int", value) end
local function tag(value) return ffi.cast("unsigned long", value) end
local function octets(text) return ffi.cast("const char *", text), ffi.cast("unsigned long", #text) end
local NONE = ffi.cast("unsigned long", -1LL) -- LBER_DEFAULT: what is no tag
local function free(element) found.ber_free(element, 1) end

local Request = {}
Request.__index = Request

-- @param operation the tag of what is asked
local function request(id, operation)
  local element = ffi.gc(found.ber_alloc_t(1), free)
  return setmetatable({ element = element }, Request):put("{it", int(id), tag(operation))
end

function Request:put(format, ...)
  assert(found.ber_printf(self.element, format, ...) >= 0, "LDAP: the message could not be encoded")
  return self
end

function Request:text(text) return self:put("o", octets(text)) end
function Request:tagged(number, text) return self:put("to", tag(number), octets(text)) end

function Request:bytes()
  local text = ffi.new "struct cueball_ldap_text"
  self:put "}"
  assert(found.ber_flatten2(self.element, text, 0) == 0)
  return ffi.string(text.bytes, text.length)
end

local function read(element, format, ...)
  return found.ber_scanf(element, format, ...) ~= NONE
end

local function string_of(text) return ffi.string(text.bytes, text.length) end

-- fn() at each element of what follows in `element`.
local function each(element, fn)
  local length, last = ffi.new "unsigned long[1]", ffi.new "char *[1]"
  local present = found.ber_first_element(element, length, last)
  while present ~= NONE do
    if not fn() then return false end
    present = found.ber_next_element(element, length, last[0])
  end
  return true
end

-- An entry that was found: { dn =, attribute = { values } }.
local function entry_in(element)
  local text, name, entry = ffi.new "struct cueball_ldap_text", ffi.new "struct cueball_ldap_text", {}
  if not read(element, "{m", text) then return nil end
  entry.dn = string_of(text)
  local is_whole = each(element, function()
    if not read(element, "{m", name) then return false end
    local key, values = string_of(name), {}
    entry[key] = values
    return each(element, function()
      if not read(element, "m", text) then return false end
      values[#values + 1] = string_of(text)
      return true
    end)
  end)
  return is_whole and entry or nil
end

-- A result: { name =, code =, message = the server's diagnostic, value = of an extended answer, oid = the same }.
local function result_in(element, operation)
  local code, dn, diagnostic = ffi.new "int[1]", ffi.new "struct cueball_ldap_text", ffi.new "struct cueball_ldap_text"
  if not read(element, "{emm", code, dn, diagnostic) then return nil end
  local result = { code = code[0], name = NAMES[code[0]] or "code " .. code[0], message = string_of(diagnostic) }
  local text, length = ffi.new "struct cueball_ldap_text", ffi.new "unsigned long[1]"
  while operation == EXTENDED_DONE do
    local number = tonumber(found.ber_peek_tag(element, length))
    if number ~= 0x8a and number ~= 0x8b then break end
    if not read(element, "m", text) then return nil end
    result[number == 0x8a and "oid" or "value"] = string_of(text)
  end
  return result
end

-- ------------------------------------------------------------------ connections --

local Connection = {}
Connection.__index = Connection

-- The connection is out of step from here on: nobody is to have it again.
local function broke(self, message, kind, name)
  self.message, self.kind = message, kind
  return nil, message, name or "closed"
end

local NO_LDAP = "it speaks no LDAP"

-- @return the bytes of the next message; or nil, message, and true if it is no error of the socket's
local function receive_bytes(self)
  local socket = self.socket
  local head, message = socket:receive(2)
  if not head then return nil, message end
  if head:byte(1) ~= 0x30 then return nil, NO_LDAP, true end
  local length, more = head:byte(2), ""
  if length > 0x80 and length <= 0x84 then
    more, message = socket:receive(length - 0x80)
    if not more then return nil, message end
    length = 0
    for index = 1, #more do length = length * 256 + more:byte(index) end
  elseif length >= 0x80 then
    return nil, NO_LDAP, true
  end
  if length == 0 then return nil, NO_LDAP, true end
  if length > MESSAGE_MAX then return nil, ("its answer has %.0f bytes"):format(length), true end
  local body
  body, message = socket:receive(length)
  if not body then return nil, message end
  return head .. more .. body
end

-- The next answer to request `id`.
-- @return its operation, and the element that is at it; or nil, message, name
local function receive(self, id)
  local bytes, message, is_strange = receive_bytes(self)
  if not bytes and is_strange then return broke(self, message, "lost") end
  if not bytes then return broke(self, message, nil, message) end -- the socket knows whose doing it is
  local text = ffi.new("struct cueball_ldap_text", #bytes, ffi.cast("char *", bytes))
  local element, number = ffi.gc(found.ber_init(text), free), ffi.new "int[1]" -- which copies the text
  if not read(element, "{i", number) then return broke(self, "its answer is no message", "lost") end
  local operation = tonumber(found.ber_peek_tag(element, ffi.new "unsigned long[1]"))
  if number[0] == 0 then -- nobody asked
    local result = result_in(element, operation)
    if not result or result.oid ~= DISCONNECTION then return broke(self, "it sent what nobody asked for", "lost") end
    return broke(self, ("notice of disconnection: %s (%s)"):format(result.name, result.message), "lost")
  elseif number[0] ~= id then
    return broke(self, "it answered another request", "lost")
  end
  return operation, element
end

local function send(self, made)
  if self.message then return nil, self.message, "closed" end -- it broke before
  local ok, message = self.socket:send(made:bytes())
  if not ok then return broke(self, message, nil, message) end
  return true
end

local function next_id(self)
  self.id = self.id + 1
  return self.id
end

-- What a result says: true, the result; or nil, message, name.
local function judged(self, what, result)
  if not result then return broke(self, what .. ": its answer is no result", "lost") end
  if result.code == 0 then return true, result end
  local message = ("%s: %s (%d)%s"):format(what, result.name, result.code, result.message ~= "" and ": " .. result.message or "")
  if OF_THE_SERVER[result.name] then broke(self, message, "lost") end
  return nil, message, result.name
end

-- One request with one result.
local function ask(self, what, id, made, expected)
  local ok, message, name = send(self, made)
  if not ok then return nil, what .. ": " .. message, name end
  local operation, element
  operation, element, name = receive(self, id)
  if not operation then return nil, what .. ": " .. element, name end
  if operation ~= expected then return broke(self, what .. ": it answered something else", "lost") end
  return judged(self, what, result_in(element, operation))
end

local function bind(self, dn, password)
  local id = next_id(self)
  local made = request(id, 0x60):put("{i", int(3)):text(dn):tagged(0x80, password):put "}"
  return ask(self, "bind", id, made, BIND_DONE)
end

local function extended(self, what, oid)
  local id = next_id(self)
  return ask(self, what, id, request(id, 0x77):put "{":tagged(0x80, oid):put "}", EXTENDED_DONE)
end

--- Who the server takes this connection for: "dn:uid=app,dc=example".
function Connection:whoami()
  local ok, result, name = extended(self, "whoami", WHO_AM_I)
  if not ok then return nil, result, name end
  return result.value or ""
end

--- Is that somebody's password? The connection is bound as before afterwards.
-- @return true; false, message where the server says no; or nil, message, name
function Connection:verify(dn, password)
  if password == "" then return false, "verify: an empty password proves nothing" end -- RFC 4513, 5.1.2: it would be an anonymous bind
  self.is_foreign = true
  local ok, message, name = bind(self, dn, password)
  local own, why = self.ask_password()
  self.is_foreign = not own or not bind(self, self.dn, own)
  if not own then return nil, why, "closed" end
  if ok then return true end
  if name == "invalidCredentials" then return false, message end
  return nil, message, name
end

local function put_where(made, where)
  made:put("t{", tag(0xa0)) -- all of
  for name, value in pairs(where) do
    if value == true then
      made:tagged(0x87, name)
    else
      made:put("t{", tag(0xa3)):text(name):text(tostring(value)):put "}"
    end
  end
  return made:put "}"
end

--- Finds entries.
-- @param given base ("" by default: with scope = "base", the root DSE), where = { attribute = value, or true: it has one };
--   scope = "all" (the default), "one" (level below), "base"; attributes = { names }, all by default; limit = number of entries
-- @return list of { dn =, attribute = { values } }; or nil, message, name
function Connection:search(given)
  local scope = SCOPES[given.scope or "all"] or error("search: the scope must be all, one or base", 2)
  local id = next_id(self)
  local made = request(id, 0x63):put "{":text(given.base or "")
  made:put("eeiib", int(scope), int(0), int(given.limit or 0), int(0), int(0))
  put_where(made, given.where or { objectClass = true }):put "{"
  for _, name in ipairs(given.attributes or {}) do made:text(name) end
  local ok, message, name = send(self, made:put "}}")
  if not ok then return nil, "search: " .. message, name end
  local list = {}
  while true do
    local operation, element
    operation, element, name = receive(self, id)
    if not operation then return nil, "search: " .. element, name end
    if operation == SEARCH_DONE then
      ok, message, name = judged(self, "search", result_in(element, operation))
      if not ok and not (given.limit and name == "sizeLimitExceeded") then return nil, message, name end
      return list
    elseif operation == SEARCH_ENTRY then
      local entry = entry_in(element)
      if not entry then return broke(self, "search: its answer is no entry", "lost") end
      list[#list + 1] = entry
    elseif operation ~= SEARCH_REFERENCE then
      return broke(self, "search: it answered something else", "lost")
    end
  end
end

-- ---------------------------------------------------------------------- factory --

local function set_limits(self, ms)
  ms = math.max(1, ms - ms % 1)
  self.socket:settimeouts(ms, ms, ms)
end

local function secure(self, settings, backend, context, deadline)
  local ok, message = true, nil
  if settings.starttls then ok, message = extended(self, "StartTLS", START_TLS) end
  if ok then ok, message = tls.secure(self.socket, settings.tls, backend, context, deadline) end
  return ok, message
end

-- All of it is connecting, and ends when that is to end.
local function log_in(self, settings, backend, context, deadline)
  local password, ok, message
  if settings.tls then
    ok, message = secure(self, settings, backend, context, deadline)
    if not ok then return nil, message end
  end
  password, message = self.ask_password()
  if not password then return nil, message end
  set_limits(self, (deadline - context.host.now()) / 1e6)
  ok, message = bind(self, self.dn, password)
  if not ok then return nil, settings.tls and tls.explained(message) or message end
  tls.keep(self.socket) -- its session, for the next one
  return true
end

local function close(self)
  local socket = self.socket
  if not self.message then socket:send(request(next_id(self), 0x42):put "n":bytes()) end -- unbind; nobody answers
  if socket.abort then socket:abort() else socket:close() end
end

local function connect(settings, backend, context)
  local library, missing = liblber()
  if not library then return nil, missing end
  local self = setmetatable({ socket = context.host.tcp(), id = 0, dn = settings.dn, is_foreign = false }, Connection)
  function self.ask_password() return context.secret("password", settings.password) end
  local deadline = context.host.now() + context.timeout_ms * 1e6
  set_limits(self, context.timeout_ms)
  local how, message = context.connect(self.socket)
  if not how then return nil, message end
  if how == "new" then -- else, in nginx, it was parked, and is bound
    local ok
    ok, message = log_in(self, settings, backend, context, deadline)
    if not ok then
      self.socket:close()
      return nil, message
    end
  end
  set_limits(self, settings.timeout_ms or 5000)
  return self
end

local function broken(self)
  if self.message then return self.message, self.kind end
  if self.is_foreign then return "left bound as another", "unfit" end
  return nil
end

--- Makes a connection factory.
-- @param given dn, password (a string, or function(backend, context) → string; or nil, message); timeout_ms of each send and receive,
--   5000 by default; tls = true or a table (docs/tls.md), from the first byte on, or, with starttls = true, once the server agreed
return function(given)
  local settings = {
    dn = given.dn, password = given.password, timeout_ms = given.timeout_ms, starttls = given.starttls,
    tls = tls.read("ldap", given.tls or given.starttls),
  }
  return {
    fault = settings.tls and function(host) return tls.fault(settings.tls, host) end or nil,
    connect = function(backend, context) return connect(settings, backend, context) end,
    close = close,
    park = function(self, idle_ms) return self.socket:setkeepalive(idle_ms) end,
    -- Idle ones are asked who they are: a server that answers that has them bound still.
    check = function(self)
      local who, message = self:whoami()
      if not who then return false, message end
      return who ~= "", "it is not bound any more"
    end,
    broken = broken,
    evidence = function(self)
      if self.kind == "lost" then return self.message, "lost" end
      return nil
    end,
    watch = function(self, lost)
      if self.socket.watch then self.socket:watch(lost) end
    end,
    unwatch = function(self)
      if self.socket.unwatch then self.socket:unwatch() end
    end,
  }
end
