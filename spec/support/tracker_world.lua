--- A DNS tracker of the core in virtual time, with nameservers that answer by a table.
--
--     local World = require "spec.support.tracker_world"
--     local world = World.new { domain = "db.example", service = "_pg._tcp" }
--     world.zone["SRV _pg._tcp.db.example"] = { "60 SRV 0 1 5432 a.example" }
--     world.zone["A a.example"] = { "60 A 10.0.0.1" }
--     world:start()                      -- the nameserver is "ns1"; world:nameservers { ... } for others
--     world:advance(100)
--     assert.trace(world, [[
--       [   0] ask SRV _pg._tcp.db.example
--       [   1] ask A a.example
--       [   1] ask AAAA a.example
--       [   2] add 10.0.0.1:5432 a.example
--       [   2] settle]])
--
-- What a question is answered with, after world.latency (1) ms: world.at_server[server][question], else
-- world.zone[question], else world.default (no such records):
--     { "60 A 10.0.0.1", … }   records: "[section] [owner] TTL TYPE DATA"; section + is additional, ? authority;
--                              the owner is the name asked if none is given; rcode = "NXDOMAIN", delay = ms, is_referral = true
--     "NODATA" "NXDOMAIN" "SERVFAIL" …   that response code and nothing else
--     "timeout" "network" "garbage" "refused" "cut" "local"   reported as such
--     "never"                            nothing is reported at all
--     "held"                             world:reply(question, what) does it
-- A function is called with the question and gives one of those.
--
-- The server is traced ("ask A a.example @ns2") once world:nameservers was given more than one. Time, inputs and the trace are
-- spec.support.virtual_world's.

local native = require "cueball.native"
local with = require "spec.support.with"

local ffi, lib = native.ffi, native.lib

local World = require("spec.support.virtual_world").of "tracker"
local ns = World.ns

local TYPES = { A = 1, CNAME = 5, SOA = 6, AAAA = 28, SRV = 33, DNAME = 39, RRSIG = 46, TXT = 16 }
local NAMES = { [1] = "A", [28] = "AAAA", [33] = "SRV" }
local RCODES = { NOERROR = 0, NODATA = 0, FORMERR = 1, SERVFAIL = 2, NXDOMAIN = 3, NOTIMP = 4, REFUSED = 5, YXDOMAIN = 6 }
local SILENCES = { timeout = 0, network = 1, garbage = 2, refused = 3, cut = 4, ["local"] = 5 }
local SECTIONS = { ["?"] = 1, ["+"] = 2 }
local REMOVALS = { [0] = "none", "target", "address", "name", "family", "no service" }
World.TARGETS = { [0] = "domain", "srv", "nxdomain", "nodata", "notimp" }

-- ------------------------------------------------------------------------------------------------------- records --

local function ipv4(text, bytes)
  local at = 0
  for part in text:gmatch "%d+" do
    bytes[at], at = tonumber(part), at + 1
  end
  assert(at == 4, text)
end

local function groups(text)
  local list = {}
  for group in text:gmatch "%x+" do
    list[#list + 1] = tonumber(group, 16)
  end
  return list
end

local function ipv6(text, bytes)
  local head, tail = text:match "^(.-)::(.*)$"
  local first, last = groups(head or text), groups(tail or "")
  for i, group in ipairs(first) do
    bytes[2 * i - 2], bytes[2 * i - 1] = math.floor(group / 256), group % 256
  end
  for i, group in ipairs(last) do
    local at = 2 * (8 - #last + i - 1)
    bytes[at], bytes[at + 1] = math.floor(group / 256), group % 256
  end
end

--- Fills one record from its text; `kept` holds the strings while C looks at them.
local function read_record(text, asked, record, kept)
  local section, rest = text:match "^([+?])%s+(.*)$"
  rest = rest or text
  local owner, ttl, kind, data = rest:match "^(%S+)%s+(%d+)%s+(%u%w*)%s*(.*)$"
  if not owner then
    owner, ttl, kind, data = asked, rest:match "^(%d+)%s+(%u%w*)%s*(.*)$"
  end
  assert(ttl, "no record: " .. text)
  kept[#kept + 1] = owner
  record.name, record.ttl, record.section = owner, tonumber(ttl), SECTIONS[section] or 0
  record.type = TYPES[kind] or error("no type: " .. text)
  if kind == "A" then
    ipv4(data, record.address)
  elseif kind == "AAAA" then
    ipv6(data, record.address)
  elseif kind == "SOA" then
    record.minimum = tonumber(data)
  elseif kind == "SRV" then
    local priority, weight, port, target = data:match "^(%d+) (%d+) (%d+) (%S+)$"
    record.priority, record.weight, record.port = tonumber(priority), tonumber(weight), tonumber(port)
    kept[#kept + 1] = target
    record.target = target
  elseif kind == "CNAME" or kind == "DNAME" then
    kept[#kept + 1] = data
    record.target = data
  end
end

--- A cueball_answer from a reply's table, and what it points to.
function World.answer(reply, asked)
  local kept = {}
  local records = ffi.new("cueball_record[?]", math.max(#reply, 1))
  for i, text in ipairs(reply) do
    read_record(text, asked, records[i - 1], kept)
  end
  local answer = ffi.new("cueball_answer", { rcode = RCODES[reply.rcode or "NOERROR"] or reply.rcode, count = #reply })
  answer.records = records
  answer.is_referral = reply.is_referral and 1 or 0
  kept[#kept + 1] = records
  return answer, kept
end

-- ---------------------------------------------------------------------------------------------------------- life --

local function set_recovery(recovery, changes)
  for name, value in pairs(changes or {}) do
    recovery[name] = value
  end
  if changes and changes.timeout_ms and not changes.max_timeout_ms then
    recovery.max_timeout_ms = math.max(recovery.max_timeout_ms, changes.timeout_ms)
  end
end

local RECOVERIES = { "recovery_dns", "recovery_dns_srv" }

--- The options as C has them, and what they point to. dns and dns_srv are tables of changes to the recovery.
function World.options(changes)
  local options, kept = ffi.new "cueball_tracker_options", {}
  lib.cueball_tracker_options_init_sized(options, ffi.sizeof(options))
  for name, value in pairs(changes) do
    if name == "dns" or name == "dns_srv" then
      set_recovery(options["recovery_" .. name], value)
    elseif name == "search" then
      kept.search = ffi.new("const char *[?]", math.max(#value, 1), value)
      kept.list = value
      options.search, options.search_count = kept.search, #value
    elseif name ~= "seed" and name ~= "spread" then
      kept[name] = value
      options[name] = value
    end
  end
  for _, recovery in ipairs(RECOVERIES) do
    options[recovery].spread = changes.spread or 0
  end
  return options, kept
end

--- cueball_tracker_options_check(): the message; nil if they are right.
function World.objection(changes)
  local text = ffi.new "char[300]"
  local options, kept = World.options(changes)
  local result = lib.cueball_tracker_options_check(options, text, 300)
  return result ~= 0 and kept and ffi.string(text) or nil
end

--- Options of the tracker (pauses have no spread unless `spread` is given), and seed (1). Of several tables, the later ones first.
function World.new(...)
  local changes = with(...)
  local self = World:begin {
    zone = {}, at_server = {}, default = "NODATA", latency = 1, questions = {}, asked = {}, asked_n = 0, trace_servers = false,
  }
  local options, kept = World.options(changes)
  local made = ffi.new "cueball_tracker *[1]"
  local result = lib.cueball_tracker_new(options, lib.cueball_allocator_libc(), changes.seed or 1, self.now, made)
  assert(result == 0 and kept, "cueball_tracker_new: " .. World.error_name(result))
  self.tracker = ffi.gc(made[0], lib.cueball_tracker_free)
  self:check()
  return self
end

--- One name, db.example, asked for without SRV, once.
function World.plain(...)
  return World.new({ domain = "db.example", default_port = 80, families = 1, dns = { attempts = 1 } }, ...)
end

function World:nameservers(list)
  self.trace_servers = self.trace_servers or #list > 1
  return self:input("nameservers_replaced", ffi.new("const char *[?]", math.max(#list, 1), list), #list)
end

--- See cueball_tracker_search_replaced().
function World:search(list, ndots, no_tld_query)
  return self:input("search_replaced", ffi.new("const char *[?]", math.max(#list, 1), list), #list, ndots or 1, no_tld_query or 0)
end

function World:start()
  self:nameservers { "ns1" }
  return self
end

function World:families(mask)
  return self:input("families_changed", mask)
end

-- ------------------------------------------------------------------------------------------------------ the host --

--- Says what came of a question, as the host.
function World:report(handle, name, reply)
  if SILENCES[reply] then
    return self:input("unanswered", handle, SILENCES[reply])
  end
  if type(reply) == "string" then
    reply = { rcode = reply }
  end
  local answer, kept = World.answer(reply, name)
  local result = self:input("answered", handle, answer)
  return kept and result
end

--- Answers the last such question that was asked ("A db.example"); also when it is over.
function World:reply(question, reply)
  local one = assert(self.asked[question], "nobody asked for " .. question)
  return self:report(one.handle, one.name, reply)
end

function World:rule(question, server)
  local own = self.at_server[server]
  local reply = own and own[question]
  if reply == nil then
    reply = self.zone[question]
  end
  if reply == nil then
    reply = own and own.default or self.default
  end
  if type(reply) == "function" then
    return reply(question, server)
  end
  return reply
end

function World:ask(action)
  local name, server = ffi.string(action.name), ffi.string(action.server)
  local question = NAMES[action.type] .. " " .. name
  local handle = action.question
  local one = { handle = handle, name = name, server = server, deadline = tonumber(action.deadline) / 1e6, at = self:time() }
  self.asked[question], self.questions[tonumber(handle)] = one, one
  self.asked_n = self.asked_n + 1
  self:tell("ask", self.trace_servers and question .. " @" .. server or question)
  local reply = self:rule(question, server)
  if reply == "never" or reply == "held" then
    return
  end
  local delay = type(reply) == "table" and reply.delay or self.latency
  self:schedule(self.now + ns(delay), function()
    if not one.is_forgotten then
      self:report(handle, name, reply)
    end
  end)
end

--- "10.0.0.1:80 a.example", with priority and weight where they are not 0 and 1.
local function backend_text(backend)
  local address = ffi.string(backend.address)
  if address:find(":", 1, true) then
    address = "[" .. address .. "]"
  end
  local text = ("%s:%d %s"):format(address, backend.port, ffi.string(backend.name))
  if backend.priority ~= 0 or backend.weight ~= 1 then
    text = text .. (" %d/%d"):format(backend.priority, backend.weight)
  end
  return text
end

local TEXTS = { "address", "name", "owner", "server", "srv_name", "srv_server" }
local NUMBERS = { "port", "priority", "weight", "type", "ttl", "srv_ttl", "is_additional" }

--- The facts of a backend with strings for strings.
local function facts(backend)
  local found = { text = backend_text(backend), targets_from = World.TARGETS[backend.targets_from], removal = REMOVALS[backend.removal] }
  for _, name in ipairs(TEXTS) do
    found[name] = ffi.string(backend[name])
  end
  for _, name in ipairs(NUMBERS) do
    found[name] = backend[name]
  end
  return found
end

local KINDS = { "ask", "forget", "add", "change", "remove", "fail", "recover", "settle" }

function World:step()
  local action = ffi.new "cueball_tracker_action"
  if not lib.cueball_tracker_next_action(self.tracker, action) then
    return false
  end
  self:check()
  local kind = KINDS[action.kind]
  if kind == "ask" then
    self:ask(action)
  elseif kind == "forget" then
    local one = assert(self.questions[tonumber(action.question)], "a question to be forgotten was never asked")
    one.is_forgotten = true
    if self.shows_forget then
      self:tell("forget", one.name)
    end
  elseif kind == "fail" then
    self:tell("fail", ffi.string(action.message))
  elseif kind == "recover" or kind == "settle" then
    self:tell(kind)
  else
    self.told = facts(action.backend)
    self:tell(kind, kind == "remove" and self.told.text .. ": " .. self.told.removal or self.told.text)
  end
  return true
end

-- --------------------------------------------------------------------------------------------------------- other --

--- All backends: list of tables.
function World:backends()
  local list, backend = {}, ffi.new "cueball_tracked"
  while lib.cueball_tracker_backend_at(self.tracker, #list, backend) do
    list[#list + 1] = facts(backend)
  end
  return list
end

--- "10.0.0.1:80 a.example, 10.0.0.2:80 b.example"
function World:layout()
  local list = self:backends()
  for i, one in ipairs(list) do
    list[i] = one.text
  end
  return table.concat(list, ", ")
end

function World:stats()
  local stats = ffi.new "cueball_tracker_stats"
  lib.cueball_tracker_stats_of(self.tracker, stats)
  return World.numbers(stats, "cueball_tracker_stats")
end

return World
