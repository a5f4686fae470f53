--- Runs one DNS tracker on a host: sends its questions, brings it the answers,
-- and tells a listener of the backends.
--
-- The happy path: an alarm goes off, the tracker's actions are drained, ASK goes to
-- host.dns, its answer comes back as an input, and so on until there is nothing to
-- do before the tracker's deadline.
-- What can go wrong: a host that cannot ask (told to the tracker in a later turn,
-- never inside its own action), a listener that closes the driver or tells it
-- something while it is being told (the tracker outlives the drain; what was told
-- is taken up by the drain under way), settings of the system and a hosts file that
-- change, which are looked at every few seconds.
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
--   one:backends_failed()  the same, since none of the backends works: every few seconds at most
--   one:stats()            the tracker's numbers, in one flat table, and memory_bytes
--   one:backends()         a list
--
-- A backend is { address, port, name, key, weight, priority, provenance, why }: key is "address:port", provenance a
-- text, why = { record, owner, server, ttl, targets_from, srv_name, srv_server, srv_ttl, is_additional, removal }.
local log = require "cueball.log"
local native = require "cueball.native"
local address = require "cueball.address"
local answers = require "cueball.dns.answer"
local dns_options = require "cueball.dns.options"
local name = require "cueball.dns.name"
local provenance = require "cueball.dns.provenance"
local settings = require "cueball.dns.settings"
local lib, ffi = native.lib, native.ffi

local driver = {}

local Driver = {}
Driver.__index = Driver

local NEVER = 2 ^ 63
local NS_PER_MS = 1e6
local FAMILIES_KEPT_NS = 60e9  -- how often they are looked at again, at most
local FAILURE_KEPT_NS = 3e9    -- how often failed backends have everything asked for again, at most
local SERVERS_MAX = 64         -- of the tracker
local OK, STALE = 0, tonumber(lib.CUEBALL_ESTALE)
local HOSTS_FILE = "hosts file"
local RR_A, RR_AAAA = tonumber(lib.CUEBALL_RR_A), tonumber(lib.CUEBALL_RR_AAAA)
local NXDOMAIN = tonumber(lib.CUEBALL_RCODE_NXDOMAIN)
local SILENCE = {
  timeout = lib.CUEBALL_SILENCE_TIMEOUT, network = lib.CUEBALL_SILENCE_NETWORK, garbage = lib.CUEBALL_SILENCE_GARBAGE,
  refused = lib.CUEBALL_SILENCE_REFUSED, cut = lib.CUEBALL_SILENCE_CUT, ["local"] = lib.CUEBALL_SILENCE_LOCAL,
}
local FAMILY_OF = { [RR_A] = 1, [RR_AAAA] = 2 } -- CUEBALL_FAMILY_…

-- ------------------------------------------------------------------ making --

-- Says it once, until it is something else.
local function complain(self, what, message)
  if self.complaints[what] == message then return end
  self.complaints[what] = message
  if not message then return end
  local domain = self.options.domain
  log.say(self.host, "warn", ("dns %s: %s"):format(domain, message), "dns_faulty",
    { cause = what, domain = domain, error = message })
end

--- Makes one; it does nothing before start.
-- @param recovery as the option of that name, used if there is none; or nil
-- @return the driver; or nil, message
function driver.new(host, options, listener, recovery)
  if type(host.dns) ~= "table" then
    return nil, ("the host %q has no dns: cueball.resolver.dns works on cueball.host.uv, cueball.host.sim and cueball.nginx.host")
      :format(tostring(host.name))
  end
  local self = setmetatable({
    host = host, dns = host.dns, now = host.now, options = options, listener = listener,
    core = nil,
    last_asked = nil,  -- in words
    asking = {},       -- ids of host.dns.ask, by question
    later = {},        -- answers for a later turn, by question
    from_hosts = {},   -- names that the hosts file answered, by type and name
    action = ffi.new "cueball_tracker_action", stats_room = ffi.new "cueball_tracker_stats",
    families = nil, families_at = nil,
    settings = nil,    -- what the system says
    failed_at = nil,   -- when the backends failed last
    complaints = {},   -- what was said last, by what it is about
    targets_refused = 0,
    follows_system = false, -- its nameservers are the system's
    servers = "",      -- the nameservers, in one text
    refusals = 0,      -- answers that say neither yes nor no, since the last SETTLE
    before = { timeouts = 0, silences = 0, given_up = 0 }, -- the tracker's numbers as of then
    is_draining = false, is_closed = false,
  }, Driver)
  self.settings = settings.new(host, options, function(...) complain(self, ...) end)
  local cdata, texts = dns_options.cdata(options, self.settings:search_list(), self.settings.system, recovery)
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

-- What the tracker would not take is said, since it waits for something else then.
local function looked_at(self, what, result)
  result = tonumber(result)
  if result == OK or result == STALE then return complain(self, what, nil) end
  complain(self, what, ("%s was refused: %s"):format(what, ffi.string(lib.cueball_error_message(result))))
end

local function silent(self, question, silence)
  local result = lib.cueball_tracker_unanswered(self.core, self.now(), question, SILENCE[silence] or SILENCE.network)
  looked_at(self, "a silence", result)
end

-- An answer that cannot be taken is none: the tracker would wait for it until its limit.
local function answered(self, question, answer)
  local result = lib.cueball_tracker_answered(self.core, self.now(), question, answer)
  looked_at(self, "an answer", result)
  if result == lib.CUEBALL_EINVAL then silent(self, question, "garbage") end
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
  return answers.make(0, {})
end

local function ask_hosts_file(self, question, asked, rr)
  if self.options.hosts_file == false or not FAMILY_OF[rr] then return false end
  local key = rr .. " " .. name.folded(asked)
  self.from_hosts[key] = nil
  if not self.settings:is_in_hosts_file(asked) then return false end
  self.from_hosts[key] = true
  answer_later(self, question, function()
    answered(self, question, hosts_answer(self, asked, rr))
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
      answered(self, question, answer)
    else
      silent(self, question, silence)
    end
    self:advance()
  end, self.settings.system.use_vc)
  if id then
    self.asking[question] = id
    self.last_asked = ("%s %s of %s"):format(ffi.string(lib.cueball_rr_name(rr)), asked, server)
  else
    complain(self, server, ("%s cannot be asked: %s"):format(server, tostring(message)))
    local silence = message == "out of memory" and "local" or "network"
    answer_later(self, question, function() silent(self, question, silence) end)
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
  [tonumber(lib.CUEBALL_TRACKER_FAIL)] = function(self, action)
    local message, fault = ffi.string(action.message), self.follows_system and self.settings:servers_fault()
    tell(self, "fail", fault and ("%s: %s"):format(message, fault) or message)
  end,
  [tonumber(lib.CUEBALL_TRACKER_RECOVER)] = function(self) tell(self, "recover") end,
  [tonumber(lib.CUEBALL_TRACKER_SETTLE)] = function(self)
    tell(self, "settle", name_of_failure(self))
    if not self.is_closed then self.refusals, self.before = 0, numbers(self) end
  end,
}

-- ------------------------------------------------------------------ driving --

local function texts_of(list)
  local texts = ffi.new("const char *[?]", math.max(1, #list))
  for index, text in ipairs(list) do texts[index - 1] = text end
  return texts
end

local function replace_nameservers(self, list)
  local count = math.min(#list, SERVERS_MAX)
  complain(self, "servers", count < #list and ("of %d nameservers the first %d are used"):format(#list, count) or nil)
  looked_at(self, "the list of nameservers", lib.cueball_tracker_nameservers_replaced(self.core, self.now(), texts_of(list), count))
  self.servers = table.concat(list, " ")
end

local function replace_search(self)
  local list, no_tld_query = self.settings:search_list(), self.settings.system.no_tld_query and 1 or 0
  local result = lib.cueball_tracker_search_replaced(self.core, self.now(), texts_of(list), #list, self.settings:ndots(), no_tld_query)
  looked_at(self, "the search list", result)
end

-- A changed resolv.conf or hosts file is followed: what they change is asked for at once.
local function follow_system(self)
  local is_troubled = self.follows_system
    and (self.servers == "" or self.refusals > 0 or numbers(self).silences ~= self.before.silences)
  local is_other_system, is_other_file = self.settings:look(is_troubled)
  if not is_other_system and not is_other_file then return end
  replace_search(self)
  local servers = self.settings.system.servers
  local has_other_servers = is_other_system and self.follows_system and #servers > 0 and table.concat(servers, " ") ~= self.servers
  if has_other_servers then replace_nameservers(self, servers) end
  if has_other_servers or is_other_file then lib.cueball_tracker_expired(self.core, self.now()) end
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
  if self.follows_system and self.servers == "" then deadline = math.min(deadline, self.settings:next_hope()) end
  deadline = math.min(deadline, self.settings:next_look() or deadline)
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

-- SRV targets that are addresses: a mistake in the zone that somebody has to hear of.
local function say_refused(self)
  local room = self.stats_room
  lib.cueball_tracker_stats_of(self.core, room)
  local count = tonumber(room.targets_refused)
  if count == self.targets_refused then return end
  self.targets_refused = count
  complain(self, "targets", ("SRV targets of %s are written as addresses, and passed over: names are expected (RFC 2782)")
    :format(self.options.domain))
end

--- Time has gone by, or an answer was taken: what follows is done.
function Driver:advance()
  if self.is_closed then return end
  say_refused(self)
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
  replace_nameservers(self, list or self.settings:servers())
  if not self.is_draining then self.alarm:set(self.now()) end
end

--- Everything known is asked for again, in the next turn.
function Driver:refresh()
  if self.is_closed then return end
  lib.cueball_tracker_expired(self.core, self.now())
  if not self.is_draining then self.alarm:set(self.now()) end
end

--- None of the backends works: perhaps they are elsewhere by now.
function Driver:backends_failed()
  if self.is_closed or self.failed_at and self.now() - self.failed_at < FAILURE_KEPT_NS then return end
  self.failed_at = self.now()
  lib.cueball_tracker_backends_failed(self.core, self.now())
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

--- "A db.example of 10.0.0.53:53": what was asked last; nil: nothing.
function Driver:last_question()
  return self.last_asked
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
