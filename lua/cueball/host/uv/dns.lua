--- host.dns on libuv: questions through c-ares (src/dns), its sockets watched by
-- luv's loop.  The contract is in docs/hosts.md.
--
-- The happy path: ask() gives the question to the library, pump() watches the
-- socket that it opened; when that is ready the library reads it, and drain()
-- hands the answer to whoever asked.  One timer is set to the next time limit.
-- What the library wants closed is closed once its poll handle is.  Handles are
-- there only while something is asked, so that nothing keeps the loop alive.
local ffi = require "ffi"
local native = require "cueball.native"
local system = require "cueball.dns.system"
local log = require "cueball.log"

local lib = native.lib

local TIMEOUT_MS_MAX = 0x7fffffff
local FAMILIES_LAST_NS = 60e9
local SILENCES = { [0] = "timeout", "network", "garbage", "refused", "cut", "local" }
local NOT_BUILT = "this build of cueball has no DNS: it was made without c-ares (-DCUEBALL_DNS=OFF)"
local ENOMEM = -2
local IPV4, IPV6 = 1, 2

local Dns = {}
Dns.__index = Dns

-- The library's client, made when first needed. → or nil, message
local function client_of(self)
  if self.client then return self.client end
  -- A function that the library does not have is an error when it is looked up.
  if not pcall(function() return lib.cueball_dns_new end) then return nil, NOT_BUILT end
  local box = ffi.new "cueball_dns *[1]"
  if lib.cueball_dns_new(box) ~= 0 then return nil, "out of memory" end
  self.client = ffi.gc(box[0], lib.cueball_dns_free)
  return self.client
end

local function stop_timer(self)
  if not self.timer then return end
  self.timer:close()
  self.timer = nil
end

local function rearm(self)
  local ms = lib.cueball_dns_timeout_ms(self.client)
  if ms < 0 then return stop_timer(self) end
  self.timer = self.timer or self.uv.new_timer()
  self.uv.update_time()   -- libuv counts from the time it has cached
  self.timer:start(math.min(math.ceil(ms), TIMEOUT_MS_MAX), 0, self.on_time)
end

-- → whether a watcher has it
local function watch(self, fd, is_readable, is_writable)
  local poll = self.polls[fd]
  if not poll then
    local ok, made = pcall(self.uv.new_poll, fd)
    if not ok or not made then return false end
    poll = made
    self.polls[fd] = poll
  end
  -- With "p", a socket with nothing but an error is told of like one that is ready. Without, luv writes a line to
  -- stderr before it tells; it still does if a TCP connection is refused.
  local events = (is_readable and "r" or "") .. (is_writable and "w" or "") .. "p"
  poll:start(events, function(err, ready)
    if self.polls[fd] ~= poll then return end
    -- An error is c-ares's to find, whichever way it looks.
    local all = err ~= nil
    self:ready(fd, all or ready:find("r", 1, true) ~= nil, all or ready:find("w", 1, true) ~= nil)
  end)
  return true
end

local function unwatch(self, fd)
  local poll = self.polls[fd]
  if poll then
    self.polls[fd] = nil
    poll:close()   -- which takes it out of epoll at once; the number may be used again
  end
  lib.cueball_dns_socket_released(self.client, fd)
end

-- Does what the library wants watched and not watched, and sets the timer.
local function pump(self)
  local client, socket = self.client, self.socket
  while lib.cueball_dns_next_socket(client, socket) do
    if socket.is_closing then
      unwatch(self, socket.fd)
    elseif not watch(self, socket.fd, socket.is_readable_wanted, socket.is_writable_wanted) then
      -- Out of descriptors or memory: the question's time limit will end it.
      log.say(self.host, "warn", ("dns: libuv cannot watch socket %d"):format(socket.fd), "dns_faulty", { cause = "watch" })
    end
  end
  rearm(self)
end

-- Hands out the replies.  Outside of any task.
local function drain(self)
  local reply = self.reply
  while lib.cueball_dns_next_reply(self.client, reply) do
    local id = tonumber(reply.user)
    local done = self.asked[id]
    self.asked[id] = nil
    if done and reply.silence < 0 then
      self.tasks:call(done, reply.answer)
    elseif done then
      self.tasks:call(done, nil, SILENCES[reply.silence])
    end
  end
end

function Dns:ready(fd, is_readable, is_writable)
  lib.cueball_dns_socket_ready(self.client, fd, is_readable, is_writable)
  pump(self)
  drain(self)
end

local function ask(self, server, name, rr, timeout_ms, done, use_tcp)
  local client, message = client_of(self)
  if not client then return nil, message end
  local id = self.last_id + 1
  local result = lib.cueball_dns_ask(client, server, name, rr, timeout_ms, use_tcp and 1 or 0, id)
  if result == ENOMEM then return nil, "out of memory" end
  if result ~= 0 then
    return nil, ("cannot ask %s for %s within %s ms: expected IP:PORT, a name of at most 253 octets and a time limit above 0")
      :format(server, name, tostring(timeout_ms))
  end
  self.last_id = id
  self.asked[id] = done
  pump(self)
  -- The question may have failed at once, and then no event would tell.
  self.tasks:defer(self.on_turn)
  return id
end

local function forget(self, id)
  if not self.asked[id] then return end
  self.asked[id] = nil
  lib.cueball_dns_forget(self.client, id)
  pump(self)
end

-- An address that reaches no further than this machine or its cable is no reason to ask for AAAA.
local function reaches_far(ip)
  ip = ip:lower()
  return ip ~= "::1" and not ip:find "^fe[89ab]"
end

local function families(self)
  local now = self.host.now()
  if self.families and now - self.families_at < FAMILIES_LAST_NS then return self.families end
  local mask = IPV4
  for _, addresses in pairs(self.uv.interface_addresses() or {}) do
    for _, one in ipairs(addresses) do
      if one.family == "inet6" and reaches_far(one.ip) then mask = IPV4 + IPV6 end
    end
  end
  self.families, self.families_at = mask, now
  return mask
end

local dns = {}

--- host.dns for this host.
-- @param uv the luv module
-- @param host its log, now and tasks are used
-- @param polled a cueball.host.uv.polled
function dns.new(uv, host, polled)
  local self = setmetatable({
    uv = uv,
    host = host,
    tasks = host.tasks,
    client = nil,
    asked = {},   -- id → done
    polls = {},   -- descriptor → its poll handle
    last_id = 0,
    timer = nil,
    socket = ffi.new "cueball_dns_socket",
    reply = ffi.new "cueball_dns_reply",
    view = system.view(host, true),
  }, Dns)
  self.on_turn = function() drain(self) end
  local function pass_time()
    lib.cueball_dns_time_passed(self.client)
    pump(self)
    drain(self)
  end
  self.on_time = function() polled:call(pass_time, true) end
  return {
    ask = function(...) return ask(self, ...) end,
    forget = function(id) return forget(self, id) end,
    system = function() return self.view:system() end,
    stamps = system.stamps,
    families = function() return families(self) end,
    hosts = function(name, rr) return self.view:hosts(name, rr) end,
  }
end

return dns
