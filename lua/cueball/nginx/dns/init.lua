--- host.dns under nginx: questions over cosockets.  The contract is in docs/hosts.md.
--
-- The happy path: ask() begins an errand that sends the question and reads the answer, one server, once; when it is done it leaves the
-- answer and sets the question's alarm, and that calls done(), outside of any task.  The same alarm goes off at the time limit, and
-- ends the errand then, whatever it does.
--
-- Two ways to ask, with one interface, function(question) → answer, or nil, silence:
-- - wire: the query is ours, the response is read by libcueball, which checks all that can be checked. Where the library has that.
-- - resty: resty.dns.resolver, or nginx.dns.resolver as Debian names it. Where the library was built without.
-- See docs/openresty.md for what the second cannot check.
local log = require "cueball.log"
local native = require "cueball.native"
local text = require "cueball.text"
local system = require "cueball.dns.system"

local NAME_MAX = 1024              -- octets of a name as text, "\ddd" being four
local TIMEOUT_MS_MAX = 12 * 3600e3 -- as cueball_dns_ask
local FAMILIES_LAST_NS = 60e9
local RANDOM_SIZE = 512
local NOTHING_THERE = "this build of cueball reads no DNS (-DCUEBALL_DNS=OFF), and neither resty.dns.resolver nor "
  .. "nginx.dns.resolver (Debian: apt install lua-nginx-dns) is there"

local dns = {}

local Dns = {}
Dns.__index = Dns

-- ------------------------------------------------------------------ ways to ask --

local function has_reader()
  -- A function that the library does not have is an error when it is looked up.
  return (pcall(function() return native.lib.cueball_dns_answer_read end))
end

-- What asks. → or nil, message
local function way_of(self)
  if self.way then return self.way end
  local name = self.way_name or has_reader() and "wire" or "resty"
  local way, message = require("cueball.nginx.dns." .. name).new(self)
  if not way then return nil, message or NOTHING_THERE end
  self.way, self.way_name = way, name
  return way
end

--- A number from 0 to 65535 that nobody can foretell.  math.random is no good: workers that nobody seeded all draw the same.
function Dns:random()
  if #self.random_bytes < 2 then
    local file = assert(io.open("/dev/urandom", "rb"))
    self.random_bytes = file:read(RANDOM_SIZE)
    file:close()
  end
  local high, low = self.random_bytes:byte(1, 2)
  self.random_bytes = self.random_bytes:sub(3)
  return high * 256 + low
end

-- ---------------------------------------------------------------------- questions --

local Question = {}
Question.__index = Question

--- What is left of the time, in milliseconds, never 0 (which would be no limit); nil: nothing.
function Question:left_ms()
  local left = (self.deadline - self.dns.host.now()) / 1e6
  return left > 0 and left or nil
end

-- The errand.
local function run(self)
  local ok, answer, silence = xpcall(self.way, text.traceback, self)
  if not ok then
    log.say(self.dns.host, "error", "dns: " .. tostring(answer), "task_threw")
    answer, silence = nil, "garbage"
  end
  self.answer, self.silence = answer, silence
  self.is_answered = true
  if not self.is_over then self.alarm:set(self.dns.host.now()) end
end

-- @return whether it was under way
local function finish(self)
  if self.is_over then return false end
  self.is_over = true
  self.dns.asked[self.id] = nil
  self.alarm:close()
  if not self.is_answered then self.dns.host.kill(self.task) end
  return true
end

local function tell(self)
  if not finish(self) then return end
  if not self.is_answered then return self.done(nil, self.is_cut and "cut" or "timeout") end
  if self.answer then return self.done(self.answer) end
  self.done(nil, self.silence)
end

-- "IP:PORT" or "[IPv6]:PORT" → the address as cosockets take it, and the port
local function server_of(server)
  if type(server) ~= "string" then return nil end
  local host, port = server:match "^([%d.]+):(%d+)$"
  if not host then host, port = server:match "^(%[[%x:.]+%]):(%d+)$" end
  port = tonumber(port)
  if port and port >= 1 and port <= 65535 then return host, port end
end

local function ask(self, server, name, rr, timeout_ms, done, use_tcp)
  local host, port = server_of(server)
  local is_fit = host and type(name) == "string" and name ~= "" and #name <= NAME_MAX and type(timeout_ms) == "number"
    and timeout_ms > 0 and timeout_ms <= TIMEOUT_MS_MAX
  if not host and type(server) == "string" and server:find("%", 1, true) then
    return nil, ("cannot ask %s: it is on a link, and a cosocket cannot be told which"):format(server)
  end
  if not is_fit then
    return nil, ("cannot ask %s for %s within %s ms: expected IP:PORT, a name and a time limit above 0 and of 12 hours at most")
      :format(tostring(server), tostring(name), tostring(timeout_ms))
  end
  local way, message = way_of(self)
  if not way then return nil, message end
  local fault = way.fault and way.fault(name)
  if fault then return nil, ("cannot ask for %s: %s"):format(name, fault) end
  self.last_id = self.last_id + 1
  local question = setmetatable({
    dns = self, id = self.last_id, way = way.ask, host = host, port = port, name = name, rr = rr, done = done, use_tcp = use_tcp,
    deadline = self.host.now() + timeout_ms * 1e6,
    is_answered = false, is_over = false, answer = nil, silence = nil, task = nil, alarm = nil,
  }, Question)
  question.alarm = self.host.alarm(function() tell(question) end)
  question.alarm:set(question.deadline)
  self.asked[question.id] = question
  question.task = self.host.errand(run, question)
  return question.id
end

local function forget(self, id)
  local question = self.asked[id]
  if question then finish(question) end
end

-- ------------------------------------------------------------ the system's settings --

local function families(self)
  local now = self.host.now()
  if not self.families or now - self.families_at >= FAMILIES_LAST_NS then
    self.families, self.families_at = system.families(), now
  end
  return self.families
end

--- host.dns for this host.
-- @param host its now, log, alarm, errand and kill are used
-- @param way_name nil; or "wire" or "resty": ask so
function dns.new(host, way_name)
  local self = setmetatable({
    host = host, way = nil, way_name = way_name, asked = {}, last_id = 0, random_bytes = "",
    families = nil, families_at = nil, view = system.view(host, false),
  }, Dns)
  return {
    ask = function(...) return ask(self, ...) end,
    forget = function(id) return forget(self, id) end,
    system = function() return self.view:system() end,
    stamps = system.stamps,
    families = function() return families(self) end,
    hosts = function(name, rr) return self.view:hosts(name, rr) end,
    --- "wire" or "resty": how it asks; nil, message if it cannot.
    way = function()
      local way, message = way_of(self)
      if not way then return nil, message end
      return self.way_name
    end,
  }
end

return dns
