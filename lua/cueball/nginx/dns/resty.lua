--- Asks a nameserver through resty.dns.resolver (OpenResty), or nginx.dns.resolver (Debian), which is the same: where the library
-- cannot read responses itself.
--
-- resty.dns.resolver believes more than it should: a response with the right id counts whatever question it repeats, and a response that
-- is not whole makes it throw. What can be done about that from here: the id comes from the system's random source and not from
-- math.random, each question has a socket of its own, a throw is garbage, and names that no text can hold are left out.
local RESPONSE_CODES = 16
local GRACE_MS = 1000   -- the question's alarm comes first: nginx would log an error
local RR_A, RR_CNAME, RR_SOA, RR_AAAA, RR_SRV = 1, 5, 6, 28, 33
local SECTIONS = { "answer", "authority", "additional" }
local CLASS_IN = 1

local resty = {}

local LIBRARIES = { "resty.dns.resolver", "nginx.dns.resolver" }

local function load_resolver()
  for _, name in ipairs(LIBRARIES) do
    local found, resolver = pcall(require, name)
    if found then return resolver end
  end
end

-- In the names of resty.dns.resolver a dot within a label cannot be told from one between labels; the root is "".
local function text_of(name)
  if type(name) ~= "string" or name:find "[^%w%-_.*]" then return nil end
  return name == "" and "." or name
end

-- A record as cueball.dns.answer takes it; nil: of a kind that nobody asked for, or not to be told in text.
local function record_of(given)
  local rr, name = given.type, text_of(given.name)
  if given.class ~= CLASS_IN or not name then return nil end
  -- The numbers of resty.dns.resolver have 32 bits with a sign.
  local record = { type = rr, name = name, ttl = given.ttl % 2 ^ 32, section = SECTIONS[given.section] }
  if rr == RR_A or rr == RR_AAAA then
    record.address = given.address
  elseif rr == RR_CNAME then
    record.target = text_of(given.cname)
    if not record.target then return nil end
  elseif rr == RR_SRV then
    record.target, record.priority, record.weight, record.port = text_of(given.target), given.priority, given.weight, given.port
    if not record.target then return nil end
  elseif rr == RR_SOA then
    record.minimum = (given.minimum or given.mininum or 0) % 2 ^ 32 -- so it is written there
  else
    return nil
  end
  return record
end

local function answer_of(found)
  local records = {}
  for _, given in ipairs(found) do records[#records + 1] = record_of(given) end
  return require("cueball.dns.answer").make((found.errcode or 0) % RESPONSE_CODES, records)
end

-- Messages of resty.dns.resolver that end with what a socket said are about the network; others come from its reader.
local function silence_of(message)
  if message:find "timeout$" then return "timeout" end
  if message:find "connection refused$" then return "refused" end
  if message:find "^failed to" and not message:find "parse the reply" then return "network" end
  return "garbage"
end

local function ask(Resolver, self)
  local left = self:left_ms()
  if not left then return nil, "timeout" end
  local resolver = Resolver:new { nameservers = { { self.host, self.port } }, retrans = 1, timeout = left + GRACE_MS }
  if not resolver then return nil, "network" end
  resolver._id = self.dns:random()
  local ok, found, message = pcall(self.use_tcp and resolver.tcp_query or resolver.query, resolver, (self.name:gsub("%.$", "")),
    { qtype = self.rr, authority_section = true, additional_section = true })
  if not ok then return nil, "garbage" end
  if not found then return nil, silence_of(tostring(message)) end
  local is_read, answer = pcall(answer_of, found)
  if not is_read then return nil, "garbage" end
  return answer
end

local function fault(name)
  return name:find "\\" and "resty.dns.resolver knows no escaped characters" or nil
end

function resty.new()
  local Resolver = load_resolver()
  if not Resolver then return nil end
  return { ask = function(question) return ask(Resolver, question) end, fault = fault }
end

return resty
