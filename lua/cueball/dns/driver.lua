--- Runs one DNS tracker on a host: sends its questions, brings it the answers,
-- and tells a listener of the backends.
--
-- The happy path: an alarm goes off, the tracker's actions are drained, ASK goes to
-- host.dns, its answer comes back as an input, and so on until there is nothing to
-- do before the tracker's deadline.
-- What can go wrong: a host that cannot ask (told to the tracker in a later turn,
-- never inside its own action), a listener that closes the driver or tells it
-- something while it is being told (the tracker outlives the drain; what was told
-- is taken up by the drain under way), settings of the system that change.
--
--   local one, message = driver.new(host, options, listener)
--     options   of cueball.dns.options.read
--     listener  { add=fn(backend), change=fn(backend), remove=fn(backend), fail=fn(message), recover=fn(), settle=fn(name),
--                 changed=fn() }, each of them optional and called outside of any task; changed: after a round of adds,
--                 changes and removals, once, after all else; settle: every question was answered or given up, and `name` is what that
--                 comes to if nothing was found: "not_found", "timeout" or "dns_failed" (no server would say)
--   one:start()            asks from the next turn on
--   one:close()            forgets everything; nothing is called afterwards
--   one:nameservers(list)  other nameservers; nil: the system's
--   one:refresh()          everything known is asked for again
--   one:stats()            the tracker's numbers, in one flat table, and memory_bytes
--   one:backends()         a list
--
-- A backend is { address, port, name, key, weight, priority, provenance, why }: key is "address:port", provenance a
-- text, why = { record, owner, server, ttl, targets_from, srv_name, srv_server, srv_ttl, is_additional, removal }.
local native = require "cueball.native"
local address = require "cueball.address"
local dns_options = require "cueball.dns.options"
local name = require "cueball.dns.name"
local provenance = require "cueball.dns.provenance"
local lib, ffi = native.lib, native.ffi

local driver = {}

local Driver = {}
Driver.__index = Driver

local NEVER = 2 ^ 63
local NS_PER_MS = 1e6
local FAMILIES_KEPT_NS, SYSTEM_KEPT_NS = 60e9, 30e9 -- how often they are looked at again, at most
local HOSTS_FILE = "hosts file"
local RR_A, RR_AAAA = tonumber(lib.CUEBALL_RR_A), tonumber(lib.CUEBALL_RR_AAAA)
local NXDOMAIN = tonumber(lib.CUEBALL_RCODE_NXDOMAIN)
local SILENCE = {
  timeout = lib.CUEBALL_SILENCE_TIMEOUT, network = lib.CUEBALL_SILENCE_NETWORK, garbage = lib.CUEBALL_SILENCE_GARBAGE,
}
local FAMILY_OF = { [RR_A] = 1, [RR_AAAA] = 2 } -- CUEBALL_FAMILY_…

-- ------------------------------------------------------------------ making --

local function is_in_hosts_file(self, domain)
  if self.options.hosts_file == false then return false end
  return (self.dns.hosts(domain, RR_A) or self.dns.hosts(domain, RR_AAAA)) ~= nil
end

-- The system's settings; what cannot be read is said in the log.
local function read_system(self)
  self.system_at = self.now()
  local found, message = self.dns.system()
  if found then return found end
  self.host.log("warn", ("cueball dns %s: the system's nameservers cannot be read: %s"):format(self.options.domain, message))
  return { servers = {}, search = {} }
end

-- A name that the hosts file has is not searched for: the file is looked at first.
local function search_list(self, system)
  local given = self.options.search
  if given == nil then given = system.search end
  return not is_in_hosts_file(self, self.options.domain) and given or {}
end

local function tracker_options(self, recovery)
  local read, system = self.options, {}
  if read.search == nil or read.ndots == nil or read.nameservers == nil then system = read_system(self) end
  self.system_servers = system.servers
  return dns_options.cdata(read, search_list(self, system), system, recovery)
end

--- Makes one; it does nothing before start.
-- @param recovery as the option of that name, used if there is none; or nil
-- @return the driver; or nil, message
function driver.new(host, options, listener, recovery)
  if type(host.dns) ~= "table" then
    return nil, ("the host %q has no dns: cueball.resolver.dns works on cueball.host.uv, cueball.host.sim and cueball.host.ngx")
      :format(tostring(host.name))
  end
  local self = setmetatable({
    host = host, dns = host.dns, now = host.now, options = options, listener = listener,
    core = nil,
    asking = {},       -- ids of host.dns.ask, by question
    later = {},        -- answers for a later turn, by question
    from_hosts = {},   -- names that the hosts file answered, by type and name
    action = ffi.new "cueball_tracker_action", stats_room = ffi.new "cueball_tracker_stats",
    families = nil, families_at = nil,
    system_at = nil, system_servers = nil,
    follows_system = false, -- its nameservers are the system's
    servers = "",      -- the nameservers, in one text
    refusals = 0,      -- answers that say neither yes nor no, since the last SETTLE
    before = { timeouts = 0, silences = 0, given_up = 0 }, -- the tracker's numbers as of then
    is_draining = false, is_closed = false,
  }, Driver)
  local cdata, texts = tracker_options(self, recovery)
  local made = ffi.new "cueball_tracker *[1]"
  local result = lib.cueball_tracker_new(cdata, lib.cueball_allocator_libc(), host.seed(), host.now(), made)
  if result < 0 or not texts then return nil, ffi.string(lib.cueball_error_message(result)) end
  self.core = ffi.gc(made[0], lib.cueball_tracker_free)
  self.alarm = host.alarm(function() self:advance() end)
  return self
end

-- --------------------------------------------------------------- questions --

-- Handles are counted and fit into a number.
local function question_of(action)
  return tonumber(action.question)
end

-- What a question is answered with in a later turn: fn(), which makes the input.
local function answer_later(self, question, fn)
  self.later[question] = fn
  self.has_later = true
end

local function silent(self, question, silence)
  lib.cueball_tracker_unanswered(self.core, self.now(), question, SILENCE[silence] or SILENCE.network)
end

-- How many questions went wrong, since the start.
local function numbers(self)
  local room = self.stats_room
  lib.cueball_tracker_stats_of(self.core, room)
  local timeouts = tonumber(room.timeouts)
  return { timeouts = timeouts, silences = timeouts + tonumber(room.network_errors + room.garbage), given_up = tonumber(room.given_up) }
end

-- What the hosts file says of a name; of the family it does not have, that there is none.
local function hosts_answer(self, asked, rr)
  local found = self.dns.hosts(asked, rr)
  if found then return found end
  return require("cueball.dns.answer").make(0, {})
end

local function ask_hosts_file(self, question, asked, rr)
  if self.options.hosts_file == false or not FAMILY_OF[rr] then return false end
  local key = rr .. " " .. name.folded(asked)
  self.from_hosts[key] = nil
  if not is_in_hosts_file(self, asked) then return false end
  self.from_hosts[key] = true
  answer_later(self, question, function()
    lib.cueball_tracker_answered(self.core, self.now(), question, hosts_answer(self, asked, rr))
  end)
  return true
end

local function ask(self, action)
  local question, rr = question_of(action), action.type
  local asked, server = ffi.string(action.name), ffi.string(action.server)
  if ask_hosts_file(self, question, asked, rr) then return end
  local timeout_ms = math.max(0.001, (tonumber(action.deadline) - self.now()) / NS_PER_MS)
  local id, message = self.dns.ask(server, asked, rr, timeout_ms, function(answer, silence)
    if self.is_closed then return end
    self.asking[question] = nil
    if answer then
      if answer.rcode ~= 0 and answer.rcode ~= NXDOMAIN then self.refusals = self.refusals + 1 end
      lib.cueball_tracker_answered(self.core, self.now(), question, answer)
    else
      silent(self, question, silence)
    end
    self:advance()
  end)
  if id then
    self.asking[question] = id
  else
    self.host.log("warn", ("cueball dns %s: %s cannot be asked: %s"):format(self.options.domain, server, tostring(message)))
    answer_later(self, question, function() silent(self, question, "network") end)
  end
end

local function forget(self, action)
  local question = question_of(action)
  local id = self.asking[question]
  self.asking[question], self.later[question] = nil, nil
  if id then self.dns.forget(id) end
end

-- ---------------------------------------------------------------- backends --

-- Copies what the tracker tells of; its texts live until its next input.
local function backend_of(self, tracked)
  local host, owner = ffi.string(tracked.address), ffi.string(tracked.owner)
  local backend = {
    address = host, port = tracked.port, name = ffi.string(tracked.name), key = address.join(host, tracked.port),
    weight = tracked.weight, priority = tracked.priority,
    why = {
      record = ffi.string(lib.cueball_rr_name(tracked.type)), owner = owner, server = ffi.string(tracked.server),
      ttl = tracked.ttl, targets_from = tracked.targets_from,
      srv_name = ffi.string(tracked.srv_name), srv_server = ffi.string(tracked.srv_server), srv_ttl = tracked.srv_ttl,
      is_additional = tracked.is_additional, removal = tracked.removal,
    },
  }
  local why = backend.why
  if not why.is_additional and self.from_hosts[tracked.type .. " " .. name.folded(backend.name)] then why.server = HOSTS_FILE end
  backend.provenance = why.removal == 0 and provenance.of(backend) or provenance.of_removal(backend)
  return backend
end

local function tell(self, what, ...)
  local fn = self.listener[what]
  if fn and not self.is_closed then fn(...) end
end

local function teller_of_backend(what)
  return function(self, action)
    self.has_changed = true
    tell(self, what, backend_of(self, action.backend))
  end
end

-- What the questions of this round come to, if there are no backends.
local function name_of_failure(self)
  local is, before = numbers(self), self.before
  if self.refusals == 0 and is.given_up == before.given_up then return "not_found" end
  local silences, timeouts = is.silences - before.silences, is.timeouts - before.timeouts
  return self.refusals == 0 and timeouts > 0 and timeouts == silences and "timeout" or "dns_failed"
end

local DO = {
  [tonumber(lib.CUEBALL_TRACKER_ASK)] = ask,
  [tonumber(lib.CUEBALL_TRACKER_FORGET)] = forget,
  [tonumber(lib.CUEBALL_TRACKER_ADD)] = teller_of_backend "add",
  [tonumber(lib.CUEBALL_TRACKER_CHANGE)] = teller_of_backend "change",
  [tonumber(lib.CUEBALL_TRACKER_REMOVE)] = teller_of_backend "remove",
  [tonumber(lib.CUEBALL_TRACKER_FAIL)] = function(self, action) tell(self, "fail", ffi.string(action.message)) end,
  [tonumber(lib.CUEBALL_TRACKER_RECOVER)] = function(self) tell(self, "recover") end,
  [tonumber(lib.CUEBALL_TRACKER_SETTLE)] = function(self)
    tell(self, "settle", name_of_failure(self))
    if not self.is_closed then self.refusals, self.before = 0, numbers(self) end
  end,
}

-- ------------------------------------------------------------------ driving --

local function replace_nameservers(self, list)
  local texts = ffi.new("const char *[?]", math.max(1, #list))
  for index, server in ipairs(list) do texts[index - 1] = server end
  lib.cueball_tracker_nameservers_replaced(self.core, self.now(), texts, #list)
  self.servers = table.concat(list, " ")
end

-- A changed resolv.conf is followed, but only looked at while questions fail.
local function follow_system(self)
  if not self.follows_system or self.now() - self.system_at < SYSTEM_KEPT_NS then return end
  local is_well = self.refusals == 0 and numbers(self).silences == self.before.silences
  if is_well and self.servers ~= "" then return end
  local servers = read_system(self).servers
  if #servers > 0 and table.concat(servers, " ") ~= self.servers then replace_nameservers(self, servers) end
end

-- Only where both families will do: one that was asked for by name is asked for.
local function follow_families(self)
  if self.options.is_family_given then return end
  if self.families_at and self.now() - self.families_at < FAMILIES_KEPT_NS then return end
  self.families_at = self.now()
  local families = self.dns.families()
  if families == self.families then return end
  self.families = families
  lib.cueball_tracker_families_changed(self.core, self.now(), families)
end

local function give_later(self)
  if not self.has_later then return end
  local later = self.later
  self.later, self.has_later = {}, false
  local questions = {} -- in order, so that a run can be repeated
  for question in pairs(later) do questions[#questions + 1] = question end
  table.sort(questions)
  for _, question in ipairs(questions) do later[question]() end
end

local function set_alarm(self)
  local deadline = tonumber(lib.cueball_tracker_deadline(self.core))
  if self.has_later then deadline = math.min(deadline, self.now()) end
  -- Without a nameserver the tracker waits for one, and has no deadline of its own.
  if self.follows_system and self.servers == "" then deadline = math.min(deadline, self.system_at + SYSTEM_KEPT_NS) end
  if deadline < NEVER then self.alarm:set(deadline) else self.alarm:clear() end
end

-- It may be closed by any of those whom it tells.
local function drain(self)
  if self.is_draining then return end
  self.is_draining = true
  local action = self.action
  while not self.is_closed do
    if lib.cueball_tracker_next_action(self.core, action) then
      DO[action.kind](self, action)
    elseif self.has_changed then
      self.has_changed = false
      tell(self, "changed")
    else
      break
    end
  end
  self.is_draining = false
  if self.is_closed then self:free() else set_alarm(self) end
end

--- Time has gone by, or an answer was taken: what follows is done.
function Driver:advance()
  if self.is_closed then return end
  follow_families(self)
  follow_system(self)
  give_later(self)
  lib.cueball_tracker_time_advanced(self.core, self.now())
  drain(self)
end

--- Begins to ask, in the next turn.
function Driver:start()
  local given = self.options.nameservers
  if type(given) == "table" then self:nameservers(given) else self:nameservers(nil) end
end

--- Other nameservers.
-- @param list "IP:PORT" each, those preferred first; nil: those of the system, which are followed
function Driver:nameservers(list)
  if self.is_closed then return end
  self.follows_system = list == nil
  if not list then list = self.system_servers or read_system(self).servers end
  self.system_servers = nil
  replace_nameservers(self, list)
  if not self.is_draining then self.alarm:set(self.now()) end
end

--- Everything known is asked for again, in the next turn.
function Driver:refresh()
  if self.is_closed then return end
  lib.cueball_tracker_expired(self.core, self.now())
  if not self.is_draining then self.alarm:set(self.now()) end
end

--- The backends as they were last told of.
function Driver:backends()
  local tracked, list = ffi.new "cueball_tracked", {}
  while not self.is_closed and lib.cueball_tracker_backend_at(self.core, #list, tracked) do
    list[#list + 1] = backend_of(self, tracked)
  end
  return list
end

local STATS = {}
for _, one in ipairs(native.layout) do
  if one.type == "cueball_tracker_stats" and one.member ~= "" then STATS[#STATS + 1] = one.member end
end

--- The tracker's numbers (cueball_tracker.h), and memory_bytes.
function Driver:stats()
  local stats = {}
  if self.is_closed then return stats end
  lib.cueball_tracker_stats_of(self.core, self.stats_room)
  for _, member in ipairs(STATS) do stats[member] = tonumber(self.stats_room[member]) end
  stats.memory_bytes = tonumber(lib.cueball_tracker_memory(self.core))
  return stats
end

--- Ends it, from anywhere, also from within what it tells.  Calling it again is harmless.
function Driver:close()
  if self.is_closed then return end
  self.is_closed = true
  for _, id in pairs(self.asking) do self.dns.forget(id) end
  self.asking, self.later = {}, {}
  self.alarm:close()
  if not self.is_draining then self:free() end
end

-- For host.guard: the task that ran it was killed.
Driver.abort = Driver.close

function Driver:free()
  if not self.core then return end
  lib.cueball_tracker_free(ffi.gc(self.core, nil))
  self.core = nil
end

return driver
