--- host.dns of the libuv host, against real nameservers (Knot DNS, Unbound) and false ones; the client under it.
local collect = require "spec.support.collect"
local free_port = require("spec.support.port").free
local ffi = require "ffi"
local host = require "cueball.host.uv"
local dns_zone = require "spec.support.dns_zone"
local message = require "spec.support.dns_message"
local native = require "cueball.native"
local server = require "spec.support.server"
local servers = require "spec.support.dns_servers"
local until_true = require "spec.support.until_true"
local uv = require "luv"

local lib = native.lib
local EINVAL, ENOT_FOUND, A, SOA, AAAA, SRV = -1, -10, 1, 6, 28, 33
local LONG_MS, SHORT_MS = 60000, 300   -- SHORT_MS: where nothing will come

local function data_of(record)
  if record.type == A then
    return ("A %d.%d.%d.%d"):format(record.address[0], record.address[1], record.address[2], record.address[3])
  elseif record.type == AAAA then
    return ("AAAA %02x…%02x"):format(record.address[0], record.address[15])
  elseif record.type == SRV then
    return ("SRV %d %d %d %s"):format(record.priority, record.weight, record.port, ffi.string(record.target))
  elseif record.type == SOA then
    return "SOA " .. record.minimum
  end
  return "CNAME " .. ffi.string(record.target)
end

local RCODES = { [0] = "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED" }
local SECTIONS = { [0] = "", "authority: ", "additional: " }

-- "rcode" and a line for each record, but the nameserver's own
local function text_of(answer)
  local lines = { RCODES[answer.rcode] }
  for index = 0, answer.count - 1 do
    local record = answer.records[index]
    local name = ffi.string(record.name)
    if name ~= "ns.example" then
      lines[#lines + 1] = ("%s%s %d %s"):format(SECTIONS[record.section], name, record.ttl, data_of(record))
    end
  end
  return table.concat(lines, "\n")
end

-- → what text_of says, or the silence
local function ask(to, name, rr, timeout_ms)
  local waiter = host.waiter()
  local is_inside = true
  assert(host.dns.ask(to, name, rr, timeout_ms or LONG_MS, function(answer, why)
    assert(not is_inside and host.current() == nil)
    waiter:wake(answer and text_of(answer) or why)
  end))
  is_inside = false
  return (waiter:wait(LONG_MS))
end

-- it(), in a task; afterwards there is no handle that was not there before.
local function task_it(name, fn)
  it(name, function()
    local before = server.open_handles()
    host.run(fn)
    servers.close_fakes()
    assert.equal("", server.left_open(before))
  end)
end

local label = ("a"):rep(63)
local LONGEST = ("%s.%s.%s.%s.example"):format(label, label, label, ("b"):rep(53))

local sorted = dns_zone.sorted
local ZONE = dns_zone.text(500) .. LONGEST:gsub("%.example$", "") .. " A 10.0.0.8\n"

describe("a real nameserver", function()
  local knot

  setup(function() knot = servers.knot { zones = { ["example."] = ZONE } } end)
  teardown(servers.close_all)

  task_it("answers with addresses, of either family", function()
    assert.equal(sorted "NOERROR\ndb.example 60 A 10.0.0.1\ndb.example 60 A 10.0.0.2", sorted(ask(knot.server, "db.example", A)))
    assert.equal("NOERROR\ndb.example 60 AAAA 20…05", ask(knot.server, "db.example.", AAAA))
    assert.equal("NOERROR\nzero.example 0 A 10.0.0.9", ask(knot.server, "zero.example", A))
    assert.matches("^NOERROR\nDB.eXample 60 A", ask(knot.server, "DB.eXample", A))
  end)

  task_it("answers with services and their addresses", function()
    assert.equal(sorted [[
NOERROR
_http._tcp.example 30 SRV 10 5 8080 db.example
_http._tcp.example 30 SRV 20 0 8081 four.example
additional: db.example 60 A 10.0.0.1
additional: db.example 60 A 10.0.0.2
additional: db.example 60 AAAA 20…05
additional: four.example 60 A 10.0.0.4]], sorted(ask(knot.server, "_http._tcp.example", SRV)))
    assert.equal("NOERROR\n_none._tcp.example 60 SRV 0 0 0 .", ask(knot.server, "_none._tcp.example", SRV))
  end)

  task_it("answers with a chain", function()
    assert.equal("NOERROR\nalias.example 60 CNAME other-alias.example\nother-alias.example 5 CNAME db.example\n"
      .. "db.example 60 AAAA 20…05", ask(knot.server, "alias.example", AAAA))
  end)

  task_it("says what there is not, and for how long", function()
    assert.equal("NXDOMAIN\nauthority: example 1 SOA 1", ask(knot.server, "nobody.example", A))
    assert.equal("NOERROR\nauthority: example 1 SOA 1", ask(knot.server, "four.example", AAAA))
    assert.equal("REFUSED", ask(knot.server, "nobody.elsewhere", A))
  end)

  task_it("knows names of maximum length, and with octets that need an escape", function()
    assert.equal(253, #LONGEST)
    assert.equal("NOERROR\n" .. LONGEST .. " 60 A 10.0.0.8", ask(knot.server, LONGEST, A))
    assert.equal("NOERROR\ndot\\.ted\\200.example 60 A 10.0.0.7", ask(knot.server, "dot\\.ted\\200.example", A))
  end)

  task_it("is asked over TCP if its answer is cut", function()
    local text = ask(knot.server, "_many._tcp.example", SRV)
    assert.equal(500, select(2, text:gsub("_many._tcp.example 60 SRV 0 1 8%d%d%d node%-%d+%.example", "")))
  end)

  task_it("answers many questions at once, each its own", function()
    local got, count, waiter = {}, 0, host.waiter()
    for index = 1, 300 do
      assert(host.dns.ask(knot.server, ("node-%d.example"):format(index), A, LONG_MS, function(answer)
        got[index] = answer and text_of(answer)
        count = count + 1
        if count == 300 then waiter:wake() end
      end))
    end
    waiter:wait(LONG_MS)
    for index = 1, 300 do
      assert.equal(("NOERROR\nnode-%d.example 60 A 10.1.%d.%d"):format(index, math.floor(index / 256), index % 256), got[index])
    end
  end)

  task_it("may have another in between", function()
    local unbound = servers.unbound { forward_to = knot.server }
    assert.equal(sorted "NOERROR\ndb.example 60 A 10.0.0.1\ndb.example 60 A 10.0.0.2",
      sorted((ask(unbound.server, "db.example", A):gsub("\nauthority:[^\n]+", ""))))
    assert.matches("^NXDOMAIN\nauthority: example %d SOA 1$", ask(unbound.server, "nobody.example", A))
    local text = ask(unbound.server, "_many._tcp.example", SRV)
    assert.equal(500, select(2, text:gsub("_many._tcp.example %d+ SRV", "")))
    -- What it forwards to refuses, so it failed.
    assert.equal("SERVFAIL", ask(unbound.server, "nobody.elsewhere", A))
    unbound:close()
  end)

  task_it("dies, comes back, and has another zone", function()
    local other = servers.knot { zones = { ["example."] = "a A 10.0.0.1" } }
    assert.equal("NOERROR\na.example 60 A 10.0.0.1", ask(other.server, "a.example", A))
    other:stop()
    assert.equal("refused", ask(other.server, "a.example", A))
    other:start()
    assert.equal("NOERROR\na.example 60 A 10.0.0.1", ask(other.server, "a.example", A))
    other:rewrite("example.", "a A 10.0.0.2")
    assert.equal("NOERROR\na.example 60 A 10.0.0.2", ask(other.server, "a.example", A))
    other:close()
  end)
end)

describe("a nameserver that is not there, or silent", function()
  task_it("is a network error, also on IPv6", function()
    local port = free_port()
    assert.equal("refused", ask("127.0.0.1:" .. port, "a.example", A))
    assert.equal("refused", ask("[::1]:" .. port, "a.example", A))
    -- Refused by the kernel within the call; done is called after it even so.
    assert.equal("network", ask("255.255.255.255:53", "a.example", A))
    -- No route to it (TEST-NET-1), or one on which nothing comes back.
    assert.is_true(({ network = true, timeout = true, refused = true })[ask("192.0.2.1:53", "a.example", A, SHORT_MS)])
  end)

  task_it("may be on a link, which is named", function()
    assert.is_truthy(({ network = true, timeout = true, refused = true })[ask("[fe80::1%lo]:9", "a.example", A, SHORT_MS)])
    local id, why = host.dns.ask("[fe80::1%nolink0]:9", "a.example", A, SHORT_MS, function() end)
    assert.is_nil(id)
    assert.matches("cannot ask %[fe80::1%%nolink0%]:9", why)
  end)

  -- Neither the order of those that are late nor how often they were asked is known on a machine that stood still: the longest tells.
  task_it("is a timeout, at the question's own limit", function()
    local fake = servers.fake(function() end)
    local from, longest = host.now(), nil
    local id = host.dns.ask(fake.server, "longest.example", A, LONG_MS, function(_, why) longest = why end)
    local waiters = {}
    for index, ms in ipairs { 400, 200 } do
      waiters[index] = host.waiter()
      assert(host.dns.ask(fake.server, "a.example", A, ms, function(answer, why) waiters[index]:wake(answer, why, host.now() - from) end))
    end
    for index, ms in ipairs { 400, 200 } do
      local answer, why, took = waiters[index]:wait(LONG_MS)
      assert.is_nil(answer)
      assert.equal("timeout", why)
      assert.is_true(took >= ms * 1e6)
    end
    local function asked()
      local sizes = {}
      for _, query in ipairs(fake.queries) do
        if query:find("longest", 1, true) then sizes[#sizes + 1] = #query end
      end
      return sizes
    end
    until_true(function() return #asked() == 2 end) -- with EDNS and, after a while, without
    local sizes = asked()
    assert.is_true(sizes[1] > sizes[2])
    assert.is_nil(longest)
    host.dns.forget(id)
  end)
end)

describe("a false nameserver", function()
  local function answers(...)
    local list, index = { ... }, 0
    return servers.fake(function(query, reply, reply_from_elsewhere)
      index = index + 1
      local bytes = list[math.min(index, #list)](query, reply_from_elsewhere)
      if bytes then reply(bytes) end
    end)
  end

  local function good(query)
    return message.reply(query, { answer = { message.a("a.example", 60, "10.0.0.1") } })
  end

  local GOOD = "NOERROR\na.example 60 A 10.0.0.1"

  task_it("is believed if it does what it should", function()
    assert.equal(GOOD, ask(answers(good).server, "a.example", A))
  end)

  -- What cannot be the answer is passed over: the right one may still come, and nobody can end a question by guessing.
  local function passed_over(name, bad)
    task_it("is not heard if it answers " .. name .. ", and the true answer is waited for", function()
      assert.equal("timeout", ask(answers(bad).server, "a.example", A, SHORT_MS))
      local fake = servers.fake(function(query, reply, reply_from_elsewhere)
        local bytes = bad(query, reply_from_elsewhere)
        if bytes then reply(bytes) end
        reply(good(query))
      end)
      assert.equal(GOOD, ask(fake.server, "a.example", A))
    end)
  end

  local false_answer = { answer = { message.a("a.example", 60, "10.6.6.6") } }

  local function falsified(with)
    return function(query)
      local given = { answer = false_answer.answer }
      for key, value in pairs(with) do given[key] = value end
      return message.reply(query, given)
    end
  end

  passed_over("with the wrong id", function(query)
    return falsified { id = (message.of_query(query) + 1) % 65536 } (query)
  end)
  passed_over("to another name", falsified { question = message.wire "b.example" .. "\0\1\0\1" })
  passed_over("for another type", falsified { question = message.wire "a.example" .. "\0\28\0\1" })
  passed_over("in another class", falsified { question = message.wire "a.example" .. "\0\1\0\3" })
  passed_over("to no question", falsified { question = "", count = 0 })
  passed_over("with nothing", function() return "" end)
  passed_over("with the query itself", function(query) return query end)
  passed_over("with less than a header", function(query) return query:sub(1, 11) end)
  passed_over("from another port", function(query, reply_from_elsewhere)
    reply_from_elsewhere(falsified {} (query))
  end)

  local function garbage(name, bad)
    task_it("is garbage if it answers " .. name, function()
      assert.equal("garbage", ask(answers(bad).server, "a.example", A))
    end)
  end

  garbage("with less than it says", function(query) return good(query):sub(1, -2) end)
  garbage("with more than it says", function(query) return good(query) .. "\0" end)
  garbage("with a compression loop", function(query)
    local _, question = message.of_query(query)
    return message.reply(query, { answer = { "\192" .. string.char(12 + #question) .. message.raw_record(1, 60, "\1\1\1\1") } })
  end)
  garbage("with an address of five octets", function(query)
    return message.reply(query, { answer = { message.record("a.example", 1, 60, "\1\1\1\1\1") } })
  end)

  task_it("may answer in another case, with TTLs of nothing and beyond all bounds", function()
    local fake = answers(function(query)
      return message.reply(query, {
        question = message.wire "A.EXAMPLE" .. "\0\1\0\1",
        answer = { message.a("a.example", 0, "10.0.0.1"), message.a("a.example", 2 ^ 31 + 5, "10.0.0.2") },
      })
    end)
    assert.equal("NOERROR\na.example 0 A 10.0.0.1\na.example 2147483653 A 10.0.0.2", ask(fake.server, "a.example", A))
  end)

  task_it("is asked over TCP alone if that is wanted", function()
    local fake = servers.fake(function() error "over UDP" end, function(query, reply) reply(good(query)) end)
    local waiter = host.waiter()
    local function done(answer, why) waiter:wake(answer and text_of(answer) or why) end
    assert(host.dns.ask(fake.server, "a.example", A, LONG_MS, done, true))
    assert.equal(GOOD, (waiter:wait(LONG_MS)))
  end)

  task_it("whose answer is cut is asked over TCP", function()
    local function cut(query, reply)
      reply(message.reply(query, { flags = 0x83, answer = { message.a("a.example", 60, "10.6.6.6") } }))
    end
    local over_tcp = servers.fake(cut, function(query, reply) reply(good(query)) end)
    assert.equal(GOOD, ask(over_tcp.server, "a.example", A))
    local closing = servers.fake(cut, function(_, _, client) client:close() end)
    assert.equal("cut", ask(closing.server, "a.example", A))
    local silent = servers.fake(cut, function() end)
    assert.equal("cut", ask(silent.server, "a.example", A, 2000)) -- in which the answer over UDP must come
    local still_cut = servers.fake(cut, cut)
    assert.equal("garbage", ask(still_cut.server, "a.example", A))
  end)

  task_it("draws each question's id and port anew", function()
    local ids = {}
    local fake = servers.fake(function(query, reply)
      ids[message.of_query(query)] = true
      reply(good(query))
    end)
    for _ = 1, 20 do ask(fake.server, "a.example", A) end
    local count = 0
    for _ in pairs(ids) do count = count + 1 end
    assert.is_true(count >= 18)   -- two of 20 are the same once in 300 runs
  end)
end)

describe("host.dns", function()
  task_it("forgets: done is not called, and nothing is left", function()
    local before = server.open_handles()
    local fake = servers.fake(function(query, reply) reply(message.reply(query, {})) end)
    local calls = 0
    local function count() calls = calls + 1 end
    local silent = servers.fake(function() end)
    host.dns.forget(assert(host.dns.ask(silent.server, "a.example", A, LONG_MS, count)))
    local soon = host.dns.ask(fake.server, "a.example", A, LONG_MS, count)
    host.dns.forget(soon)
    host.dns.forget(soon)
    host.dns.forget(4711)
    -- One that has its reply already, as the network refused it within the call, but was not told.
    local refused = assert(host.dns.ask("127.0.0.1:" .. free_port(), "a.example", A, LONG_MS, count))
    host.dns.forget(refused)
    host.sleep(50)
    assert.equal(0, calls)
    fake:close()
    silent:close()
    host.sleep(0)
    assert.equal("", server.left_open(before))
  end)

  task_it("may be asked, and forget, within done", function()
    local fake = servers.fake(function(query, reply) reply(message.reply(query, { rcode = 3 })) end)
    local waiter = host.waiter()
    local other = assert(host.dns.ask(fake.server, "b.example", A, LONG_MS, function() waiter:wake "not forgotten" end))
    host.dns.ask(fake.server, "a.example", A, LONG_MS, function(answer)
      host.dns.forget(other)
      host.dns.ask(fake.server, "c.example", A, LONG_MS, function(next_answer)
        waiter:wake(next_answer and next_answer.rcode)
      end)
      -- What done was given stays as it is during the call.
      assert(answer.rcode == 3)
    end)
    local got = waiter:wait(LONG_MS)
    assert.is_true(got == 3 or got == "not forgotten", tostring(got))
  end)

  task_it("goes on though done throws; it is logged", function()
    local fake = servers.fake(function(query, reply) reply(message.reply(query, {})) end)
    local lines = {}
    host.log_to(function(_, text) lines[#lines + 1] = text end)
    host.dns.ask(fake.server, "a.example", A, LONG_MS, function() error "oh" end)
    local text = ask(fake.server, "b.example", A)
    while #lines == 0 do host.sleep(1) end
    host.log_to(nil)
    assert.equal("NOERROR", text)
    assert.matches("oh", lines[1])
  end)

  it("refuses what is no server, name or time limit", function()
    for _, to in ipairs { "", "localhost:53", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:5x", "::1:53",
      "[::1]", "[::1]:", "[127.0.0.1]:53", "[]:53", ":53", "127.0.0.1:+5", ("1"):rep(300) .. ":53" } do
      local id, text = host.dns.ask(to, "a.example", A, 1000, error)
      assert.is_nil(id, to)
      assert.matches("^cannot ask .* for a.example", text)
    end
    for _, name in ipairs { "", "a..b", ".a", ("a"):rep(64), ("a."):rep(127) .. "a", "a\\" } do
      assert.is_nil((host.dns.ask("127.0.0.1:53", name, A, 1000, error)), name)
    end
    for _, ms in ipairs { 0, -1, 0 / 0, 1 / 0 } do
      assert.is_nil((host.dns.ask("127.0.0.1:53", "a.example", A, ms, error)))
    end
    assert.is_nil((host.dns.ask("127.0.0.1:53", "a.example", 0, 1000, error)))
    assert.is_nil((host.dns.ask("127.0.0.1:53", "a.example", 65536, 1000, error)))
  end)
end)

describe("the client", function()
  local function new()
    local box = ffi.new "cueball_dns *[1]"
    assert.equal(0, lib.cueball_dns_new(box))
    return box[0]
  end

  local socket, reply = ffi.new "cueball_dns_socket", ffi.new "cueball_dns_reply"

  it("may be freed with questions under way, refused, and replied to", function()
    local fake = servers.fake(function() end)
    local dns = new()
    for user = 1, 3 do assert.equal(0, lib.cueball_dns_ask(dns, fake.server, "a.example", A, 1000, 0, user)) end
    assert.equal(0, lib.cueball_dns_ask(dns, "127.0.0.1:" .. free_port(), "a.example", A, 1000, 0, 4))
    assert.is_true(lib.cueball_dns_next_socket(dns, socket))
    lib.cueball_dns_free(dns)
    lib.cueball_dns_free(nil)
    fake:close()
  end)

  it("takes a name of a question once, and keeps a socket until it is released", function()
    local fake = servers.fake(function() end)
    local dns = new()
    assert.equal(-1, lib.cueball_dns_timeout_ms(dns))
    assert.equal(0, lib.cueball_dns_ask(dns, fake.server, "a.example", A, 60000, 0, 7))
    assert.equal(EINVAL, lib.cueball_dns_ask(dns, fake.server, "a.example", A, 60000, 0, 7))
    local ms = lib.cueball_dns_timeout_ms(dns)
    assert.is_true(ms > 0 and ms <= 60000)
    assert.is_true(lib.cueball_dns_next_socket(dns, socket))
    local fd = socket.fd
    assert.is_true(socket.is_readable_wanted and not socket.is_closing)
    assert.is_false(lib.cueball_dns_next_socket(dns, socket))
    assert.equal(ENOT_FOUND, lib.cueball_dns_socket_released(dns, fd))
    assert.equal(0, lib.cueball_dns_forget(dns, 7))
    assert.equal(ENOT_FOUND, lib.cueball_dns_forget(dns, 7))
    assert.equal(ENOT_FOUND, lib.cueball_dns_socket_ready(dns, fd, true, false))
    -- Its number is taken as long as it is not released.
    assert.equal(0, lib.cueball_dns_ask(dns, fake.server, "a.example", A, 60000, 0, 7))
    local seen = {}
    while lib.cueball_dns_next_socket(dns, socket) do seen[socket.fd] = socket.is_closing end
    assert.is_true(seen[fd])
    seen[fd] = nil
    assert.is_false(select(2, next(seen)))
    assert.equal(0, lib.cueball_dns_socket_released(dns, fd))
    assert.equal(ENOT_FOUND, lib.cueball_dns_socket_released(dns, fd))
    assert.is_false(lib.cueball_dns_next_reply(dns, reply))
    lib.cueball_dns_free(dns)
    fake:close()
  end)

  it("closes at once what nobody watched", function()
    collect() -- what earlier specs left would be closed as this one counts
    local dns = new()
    local function lowest()
      local handle = uv.new_udp()
      handle:bind("127.0.0.1", 0)
      local fd = handle:fileno()
      handle:close()
      uv.run "nowait"
      return fd
    end
    local before = lowest()
    for user = 1, 50 do
      lib.cueball_dns_ask(dns, "127.0.0.1:9", "a.example", A, 1000, 0, user)
      lib.cueball_dns_forget(dns, user)
    end
    assert.equal(before, lowest())
    lib.cueball_dns_free(dns)
  end)
end)
