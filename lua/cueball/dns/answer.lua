--- Answers to DNS questions, made from Lua tables: for hosts whose resolver
-- gives no bytes, and for the simulated one.
--
--   local answer = require("cueball.dns.answer").make(0, {
--     { name = "db.example", type = "A", ttl = 60, address = "10.0.0.1" },
--     { name = "example", type = "SOA", ttl = 60, section = "authority", minimum = 30 },
--   })
local misuse = require "cueball.misuse"
local ffi = require "ffi"
require "cueball.native"

local address = require "cueball.address"

-- As cueball.address declares it.
ffi.cdef [[ int inet_pton(int family, const char *text, void *address); ]]

local AF = { [4] = 2, [6] = ffi.os == "OSX" and 30 or ffi.os == "BSD" and 28 or 10 }
local TYPES = { A = 1, CNAME = 5, SOA = 6, AAAA = 28, SRV = 33 }
local SECTIONS = { answer = 0, authority = 1, additional = 2 }
local FAMILIES = { [1] = 4, [28] = 6 }
local RECORDS = ffi.typeof "cueball_record[?]"

-- Each answer points at its records, and those at their texts: they live as long as it does.
local anchors = setmetatable({}, { __mode = "k" })

local answer = {}

local function check(condition, message, ...)
  if not condition then misuse.raise("answer.make: " .. message:format(...)) end
end

local function fill(record, given, texts)
  check(type(given) == "table" and type(given.name) == "string", "a record must be a table with a name")
  local rr = TYPES[given.type] or given.type
  check(type(rr) == "number", "record %s: its type must be A, AAAA, SRV, CNAME, SOA or a number, got %s",
    given.name, tostring(given.type))
  local section = SECTIONS[given.section or "answer"]
  check(section, "record %s: its section must be answer, authority or additional", given.name)
  texts[#texts + 1] = given.name
  record.name, record.type, record.section, record.ttl = given.name, rr, section, given.ttl or 0
  if given.target then
    texts[#texts + 1] = given.target
    record.target = given.target
  end
  local family = FAMILIES[rr]
  if family then
    check(address.family(given.address or "") == family, "record %s: %s is no address for its type",
      given.name, tostring(given.address))
    ffi.C.inet_pton(AF[family], given.address, record.address)
  end
  record.minimum = given.minimum or 0
  record.priority, record.weight, record.port = given.priority or 0, given.weight or 0, given.port or 0
end

--- A `cueball_answer` that owns what it points to.
-- @param rcode 0: NOERROR, 3: NXDOMAIN …
-- @param records list of { name=, type= ("A", "AAAA", "SRV", "CNAME", "SOA" or a number), ttl= (seconds),
--   section= ("answer", "authority" or "additional"; default answer), address= (A, AAAA), target= (CNAME, SRV),
--   priority=, weight=, port= (SRV), minimum= (SOA) }; is_referral = true: nothing but NS, of a server that neither has the zone
--   nor asks others
function answer.make(rcode, records)
  records = records or {}
  local list, texts = RECORDS(math.max(1, #records)), {}
  for index, given in ipairs(records) do fill(list[index - 1], given, texts) end
  local made = ffi.new("cueball_answer", rcode, #records, list, records.is_referral and 1 or 0)
  anchors[made] = { list, texts }
  return made
end

return answer
