--- host.dns under the real nginx, against a real nameserver (Knot DNS) and false ones, both ways that it can ask;
-- and cueball.resolver.dns there.
local free_port = require("spec.support.port").free
local uv = require "luv"
local dns_zone = require "spec.support.dns_zone"
local message = require "spec.support.dns_message"
local nginx = require "spec.support.nginx"
local servers = require "spec.support.dns_servers"
local system = require "cueball.dns.system"
local wire = require "cueball.nginx.dns.wire"

local A, AAAA, SRV = 1, 28, 33
local LONG_MS, SHORT_MS = 20000, 600   -- SHORT_MS: where nothing will come

-- Asks as the request says, and prints what came: "rcode" and a line for each record.
local ASKER = [[
local ffi = require "ffi"
local lib = require("cueball.native").lib
local host = require("cueball").host()
local dns = { wire = require("cueball.nginx.dns").new(host, "wire"), resty = require("cueball.nginx.dns").new(host, "resty") }
local DATA = {
  A = function(r) return ("%d.%d.%d.%d"):format(r.address[0], r.address[1], r.address[2], r.address[3]) end,
  AAAA = function(r) return ("%02x…%02x"):format(r.address[0], r.address[15]) end,
  SRV = function(r) return ("%d %d %d %s"):format(r.priority, r.weight, r.port, ffi.string(r.target)) end,
  SOA = function(r) return r.minimum end,
  CNAME = function(r) return ffi.string(r.target) end,
}
local SECTIONS = { [0] = "", "authority: ", "additional: " }
local asker = {}

function asker.text_of(answer)
  local lines = { ffi.string(lib.cueball_rcode_name(answer.rcode)) }
  for index = 0, answer.count - 1 do
    local record = answer.records[index]
    local name, kind = ffi.string(record.name), ffi.string(lib.cueball_rr_name(record.type))
    if name ~= "ns.example" then
      lines[#lines + 1] = ("%s%s %d %s %s"):format(SECTIONS[record.section], name, record.ttl, kind, DATA[kind](record))
    end
  end
  return table.concat(lines, "\n")
end

function asker.ask(way, to, name, rr, timeout_ms)
  local waiter, is_inside, calls = host.waiter(), true, 0
  local id, why_not = dns[way].ask(to, name, rr, timeout_ms, function(answer, why)
    assert(not is_inside, "inside of the call")
    calls = calls + 1
    assert(calls == 1, "twice")
    waiter:wake(answer and asker.text_of(answer) or why)
  end)
  is_inside = false
  if not id then return "refused: " .. why_not end
  return waiter:wait(timeout_ms + 5000), id
end

function asker.serve()
  local given = ngx.req.get_uri_args()
  ngx.print((asker.ask(given.way, given.to, given.name, tonumber(given.rr), tonumber(given.ms))))
end

-- As many questions at once as the request says, of which every second is forgotten at once.
function asker.many()
  local given = ngx.req.get_uri_args()
  local waiter, left, texts, forgotten = host.waiter(), 0, {}, 0
  local count = tonumber(given.count)
  for index = 1, count do
    local name = ("node-%d.example"):format(index)
    local id = dns[given.way].ask(given.to, name, 1, 20000, function(answer, why)
      if index % 2 == 0 then forgotten = forgotten + 1 return end
      texts[index] = answer and asker.text_of(answer) or why
      left = left - 1
      if left == 0 then waiter:wake() end
    end)
    if index % 2 == 0 then dns[given.way].forget(id) else left = left + 1 end
  end
  waiter:wait(20000)
  local lines = { forgotten .. " of the forgotten" }
  for index = 1, count, 2 do lines[#lines + 1] = texts[index] or "nothing" end
  ngx.print(table.concat(lines, "\n"))
end

-- A question with 100 ms, and an alarm that is much later: which comes first?
function asker.order()
  local given = ngx.req.get_uri_args()
  local waiter = host.waiter()
  local alarm = host.alarm(function() waiter:wake "the alarm" end)
  alarm:set(host.now() + 15e9)
  dns[given.way].ask(given.to, "a.example", 1, 100, function(_, why) waiter:wake(why) end)
  ngx.print((waiter:wait(20000)))
  alarm:close()
end

function asker.facts()
  local settings = host.dns.system()
  ngx.say(#settings.servers > 0, " ", settings.ndots, " ", host.dns.families() >= 1, " ", host.dns.way())
  ngx.print(asker.text_of(host.dns.hosts("www.localhost", 1)), asker.text_of(host.dns.hosts("localhost", 28)))
end
return asker
]]

local SERVER = [[
location = /ask { content_by_lua_block { require("asker").serve() } }
location = /many { content_by_lua_block { require("asker").many() } }
location = /collect { content_by_lua_block { collectgarbage() collectgarbage() ngx.print "done" } }
location = /order { content_by_lua_block { require("asker").order() } }
location = /facts { content_by_lua_block { require("asker").facts() } }
]]

local function escape(text)
  return (text:gsub("[^%w]", function(byte) return ("%%%02X"):format(byte:byte()) end))
end

local one

local function ask(way, to, name, rr, timeout_ms)
  return one:ask(("/ask?way=%s&to=%s&name=%s&rr=%d&ms=%d"):format(way, escape(to), escape(name), rr, timeout_ms or LONG_MS))
end

local sorted = dns_zone.sorted
local ZONE = dns_zone.text(300)

local function good(query)
  return message.reply(query, { answer = { message.a("a.example", 60, "10.0.0.1") } })
end

setup(function() one = nginx.start { server = SERVER, files = { ["asker.lua"] = ASKER } } end)
teardown(function()
  one:stop()
  servers.close_all()
end)
after_each(servers.close_fakes)

for _, way in ipairs { "wire", "resty" } do
  describe("a real nameserver, asked by " .. way, function()
    local knot

    setup(function() knot = servers.knot { zones = { ["example."] = ZONE } } end)

    it("answers with addresses, of either family", function()
      assert.equal(sorted "NOERROR\ndb.example 60 A 10.0.0.1\ndb.example 60 A 10.0.0.2", sorted(ask(way, knot.server, "db.example", A)))
      assert.equal("NOERROR\ndb.example 60 AAAA 20…05", ask(way, knot.server, "db.example.", AAAA))
      assert.matches("^NOERROR\nhuge.example %d+ A 10.0.0.3$", ask(way, knot.server, "huge.example", A))
    end)

    it("answers with services and their addresses", function()
      assert.equal(sorted [[
NOERROR
_http._tcp.example 30 SRV 10 5 8080 db.example
_http._tcp.example 30 SRV 20 0 8081 four.example
additional: db.example 60 A 10.0.0.1
additional: db.example 60 A 10.0.0.2
additional: db.example 60 AAAA 20…05
additional: four.example 60 A 10.0.0.4]], sorted(ask(way, knot.server, "_http._tcp.example", SRV)))
      assert.equal("NOERROR\n_none._tcp.example 60 SRV 0 0 0 .", ask(way, knot.server, "_none._tcp.example", SRV))
    end)

    it("answers with a chain, and says what there is not, and for how long", function()
      assert.equal("NOERROR\nalias.example 60 CNAME other-alias.example\nother-alias.example 5 CNAME db.example\n"
        .. "db.example 60 AAAA 20…05", ask(way, knot.server, "alias.example", AAAA))
      assert.equal("NXDOMAIN\nauthority: example 1 SOA 1", ask(way, knot.server, "nobody.example", A))
      assert.equal("NOERROR\nauthority: example 1 SOA 1", ask(way, knot.server, "four.example", AAAA))
      assert.equal("REFUSED", ask(way, knot.server, "nobody.elsewhere", A))
    end)

    it("is asked over TCP if its answer is cut", function()
      local text = ask(way, knot.server, "_many._tcp.example", SRV)
      assert.equal(300, select(2, text:gsub("_many._tcp.example 60 SRV 0 1 8%d%d%d node%-%d+%.example", "")))
    end)

    it("answers many at once, each its own, and none that was forgotten", function()
      local lines = {}
      for line in one:ask(("/many?way=%s&to=%s&count=200"):format(way, escape(knot.server))):gmatch "[^\n]+" do lines[#lines + 1] = line end
      assert.equal("0 of the forgotten", lines[1])
      for index = 1, 199, 2 do
        assert.equal("NOERROR", lines[index + 1])
        assert.equal(("node-%d.example 60 A 10.1.0.%d"):format(index, index), lines[index + 2])
      end
    end)
  end)

  describe("questions by " .. way, function()
    it("leave no socket behind, not even those that were forgotten", function()
      local fake = servers.fake(function(query, reply) reply(good(query)) end)
      local function descriptors()
        one:ask "/collect"
        local count, list = 0, uv.fs_scandir("/proc/" .. one:workers()[1] .. "/fd")
        while uv.fs_scandir_next(list) do count = count + 1 end
        return count
      end
      one:ask(("/many?way=%s&to=%s&count=20"):format(way, escape(fake.server)))
      local before = descriptors()
      for _ = 1, 5 do one:ask(("/many?way=%s&to=%s&count=100"):format(way, escape(fake.server))) end
      nginx.until_true(function() return descriptors() <= before + 5 end, descriptors)
    end)
  end)

  describe("a nameserver that is not there or silent, asked by " .. way, function()
    it("refuses, or is a timeout at the question's own limit", function()
      local port = free_port()
      assert.equal("refused", ask(way, "127.0.0.1:" .. port, "a.example", A))
      assert.equal("refused", ask(way, "[::1]:" .. port, "a.example", A))
      local fake = servers.fake(function() end)
      assert.equal("timeout", ask(way, fake.server, "a.example", A, SHORT_MS))
      nginx.until_true(function() return #fake.queries == (way == "wire" and 2 or 1) end) -- with EDNS, and without
      assert.equal("timeout", one:ask(("/order?way=%s&to=%s"):format(way, escape(fake.server))))
    end)

    it("is refused at once if it is none, and so are names that are none", function()
      for _, bad in ipairs { "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "localhost:53", "" } do
        assert.matches("^refused: cannot ask", ask(way, bad, "a.example", A))
      end
      assert.matches("^refused: cannot ask", ask(way, "127.0.0.1:53", ("a"):rep(2000), A))
    end)
  end)
end

describe("a name on the wire", function()
  it("is its labels, with what is escaped in them", function()
    assert.equal("\1a\7example\0", wire.name "a.example")
    assert.equal("\1a\7example\0", wire.name "a.example.")
    assert.equal("\3a.b\2\200\\\0", wire.name "a\\.b.\\200\\\\")
    assert.equal("\0", wire.name ".")
    assert.is_nil(wire.name "a..b")
    assert.is_nil(wire.name ".a")
    assert.is_nil(wire.name "a\\999")
    assert.is_nil(wire.name(("a"):rep(64)))
    assert.equal(255, #wire.name((("a"):rep(63) .. "."):rep(3) .. ("a"):rep(61)))
    assert.is_nil(wire.name((("a"):rep(63) .. "."):rep(3) .. ("a"):rep(62)))
  end)
end)

local GOOD = "NOERROR\na.example 60 A 10.0.0.1"

local function falsified(with)
  return function(query)
    local given = { answer = { message.a("a.example", 60, "10.6.6.6") } }
    for key, value in pairs(with) do given[key] = value end
    return message.reply(query, given)
  end
end

describe("a false nameserver, asked by wire", function()
  local function ask_it(fake, timeout_ms) return ask("wire", fake.server, "a.example", A, timeout_ms) end

  local function passed_over(name, bad)
    it("is not heard if it answers " .. name .. ", and the true answer is waited for", function()
      local only_bad = servers.fake(function(query, reply, elsewhere)
        local bytes = bad(query, elsewhere)
        if bytes then reply(bytes) end
      end)
      assert.equal("timeout", ask_it(only_bad, SHORT_MS))
      local both = servers.fake(function(query, reply, elsewhere)
        local bytes = bad(query, elsewhere)
        if bytes then reply(bytes) end
        reply(good(query))
      end)
      assert.equal(GOOD, ask_it(both))
    end)
  end

  passed_over("with the wrong id", function(query) return falsified { id = (message.of_query(query) + 1) % 65536 } (query) end)
  passed_over("to another name", falsified { question = message.wire "b.example" .. "\0\1\0\1" })
  passed_over("for another type", falsified { question = message.wire "a.example" .. "\0\28\0\1" })
  passed_over("in another class", falsified { question = message.wire "a.example" .. "\0\1\0\3" })
  passed_over("to no question", falsified { question = "", count = 0 })
  passed_over("with the query itself", function(query) return query end)
  passed_over("with less than a header", function(query) return query:sub(1, 11) end)
  passed_over("from another port", function(query, elsewhere) elsewhere(falsified {} (query)) end)

  local function garbage(name, bad)
    it("is garbage if it answers " .. name, function()
      assert.equal("garbage", ask_it(servers.fake(function(query, reply) reply(bad(query)) end)))
    end)
  end

  garbage("with less than it says", function(query) return good(query):sub(1, -2) end)
  garbage("with more than it says", function(query) return good(query) .. "\0" end)
  garbage("with an address of five octets", function(query)
    return message.reply(query, { answer = { message.record("a.example", A, 60, "\1\1\1\1\1") } })
  end)

  it("may answer in another case", function()
    local fake = servers.fake(function(query, reply)
      reply(message.reply(query, { question = message.wire "A.EXAMPLE" .. "\0\1\0\1", answer = { message.a("a.example", 0, "10.0.0.1") } }))
    end)
    assert.equal("NOERROR\na.example 0 A 10.0.0.1", ask_it(fake))
  end)

  it("that will not have EDNS is asked without: FORMERR, NOTIMP, BADVERS, with and without the question in it", function()
    for _, given in ipairs {
      { rcode = 1 }, { rcode = 1, question = "", count = 0 }, { rcode = 1, additional = { message.opt() } },
      { rcode = 4 }, { rcode = 4, question = "", count = 0 }, { rcode = 0, additional = { message.opt(1) } },
    } do
      local function refusal(query)
        local copy = {}
        for key, value in pairs(given) do copy[key] = value end
        return message.reply(query, copy)
      end
      local fake = servers.fake(function(query, reply)
        local _, _, has_edns = message.of_query(query)
        reply(has_edns and refusal(query) or good(query))
      end)
      assert.equal(GOOD, ask_it(fake))
      assert.equal(2, #fake.queries)
      local always = servers.fake(function(query, reply) reply(refusal(query)) end)
      if given.rcode == 1 then assert.equal("FORMERR", ask_it(always)) end
    end
  end)

  it("that is silent to EDNS is asked without, after half of the time", function()
    local fake = servers.fake(function(query, reply)
      local _, _, has_edns = message.of_query(query)
      if not has_edns then reply(good(query)) end
    end)
    assert.equal(GOOD, ask_it(fake, 8000))
    assert.equal(2, #fake.queries)
  end)

  it("that refuses EDNS when it has been asked without is believed in what it says without", function()
    for _, given in ipairs { { rcode = 1 }, { rcode = 4, question = "", count = 0 }, { rcode = 0, additional = { message.opt(1) } } } do
      local refuse
      local fake = servers.fake(function(query, reply)
        local _, _, has_edns = message.of_query(query)
        if has_edns then
          refuse = function() reply(message.reply(query, given)) end
          return
        end
        refuse()
        reply(good(query))
      end)
      assert.equal(GOOD, ask_it(fake))
      assert.equal(2, #fake.queries)
    end
  end)

  it("whose answer is cut is asked over TCP, and may fail there", function()
    local function cut(query, reply) reply(message.reply(query, { flags = 0x83, answer = { message.a("a.example", 60, "10.6.6.6") } })) end
    assert.equal(GOOD, ask_it(servers.fake(cut, function(query, reply) reply(good(query)) end)))
    assert.equal("cut", ask_it(servers.fake(cut)))
    assert.equal("cut", ask_it(servers.fake(cut, function(_, _, client) client:close() end)))
    assert.equal("cut", ask_it(servers.fake(cut, function() end), 4000)) -- "timeout" if the first answer is not here after half of it
    assert.equal("garbage", ask_it(servers.fake(cut, function(_, reply) reply(("x"):rep(40)) end)))
  end)
end)

describe("a false nameserver, asked by resty", function()
  it("is garbage if what it answers cannot be read", function()
    for _, bad in ipairs {
      function(query) return good(query):sub(1, -2) end,
      function(query) return query end,
      function(query) return message.reply(query, { answer = { message.record("a.example", A, 60, "\1\1\1\1\1") } }) end,
    } do
      assert.equal("garbage", ask("resty", servers.fake(function(query, reply) reply(bad(query)) end).server, "a.example", A))
    end
    assert.is_nil(one:log():match "cueball: dns: [^\n]*")
  end)

  it("may use TTLs beyond all bounds", function()
    local fake = servers.fake(function(query, reply)
      reply(message.reply(query, { answer = { message.a("a.example", 2 ^ 31 + 5, "10.0.0.2") } }))
    end)
    assert.equal("NOERROR\na.example 2147483653 A 10.0.0.2", ask("resty", fake.server, "a.example", A))
  end)
end)

describe("the system's settings", function()
  it("are those of resolv.conf and of the environment", function()
    local function parsed(...)
      local found = system.parse(...)
      found.from = nil
      return found
    end
    local link = "fe80::1%eth0"
    local text = [[
# nameserver 10.9.9.9
nameserver 10.0.0.53 ; the old one
nameserver 2001:db8::53
nameserver fe80::1%eth0
nameserver unknown
domain old.example
search a.example b.example.
options timeout:1 ndots:3 rotate
]]
    assert.same({
      servers = { "10.0.0.53:53", "[2001:db8::53]:53" }, search = { "a.example", "b.example" }, ndots = 3, rotate = true, timeout_ms = 1000,
      unusable = { { server = link, why = "it is on a link, and this host's sockets cannot be told which" } },
    }, parsed(text, {}, "box.corp.example"))
    assert.same({ "10.0.0.53:53", "[2001:db8::53]:53", "[fe80::1%eth0]:53" }, parsed(text, {}, "box", true).servers)
    assert.same({}, parsed("nameserver " .. link, {}, "box").servers) -- and not this machine, which nobody named
    local all = parsed("options timeout:99 attempts:9 use-vc no-tld-query ndots:x timeout", {}, "box")
    assert.same({ 30000, 5, true, true, 1 }, { all.timeout_ms, all.attempts, all.use_vc, all.no_tld_query, all.ndots })
    assert.same({ servers = { "127.0.0.1:53" }, search = { "corp.example" }, ndots = 1, rotate = false, unusable = {} },
      parsed("", {}, "box.corp.example\n"))
    assert.same({ servers = { "127.0.0.1:53" }, search = { "x.example" }, ndots = 15, rotate = false, unusable = {} },
      parsed("search a.example", { LOCALDOMAIN = "x.example", RES_OPTIONS = "ndots:99" }, "box\n"))
    assert.same({}, parsed("", {}, "box\n").search)
  end)

  it("tell which families there are", function()
    assert.equal(1, system.families "")
    assert.equal(1, system.families(("0"):rep(31) .. "1 01 80 10 80       lo\nfe80" .. ("0"):rep(27) .. "1 02 40 20 80     eth0\n"))
    assert.equal(3, system.families(("0"):rep(31) .. "1 01 80 10 80       lo\n20010db8" .. ("0"):rep(23) .. "1 02 40 00 80     eth0\n"))
  end)

  it("have a hosts file, in which localhost is this machine", function()
    local file = system.hosts(
      "10.0.0.9 db.local DB2 # x\n10.0.0.8\tdb.local\n::5 db.local\n10.6.6.6 localhost\nrubbish db2\n# 10.1.1.1 no\n")
    assert.same({
      { name = "DB.local.", type = "A", ttl = 60, address = "10.0.0.9" },
      { name = "DB.local.", type = "A", ttl = 60, address = "10.0.0.8" },
    }, system.records_of(file, "DB.local.", A))
    assert.equal("::5", system.records_of(file, "db.local", AAAA)[1].address)
    assert.equal("10.0.0.9", system.records_of(file, "db2", A)[1].address)
    assert.equal("127.0.0.1", system.records_of(file, "localhost", A)[1].address)
    assert.equal("::1", system.records_of(file, "www.localhost.", AAAA)[1].address)
    assert.is_nil(system.records_of(file, "no", A))
    assert.is_nil(system.records_of(file, "db.local", SRV))
  end)

  it("are read in nginx too", function()
    assert.matches("^true %d+ true wire\nNOERROR\nwww.localhost 60 A 127.0.0.1NOERROR\nlocalhost 60 AAAA 00…01$", one:ask "/facts")
  end)
end)

describe("host.dns where there is no timer to be had", function()
  it("is run by the request that waits", function()
    local fake = servers.fake(function(query, reply) reply(good(query)) end)
    local before = one
    one = nginx.start { server = SERVER, files = { ["asker.lua"] = ASKER },
      http = "lua_max_running_timers 1; init_worker_by_lua_block { ngx.timer.at(0, function() ngx.sleep(3600) end) }" }
    local ok, answer = pcall(ask, "wire", fake.server, "a.example", A)
    one:stop()
    one = before
    assert.equal(GOOD, answer)
    assert.is_true(ok)
  end)
end)

describe("cueball.resolver.dns in nginx", function()
  it("finds the backends, and follows the zone", function()
    local knot = servers.knot { zones = { ["example."] = "db 1 A 10.0.0.1\n" } }
    local another = nginx.start {
      workers = 2, files = { ["my_pools.lua"] = ([[
        local cueball = require "cueball"
        return cueball.pool { max_connections = 2, connect = function() return {} end,
          resolver = cueball.resolver.dns { domain = "db.example", default_port = 80, nameservers = { "%s" }, min_ttl_ms = 200 } }
      ]]):format(knot.server) },
      http = "init_worker_by_lua_block { pool = require 'my_pools' }",
      server = [[location = /backends { content_by_lua_block {
        local keys = {}
        for index, backend in ipairs(pool:backends()) do keys[index] = backend.key end
        ngx.print(table.concat(keys, " "))
      } }]],
    }
    nginx.until_true(function() return another:ask "/backends" == "10.0.0.1:80" end, function() return another:log() end)
    knot:rewrite("example.", "db 1 A 10.0.0.2\n")
    nginx.until_true(function() return another:ask "/backends" == "10.0.0.2:80" end, function() return another:log() end)
    assert.is_nil(another:log():match "%[error%][^\n]*")
    another:stop()
  end)
end)
