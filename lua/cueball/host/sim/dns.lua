--- The simulated host's DNS: nameservers with a zone each, in virtual time.
--
--   world.zone [[
--     _pg._tcp.example   60 SRV   0 10 5432 db1.example
--     db1.example        30 A     10.0.0.1
--     db2.example        30 CNAME db1.example
--     example           300 SOA   60                      its last field: the TTL of "no such name" below it
--     broken.example        SERVFAIL                      whatever is asked of it
--   ]]
--   world.nameserver(address [, behaviour])   → nameserver; there is one at "127.0.0.1:53" from the start
--     zone         a zone of its own, as text; by default it has the world's
--     latency      ms to it and as many back, default 0.05: as for servers (cueball.host.sim.duration)
--     rcode        answers everything so: "SERVFAIL", "REFUSED" …
--     lame         knows nothing of the zone and asks nobody: NOERROR, and a referral elsewhere
--     silence      does not answer but so: "timeout", "network", "garbage", "refused", "cut" or "local"
--     drop         probability that a question is lost
--     additionals  whether addresses of SRV targets come along, default true
--   nameserver:set{...}, stop(), start()      stop: "network" to whatever is asked
--   nameserver.questions                      how many came
--   world.dns.system_is { servers=, search=, ndots=, rotate= }
--   world.dns.families_are(mask)              1: IPv4, 2: IPv6, 3: both, which is the default
--   world.dns.hosts_are { ["db.local"] = { "10.0.0.9" } }
--   world.dns.asked                           list of { time_ms=, server=, name=, type= }: every question
--
-- and, as on every host, ask, forget, system, families and hosts (docs/hosts.md).  What the
-- world makes of addresses holds here too: world.unreachable, and of world.faults `hang` and `slow`.
local misuse = require "cueball.misuse"
local address = require "cueball.address"
local answers = require "cueball.dns.answer"
local clock = require "cueball.host.sim.clock"
local duration = require "cueball.host.sim.duration"
local members = require "cueball.host.sim.members"

local dns = {}

local TYPES = { A = 1, CNAME = 5, SOA = 6, AAAA = 28, SRV = 33 }
local TYPE_NAMES = { [1] = "A", [28] = "AAAA", [33] = "SRV" }
local RCODES = { NOERROR = 0, FORMERR = 1, SERVFAIL = 2, NXDOMAIN = 3, NOTIMP = 4, REFUSED = 5 }
local SILENCES = { timeout = true, network = true, garbage = true, refused = true, cut = true, ["local"] = true }
local CHAIN_MAX = 8     -- aliases in a row
local HOSTS_TTL_S = 60

local function folded(name)
  return (name:lower():gsub("%.$", ""))
end

-- ------------------------------------------------------------------- zones --

local function whole(text, high)
  local number = text and text:find "^%d+$" and tonumber(text)
  return number and number <= high and number or nil
end

local function of_family(family)
  return function(words)
    return #words == 1 and address.family(words[1]) == family and { address = words[1] } or nil
  end
end

-- The data of a record, by its words; nil: they are no good.
local DATA = {
  A = of_family(4), AAAA = of_family(6),
  CNAME = function(words) return #words == 1 and { target = words[1] } or nil end,
  SOA = function(words)
    local minimum = whole(words[#words], 2 ^ 32 - 1)
    return minimum and { minimum = minimum }
  end,
  SRV = function(words)
    local priority, weight, port = whole(words[1], 65535), whole(words[2], 65535), whole(words[3], 65535)
    if #words ~= 4 or not (priority and weight and port) then return nil end
    return { priority = priority, weight = weight, port = port, target = words[4] }
  end,
}

local function read_line(line)
  local words = {}
  for word in line:gmatch "%S+" do words[#words + 1] = word end
  if #words == 2 and RCODES[words[2]] then return { name = words[1], rcode = RCODES[words[2]] } end
  local name, ttl, kind = words[1], whole(words[2], 2 ^ 32 - 1), words[3]
  local data = ttl and DATA[kind] and DATA[kind]({ unpack(words, 4) })
  if not data then return nil end
  data.name, data.ttl, data.type = name, ttl, kind
  return data
end

-- A zone has the owners of its records by name, { records, rcode or nil }, and the names that are only above others.
local function read_zone(text)
  if type(text) ~= "string" then misuse.raise("zone: expected lines NAME TTL TYPE DATA, got " .. type(text)) end
  local zone = { names = {}, parents = {} }
  for line in text:gmatch "[^\n]+" do
    if line:find "%S" and not line:find "^%s*;" then
      local record = read_line(line)
      if not record then misuse.raise(("zone: expected NAME TTL TYPE DATA or NAME RCODE, got %q"):format(line)) end
      local name = folded(record.name)
      local owner = zone.names[name] or { records = {}, rcode = nil }
      zone.names[name] = owner
      if record.rcode then owner.rcode = record.rcode else table.insert(owner.records, record) end
      for parent in name:gmatch "%.()" do zone.parents[name:sub(parent)] = true end
    end
  end
  return zone
end

local function copy(record, section)
  local made = {}
  for field, value in pairs(record) do made[field] = value end
  made.section = section
  return made
end

local function of_type(owner, kind, section, into)
  local found = false
  for _, record in ipairs(owner and owner.records or {}) do
    if record.type == kind then
      into[#into + 1] = copy(record, section)
      found = true
    end
  end
  return found
end

-- The SOA of the zone that the name is in, for "no".
local function add_soa(zone, name, into)
  local suffix = name
  repeat
    if of_type(zone.names[suffix], "SOA", "authority", into) then return end
    suffix = suffix:match "%.(.*)$"
  until not suffix
end

local function add_additionals(zone, into)
  local count = #into
  for index = 1, count do
    local owner = into[index].type == "SRV" and zone.names[folded(into[index].target)]
    if owner then
      of_type(owner, "A", "additional", into)
      of_type(owner, "AAAA", "additional", into)
    end
  end
end

-- @return rcode and records, for cueball.dns.answer
local function look_up(zone, name, kind, with_additionals)
  local records, wanted = {}, folded(name)
  for _ = 1, CHAIN_MAX do
    local owner = zone.names[wanted]
    if owner and owner.rcode then return owner.rcode, {} end
    if of_type(owner, kind, "answer", records) then
      if with_additionals then add_additionals(zone, records) end
      return RCODES.NOERROR, records
    end
    if not of_type(owner, "CNAME", "answer", records) then
      add_soa(zone, wanted, records)
      local is_there = owner or zone.parents[wanted]
      return is_there and RCODES.NOERROR or RCODES.NXDOMAIN, records
    end
    wanted = folded(records[#records].target)
  end
  return RCODES.SERVFAIL, {}
end

-- ------------------------------------------------------------- nameservers --

local function is_amount(value, high)
  return type(value) == "number" and value >= 0 and value <= high
end

local BEHAVIOUR = {
  zone = { function(value) return type(value) == "string" end, "text" },
  latency = { function(value) return duration.read(value) ~= nil end, duration.EXPECTED },
  lame = { function(value) return type(value) == "boolean" end, "true or false" },
  rcode = { function(value) return value == false or RCODES[value] ~= nil end, "the name of a response code, or false" },
  silence = { function(value) return value == false or SILENCES[value] ~= nil end,
    '"timeout", "network", "garbage", "refused", "cut", "local" or false' },
  drop = { function(value) return type(value) == "boolean" or is_amount(value, 1) end, "a probability from 0 to 1" },
  additionals = { function(value) return type(value) == "boolean" end, "true or false" },
}

local Nameserver = {}
Nameserver.__index = Nameserver

local function set(self, given)
  for name, value in pairs(given) do
    local rule = BEHAVIOUR[name]
    if not rule then misuse.raise(("nameserver: unknown field %s"):format(tostring(name))) end
    if not rule[1](value) then misuse.raise(("nameserver: %s: expected %s, got %s"):format(name, rule[2], tostring(value))) end
    if name == "zone" then value = read_zone(value) end
    if name == "latency" then value = duration.read(value) end
    self[name] = value
  end
end

function Nameserver:set(given) set(self, given) end
function Nameserver:stop() self.silence = "network" end
function Nameserver:start() self.silence = false end

-- --------------------------------------------------------------- questions --

local function finish(state, question, ...)
  state.clock:clear(question.limit)
  state.open:remove(question)
  state.by_id[question.id] = nil
  question.done(...)
end

-- The question has reached the nameserver: what does that say?
local function arrive(state, question)
  local server, network = state.servers[question.server], state.network
  if not state.by_id[question.id] or network:wire(question.host).is_shut then return end
  local silence = not server and "network" or server.silence
  if silence == "timeout" then return end
  local rcode, records
  if not silence then
    server.questions = server.questions + 1
    if network.random:chance(server.drop) or network:strikes(nil, "hang") then return end
    if server.lame then
      rcode, records = RCODES.NOERROR, { is_referral = true }
    elseif server.rcode then
      rcode, records = RCODES[server.rcode], {}
    else
      rcode, records = look_up(server.zone or state.zone, question.name, question.type, server.additionals)
    end
  end
  local delay = duration.draw(state.random, server and server.latency or 0.05) + network:draw_slowness()
  state.clock:arm_in(delay, function()
    if not state.by_id[question.id] or network:wire(question.host).is_shut then return end
    if silence then return finish(state, question, nil, silence) end
    finish(state, question, answers.make(rcode, records))
  end, "a nameserver's answer")
end

local function check_question(server, name, rr, timeout_ms, done)
  if type(name) ~= "string" or name == "" then return nil, "no name to ask for" end
  if not TYPE_NAMES[rr] then return nil, "no such type: " .. tostring(rr) end
  if type(timeout_ms) ~= "number" or timeout_ms <= 0 or timeout_ms ~= timeout_ms then return nil, "no time limit above 0" end
  assert(type(done) == "function", "dns.ask: a function to call is expected")
  local host, port = address.split(tostring(server))
  if not host or not port or port == 0 then return nil, ("%s is no server: expected IP:PORT"):format(tostring(server)) end
  return host
end

local function add_questions(world, state)
  function world.dns.ask(server, name, rr, timeout_ms, done)
    local host, message = check_question(server, name, rr, timeout_ms, done)
    if not host then return nil, message end
    state.last_id = state.last_id + 1
    local question = { id = state.last_id, server = server, host = host, name = name, type = TYPE_NAMES[rr], done = done }
    question.what = ("question for %s of %s to %s"):format(question.type, name, server)
    question.limit = clock.event(function() finish(state, question, nil, "timeout") end, question.what)
    state.clock:set(question.limit, state.clock.now + math.floor(timeout_ms * 1e6 + 0.5))
    state.by_id[question.id] = question
    state.open:add(question)
    table.insert(world.dns.asked, { time_ms = world.time_ms(), server = server, name = name, type = question.type })
    local known = state.servers[server]
    state.clock:arm_in(duration.draw(state.random, known and known.latency or 0.05), function() arrive(state, question) end, question.what)
    return question.id
  end

  function world.dns.forget(id)
    local question = state.by_id[id]
    if not question then return end
    state.clock:clear(question.limit)
    state.open:remove(question)
    state.by_id[id] = nil
  end
end

local function add_settings(world, state)
  function world.dns.system()
    local is = state.system
    if not is then return nil, "there is no resolv.conf" end
    local found = { ndots = 1, rotate = false }
    for field, value in pairs(is) do found[field] = value end
    found.servers, found.search = { unpack(is.servers or {}) }, { unpack(is.search or {}) }
    return found
  end

  function world.dns.families() return state.families end

  function world.dns.hosts(name, rr)
    local records = {}
    for _, one in ipairs(state.hosts[folded(name)] or {}) do
      if address.family(one) == (rr == TYPES.A and 4 or 6) then
        records[#records + 1] = { name = name, type = TYPE_NAMES[rr], ttl = HOSTS_TTL_S, address = one }
      end
    end
    return #records > 0 and answers.make(0, records) or nil
  end

  -- As on hosts that have files: each change is another version.
  function world.dns.stamps() return tostring(state.system_version), tostring(state.hosts_version) end

  function world.dns.system_is(given)
    state.system, state.system_version = given, state.system_version + 1
  end

  function world.dns.families_are(mask) state.families = mask end

  function world.dns.hosts_are(given)
    state.hosts, state.hosts_version = {}, state.hosts_version + 1
    for name, list in pairs(given) do state.hosts[folded(name)] = list end
  end

  function world.zone(text) state.zone = read_zone(text) end

  function world.nameserver(at, given)
    local host, port = address.split(tostring(at))
    if not host or not port or address.is_unix(host) then error(("nameserver: expected IP:PORT, got %s"):format(tostring(at)), 2) end
    local made = setmetatable({
      address = at, zone = nil, latency = 0.05, rcode = false, silence = false, lame = false, drop = 0, additionals = true, questions = 0,
    }, Nameserver)
    set(made, given or {}, 2)
    state.servers[at] = made
    return made
  end
end

--- Gives a world its dns, world.zone and world.nameserver.
-- @param network the world's cueball.host.sim.network
-- @param random  a stream of chance for it alone
-- @return { leaks = function() → list of texts, close = function() }
function dns.install(world, network, random)
  local state = {
    clock = network.clock, network = network, random = random,
    servers = {}, zone = read_zone(""), hosts = {}, families = 3,
    system = { servers = { "127.0.0.1:53" }, search = {}, ndots = 1, rotate = false },
    open = members.new(), by_id = {}, last_id = 0, system_version = 0, hosts_version = 0,
  }
  world.dns = { asked = {} }
  add_questions(world, state)
  add_settings(world, state)
  world.nameserver "127.0.0.1:53"
  return {
    leaks = function()
      local list = {}
      for _, question in ipairs(state.open:list()) do list[#list + 1] = question.what end
      return list
    end,
    close = function()
      for _, question in ipairs(state.open:list()) do world.dns.forget(question.id) end
    end,
  }
end

return dns
