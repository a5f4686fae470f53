--- DNS messages as bytes, for what reads them and for fake servers.
--
--   local message = require "spec.support.dns_message"
--   message.response { name = "a.example", rr = 1, answer = { message.a("a.example", 60, "10.0.0.1") } }
--
-- response{ id=, name=, rr=, class=, rcode=, flags= (the first byte of the flags; default a response), count= (QDCOUNT),
--   question= (its bytes), answer=, authority=, additional= (lists of records as bytes) }
local servers = require "spec.support.dns_servers"

local u16, wire = servers.u16, servers.wire

local message = { u16 = u16, wire = wire }

function message.u32(number)
  return u16(math.floor(number / 65536)) .. u16(number % 65536)
end

--- A record; `name` is text, or bytes if raw.
function message.record(name, rr, ttl, data, class)
  return wire(name) .. message.raw_record(rr, ttl, data, class)
end

--- What follows a record's name.
function message.raw_record(rr, ttl, data, class)
  return u16(rr) .. u16(class or 1) .. message.u32(ttl) .. u16(#data) .. data
end

function message.ipv4(text)
  return string.char(text:match "(%d+)%.(%d+)%.(%d+)%.(%d+)")
end

function message.a(name, ttl, address)
  return message.record(name, 1, ttl, message.ipv4(address))
end

function message.srv(name, ttl, priority, weight, port, target)
  return message.record(name, 33, ttl, u16(priority) .. u16(weight) .. u16(port) .. wire(target))
end

function message.cname(name, ttl, target)
  return message.record(name, 5, ttl, wire(target))
end

function message.soa(name, ttl, minimum)
  local numbers = { 1, 2, 3, 4, minimum }
  for index, number in ipairs(numbers) do numbers[index] = message.u32(number) end
  return message.record(name, 6, ttl, wire "ns.example" .. wire "mail.example" .. table.concat(numbers))
end

function message.opt(upper_rcode)
  return "\0" .. u16(41) .. u16(1232) .. string.char(upper_rcode or 0) .. "\0\0\0" .. u16(0)
end

function message.response(given)
  local answer, authority, additional = given.answer or {}, given.authority or {}, given.additional or {}
  local question = given.question or wire(given.name) .. u16(given.rr) .. u16(given.class or 1)
  return u16(given.id or 1) .. string.char(given.flags or 0x81, given.rcode or 0) .. u16(given.count or 1)
    .. u16(#answer) .. u16(#authority) .. u16(#additional)
    .. question .. table.concat(answer) .. table.concat(authority) .. table.concat(additional)
end

--- The id and the question's bytes of a query, and whether it has EDNS.
function message.of_query(bytes)
  local stop = bytes:find("\0", 13, true) + 4
  return bytes:byte(1) * 256 + bytes:byte(2), bytes:sub(13, stop), bytes:byte(12) == 1
end

--- A response to the query's bytes; `given` as for response.
function message.reply(query, given)
  local id, question = message.of_query(query)
  given.id, given.question = given.id or id, given.question or question
  return message.response(given)
end

return message
