--- Reading responses: cueball_dns_answer_read() on bytes as the network may bring them.
local ffi = require "ffi"
local message = require "spec.support.dns_message"
local native = require "cueball.native"
local program = require "spec.support.program"

local lib = native.lib
local u16, u32, wire = message.u16, message.u32, message.wire
local EINVAL, ENOMEM = -1, -2
local SECTIONS = { [0] = "answer", "authority", "additional" }

local GUARD = 64
local room_size = 1024 * 1024
local room = ffi.new("char[?]", room_size + GUARD)

local function data_of(record)
  if record.type == 1 then
    return ("A %d.%d.%d.%d"):format(record.address[0], record.address[1], record.address[2], record.address[3])
  elseif record.type == 28 then
    local hex = {}
    for index = 0, 15 do hex[index + 1] = ("%02x"):format(record.address[index]) end
    return "AAAA " .. table.concat(hex)
  elseif record.type == 33 then
    return ("SRV %d %d %d %s"):format(record.priority, record.weight, record.port, ffi.string(record.target))
  elseif record.type == 5 then
    return "CNAME " .. ffi.string(record.target)
  end
  return "SOA " .. record.minimum
end

-- → "rcode", then a line for each record; or the error
local function read(bytes, name, rr, size)
  local answer = ffi.new "cueball_answer"
  size = size or room_size
  ffi.fill(room + size, GUARD, 0xa5)
  local result = lib.cueball_dns_answer_read(bytes, #bytes, name, rr, room, size, answer)
  for index = 0, GUARD - 1 do assert(bit.band(room[size + index], 0xff) == 0xa5, "wrote beyond its room") end
  if result ~= 0 then return result end
  local lines = { tostring(answer.rcode) }
  for index = 0, answer.count - 1 do
    local record = answer.records[index]
    lines[#lines + 1] = ("%s: %s %d %s"):format(SECTIONS[record.section], ffi.string(record.name), record.ttl, data_of(record))
  end
  return table.concat(lines, "\n")
end

local function response(given)
  given.name, given.rr = given.name or "a.example", given.rr or 1
  return message.response(given)
end

local function read_a(given)
  return read(response(given), "a.example", 1)
end

describe("a response", function()
  it("gives its records, of all sections", function()
    local bytes = response {
      name = "_http._tcp.example", rr = 33,
      answer = { message.srv("_http._tcp.example", 60, 1, 2, 8080, "a.example"), message.srv("_http._tcp.example", 5, 65535, 0, 0, "") },
      authority = { message.soa("example", 300, 30) },
      additional = {
        message.a("a.example", 9, "10.0.0.255"), message.record("a.example", 28, 7, ("\1\2"):rep(8)), message.opt(),
      },
    }
    assert.equal(([[
0
answer: _http._tcp.example 60 SRV 1 2 8080 a.example
answer: _http._tcp.example 5 SRV 65535 0 0 .
authority: example 300 SOA 30
additional: a.example 9 A 10.0.0.255
additional: a.example 7 AAAA 0102010201020102]] .. "0102010201020102"), read(bytes, "_http._tcp.example", 33))
  end)

  it("may be compressed, and a chain", function()
    -- 12 is the question's name, in the header's bytes; its "example" is at 14.
    local bytes = response { answer = {
      "\192\12" .. message.raw_record(5, 60, "\1b\192\14"),
      "\1b\192\14" .. message.raw_record(1, 60, "\10\0\0\1"),
    } }
    assert.equal("0\nanswer: a.example 60 CNAME b.example\nanswer: b.example 60 A 10.0.0.1", read(bytes, "a.example", 1))
  end)

  it("of any response code is one, also of those that EDNS brings", function()
    for rcode = 0, 15 do assert.equal(tostring(rcode), read_a { rcode = rcode }) end
    assert.equal("16", read_a { rcode = 0, additional = { message.opt(1) } })
    assert.equal("4083", read_a { rcode = 3, additional = { message.opt(255) } })
  end)

  it("has the TTLs that were sent, none and the longest", function()
    for _, ttl in ipairs { 0, 1, 2 ^ 31 - 1, 2 ^ 31, 2 ^ 32 - 1 } do
      assert.equal(("0\nanswer: a.example %d A 10.0.0.1"):format(ttl), read_a { answer = { message.a("a.example", ttl, "10.0.0.1") } })
    end
  end)

  it("is to the question asked, compared without case and however it was written", function()
    local bytes = response { name = "A.eXample" }
    for _, name in ipairs { "a.example", "A.EXAMPLE.", "\\097.example", "a.exampl\\e" } do
      assert.equal("0", read(bytes, name, 1))
    end
    local odd = response { question = "\3a.b\2\0 \1\\\0" .. u16(1) .. u16(1) }
    assert.equal("0", read(odd, "a\\.b.\\000\\032.\\\\", 1))
    assert.equal(EINVAL, read(odd, "a.b.\\000\\032.\\\\", 1))
    assert.equal("0", read(response { name = "" }, ".", 1))
  end)

  it("has names with odd octets in zone-file escapes", function()
    local odd = "\5.\\\0\255 \0"
    local bytes = response { answer = { odd .. message.raw_record(5, 1, odd), message.record("", 5, 1, "\0") } }
    local text = [[\.\\\000\255\032]]
    assert.equal(("0\nanswer: %s 1 CNAME %s\nanswer: . 1 CNAME ."):format(text, text), read(bytes, "a.example", 1))
  end)

  it("may have records of other types and classes; they are left out", function()
    assert.equal("0\nanswer: a.example 60 A 10.0.0.1", read_a { answer = {
      message.record("a.example", 16, 60, "\4text"), message.record("a.example", 1, 60, "chaos, not an address", 3),
      message.record("a.example", 65280, 60, ""), message.a("a.example", 60, "10.0.0.1"),
    } })
  end)

  it("of a name of maximum length is read", function()
    local label = ("a"):rep(63)
    local name = ("%s.%s.%s.%s"):format(label, label, label, ("b"):rep(61))
    assert.equal(253, #name)
    local bytes = response { name = name, answer = { message.a(name, 1, "10.0.0.1") } }
    assert.equal(("0\nanswer: %s 1 A 10.0.0.1"):format(name), read(bytes, name, 1))
    assert.equal(EINVAL, read(bytes, name .. "b", 1))
    -- 255 octets, all of which are escaped.
    local longest = ("\63" .. ("\255"):rep(63)):rep(3) .. "\61" .. ("\255"):rep(61) .. "\0"
    local text = ("\\255"):rep(63)
    text = ("%s.%s.%s.%s"):format(text, text, text, ("\\255"):rep(61))
    bytes = response { answer = { longest .. message.raw_record(5, 1, longest) } }
    assert.equal(("0\nanswer: %s 1 CNAME %s"):format(text, text), read(bytes, "a.example", 1))
  end)
end)

describe("what is no response to the question", function()
  local function refused(given)
    assert.equal(EINVAL, read_a(given))
  end

  it("is not believed", function()
    refused { flags = 0x01 }                             -- a query
    refused { flags = 0x83 }                             -- cut
    refused { flags = 0x81 + 0x28 }                      -- to another operation
    refused { name = "b.example" }
    refused { name = "a.example.net" }
    refused { name = "" }
    refused { rr = 28 }
    refused { class = 3 }
    refused { count = 0, question = "" }
    refused { count = 2, question = (wire "a.example" .. u16(1) .. u16(1)):rep(2) }
    assert.equal("0", read_a {})
  end)

  it("is not read at any length but its own", function()
    local bytes = response {
      answer = { message.a("a.example", 60, "10.0.0.1"), message.srv("a.example", 60, 1, 1, 1, "b.example") },
      authority = { message.soa("example", 300, 30) }, additional = { message.opt() },
    }
    for size = 0, #bytes - 1 do assert.equal(EINVAL, read(bytes:sub(1, size), "a.example", 1)) end
    assert.equal(EINVAL, read(bytes .. "\0", "a.example", 1))
    assert.is_string(read(bytes, "a.example", 1))
    assert.equal(EINVAL, read(response { answer = { ("\0"):rep(70000) } }, "a.example", 1))
  end)
end)

describe("a record whose data is not as its type says", function()
  local function data(rr, bytes)
    return read_a { answer = { message.record("a.example", rr, 60, bytes) } }
  end

  it("is garbage, and so is the answer that has it", function()
    for size = 0, 20 do
      assert.equal(size == 4 and "0\nanswer: a.example 60 A 1.1.1.1" or EINVAL, data(1, ("\1"):rep(size)))
      assert.equal(size == 16 and "string" or "number", type(data(28, ("\1"):rep(size))))
    end
    for size = 0, 6 do assert.equal(EINVAL, data(33, ("\0"):rep(size))) end
    assert.equal("0\nanswer: a.example 60 SRV 0 0 0 .", data(33, ("\0"):rep(7)))
    assert.equal(EINVAL, data(33, ("\0"):rep(8)))
    assert.equal(EINVAL, data(33, ("\0"):rep(6) .. "\1b"))
    assert.equal(EINVAL, data(5, ""))
    assert.equal(EINVAL, data(5, "\1b"))
    assert.equal(EINVAL, data(5, "\1b\0\0"))
    assert.equal(EINVAL, data(5, "\64" .. ("b"):rep(64) .. "\0"))
    local numbers = u32(1):rep(4) .. u32(42)
    assert.equal("0\nanswer: a.example 60 SOA 42", data(6, "\0\0" .. numbers))
    assert.equal(EINVAL, data(6, "\0\0" .. numbers:sub(2)))
    assert.equal(EINVAL, data(6, "\0\0" .. numbers .. "\0"))
    assert.equal(EINVAL, data(6, "\0"))
    assert.equal(EINVAL, data(6, ""))
    -- The second name is beyond the data.
    assert.equal(EINVAL, read_a { answer = { message.record("a.example", 6, 60, "\0"), "\0" .. numbers } })
  end)

  it("may not loop, nor point beyond the end", function()
    local here = 12 + #wire "a.example" + 4
    for _, name in ipairs { "\192" .. string.char(here), "\1b\192" .. string.char(here), "\255\255", "\192" } do
      assert.equal(EINVAL, read_a { answer = { name .. message.raw_record(1, 60, "\1\1\1\1") } })
    end
    local at = here + #wire "a.example" + 10
    assert.equal(EINVAL, data(5, "\192" .. string.char(at)))
    assert.equal(EINVAL, data(33, ("\0"):rep(6) .. "\1b\192" .. string.char(at + 6)))
    assert.equal(EINVAL, data(33, ("\0"):rep(6) .. "\255\255"))
  end)
end)

describe("the room for the records", function()
  local bytes = response {
    answer = { message.a("a.example", 60, "10.0.0.1"), message.srv("b.example", 60, 1, 1, 1, "c.example") },
  }

  it("that is too small is told, whatever is missing", function()
    local size, text = 0
    repeat
      text = read(bytes, "a.example", 1, size)
      assert.is_true(text == ENOMEM or type(text) == "string")
      size = size + 1
    until type(text) == "string"
    assert.equal(2 * ffi.sizeof "cueball_record" + 3 * #"a.example" + 3, size - 1)
  end)

  it("need not be aligned", function()
    local answer = ffi.new "cueball_answer"
    for shift = 0, 9 do
      assert.equal(0, lib.cueball_dns_answer_read(bytes, #bytes, "a.example", 1, room + shift, 1000, answer))
      assert.equal("b.example", ffi.string(answer.records[1].name))
      assert.equal(0, tonumber(ffi.cast("uintptr_t", answer.records)) % 8)
    end
  end)

  it("is never more than what the header says, for the worst that can be sent", function()
    local longest = ("\63" .. ("\255"):rep(63)):rep(3) .. "\61" .. ("\255"):rep(61) .. "\0"
    local first = 12 + #wire "a.example" + 4
    local pointer = { "\192" .. string.char(first), "\192" .. string.char(first + 64) }
    local records = { longest .. message.raw_record(5, 1, longest) }
    for index = 1, 4500 do   -- each with another name than the one before
      records[#records + 1] = pointer[index % 2 + 1] .. message.raw_record(5, 1, pointer[1])
    end
    local large = response { answer = records }
    local size = 1024 + 150 * #large
    local memory, answer = ffi.new("char[?]", size), ffi.new "cueball_answer"
    assert.equal(0, lib.cueball_dns_answer_read(large, #large, "a.example", 1, memory, size, answer))
    assert.equal(4501, answer.count)
    assert.is_true(#large < 65536)
  end)

  it("and what is read must be there", function()
    local answer = ffi.new "cueball_answer"
    assert.equal(EINVAL, lib.cueball_dns_answer_read(nil, 0, "a.example", 1, room, 1000, answer))
    assert.equal(EINVAL, lib.cueball_dns_answer_read(bytes, #bytes, nil, 1, room, 1000, answer))
    assert.equal(EINVAL, lib.cueball_dns_answer_read(bytes, #bytes, "a.example", 1, room, 1000, nil))
    assert.equal(EINVAL, lib.cueball_dns_answer_read(bytes, #bytes, "a..example", 1, room, 1000, answer))
    assert.equal(ENOMEM, lib.cueball_dns_answer_read(bytes, #bytes, "a.example", 1, nil, 0, answer))
  end)
end)

describe("answer.make", function()
  local make = require("cueball.dns.answer").make

  it("makes what a server would have sent", function()
    local answer = make(3, {
      { name = "a.example", type = "A", ttl = 60, address = "10.0.0.1" },
      { name = "a.example", type = "AAAA", ttl = 60, address = "::2", section = "additional" },
      { name = "b.example", type = "CNAME", ttl = 1, target = "a.example" },
      { name = "c.example", type = "SRV", ttl = 2, priority = 1, weight = 2, port = 3, target = "a.example" },
      { name = "example", type = "SOA", ttl = 3, minimum = 30, section = "authority" },
    })
    collectgarbage()
    collectgarbage()
    assert.equal(3, answer.rcode)
    local lines = {}
    for index = 0, answer.count - 1 do
      local record = answer.records[index]
      lines[#lines + 1] = ("%s: %s %d %s"):format(SECTIONS[record.section], ffi.string(record.name), record.ttl, data_of(record))
    end
    assert.same({
      "answer: a.example 60 A 10.0.0.1",
      "additional: a.example 60 AAAA 00000000000000000000000000000002",
      "answer: b.example 1 CNAME a.example",
      "answer: c.example 2 SRV 1 2 3 a.example",
      "authority: example 3 SOA 30",
    }, lines)
    assert.equal(0, make(0).count)
  end)

  it("refuses what is no record, at its caller's line", function()
    local _, text = pcall(function() make(0, { { name = "a", type = "A", address = "::1" } }) end)
    assert.matches("reply_spec.lua:%d+: answer.make: record a: ::1 is no address for its type", text)
    assert.error_matches(function() make(0, { { name = "a", type = "MX" } }) end, "record a: its type must be .* got MX")
    assert.error_matches(function() make(0, { { name = "a", type = 1, section = "x" } }) end, "record a: its section must be")
    assert.error_matches(function() make(0, { {} }) end, "a record must be a table with a name")
  end)
end)

describe("the fuzzer's corpus of responses", function()
  setup(program.setup)
  teardown(program.teardown)

  it("finds no fault", function()
    program.run("dns_fuzz", "-DREPLAY spec/fuzz/dns_fuzz.c src/dns/answer.c -lresolv", "spec/fuzz/corpus/dns/*")
  end)
end)
