--- Pools on cueball.resolver.dns against real nameservers on loopback: knot, and unbound in front of it.
-- Times are real here: TTLs are 1 s, and what is waited for has two minutes.
local free_port = require("spec.support.port").free
local cueball = require "cueball"
local backends_of = require "spec.support.backends_of"
local dns_servers = require "spec.support.dns_servers"
local server = require "spec.support.server"
local until_true = require "spec.support.until_true"
local dns_message = require "spec.support.dns_message"
local uv = require "luv"

local PATIENCE_MS = 120000
-- What one answer changes is told one after the other: the pool moves connections once nothing more has come for so long, however busy
-- the machine is.
local REST_MS = 1000
-- QUICK for what is tried until it goes well; a lookup is one try.
local SLOW = { default = { timeout_ms = 5000, delay_ms = 50, max_delay_ms = 200 } }
local QUICK = { default = { timeout_ms = 500, max_timeout_ms = 1000, delay_ms = 50, max_delay_ms = 200 } }

local port, listeners

-- Nodes 127.0.0.2 to 127.0.0.9 on one port, which accept and read.
local function listen()
  listeners, port = {}, free_port()
  for number = 2, 9 do
    local listener = uv.new_tcp()
    assert(listener:bind("127.0.0." .. number, port))
    assert(listener:listen(64, function(err)
      if err then return end
      local client = uv.new_tcp()
      listener:accept(client)
      listeners[#listeners + 1] = client
      client:read_start(function(_, data)
        if not data and not client:is_closing() then client:close() end
      end)
    end))
    listeners[#listeners + 1] = listener
  end
end

setup(function()
  cueball.host().log_to(function() end)
  listen()
end)

teardown(function()
  for _, handle in ipairs(listeners) do
    if not handle:is_closing() then handle:close() end
  end
  uv.run "nowait"
  cueball.host().log_to(nil)
end)

after_each(function() dns_servers.close_all() end)

-- Connections that are told apart.
local function factory()
  local tcp, opened = cueball.connection.tcp {}, 0
  return {
    connect = function(backend, context)
      local socket, message = tcp.connect(backend, context)
      if not socket then return nil, message end
      opened = opened + 1
      return { socket = socket, id = opened }
    end,
    close = function(connection) tcp.close(connection.socket) end,
    broken = function(connection) return tcp.broken(connection.socket) end,
  }
end

local function open(options, max)
  options.recovery = options.recovery or QUICK
  options.hosts_file = false
  options.search = {}
  local pool = cueball.pool { resolver = cueball.resolver.dns(options), connect = factory(), max_connections = max or 4,
    recovery = QUICK, rebalance_delay_ms = REST_MS }
  local events = {}
  pool:subscribe(function(event)
    if event.provenance then events[#events + 1] = ("%s %s: %s"):format(event.kind, event.backend, event.provenance) end
  end)
  return pool, events
end

-- "127.0.0.2 127.0.0.3": the backends.
local function addresses(pool)
  return backends_of(pool, function(backend) return backend.address end)
end

local function await_backends(pool, wanted, idle)
  until_true(function() return addresses(pool) == wanted and pool:stats().idle == idle end, function()
    return ("expected %q, there are %q, %d idle; %s"):format(wanted, addresses(pool), pool:stats().idle, tostring(pool:last_error()))
  end)
end

-- Which connections each backend has, by number.
local function connections(pool)
  local leases, ids = {}, {}
  for index = 1, pool:stats().idle do
    leases[index] = assert(pool:claim { timeout_ms = PATIENCE_MS })
    local key = leases[index]:backend().address
    ids[key] = ids[key] or {}
    table.insert(ids[key], leases[index].connection.id)
  end
  for _, lease in ipairs(leases) do lease:release() end
  for _, list in pairs(ids) do table.sort(list) end
  return ids
end

local function zone(...)
  return table.concat({ "$TTL 1", ... }, "\n") .. "\n"
end

local function srv(name, more) return ("_pg._tcp SRV 0 %s %d %s"):format(more or "10", port, name) end

local ALL = {
  { "knot, with additionals", function(knot) return knot.server end },
  { "unbound before knot", function(knot) return dns_servers.unbound({ forward_to = knot.server }).server end },
}

for _, one in ipairs(ALL) do
  local title, server_of = unpack(one)
  describe("a pool that asks " .. title, function()
    it("follows a zone that changes, and keeps what did not", function()
      local knot = dns_servers.knot { zones = {
        ["example."] = zone(srv "db1", srv "db2", "db1 A 127.0.0.2", "db2 A 127.0.0.3"),
      } }
      cueball.run(function()
        local pool, events = open { domain = "example", service = "_pg._tcp", default_port = port, nameservers = { server_of(knot) } }
        await_backends(pool, "127.0.0.2 127.0.0.3", 4)
        local before = connections(pool)
        knot:rewrite("example.", zone(srv "db1", srv "db3", "db1 A 127.0.0.2", "db2 A 127.0.0.3", "db3 A 127.0.0.4"))
        await_backends(pool, "127.0.0.2 127.0.0.4", 4)
        assert.same(before["127.0.0.2"], connections(pool)["127.0.0.2"])
        assert.equal(0, pool:stats().lost)
        assert.is_truthy(table.concat(events, "\n"):find(
          ("backend_removed 127.0.0.3:%d: db2.example is not in the SRV answer of 127.0.0.1:"):format(port), 1, true))
        assert.is_truthy(table.concat(events, "\n"):find("; SRV _pg._tcp.example from 127.0.0.1:", 1, true))

        local middle = connections(pool)
        knot:rewrite("example.", zone(srv "db1", srv "db3", "db1 A 127.0.0.2", "db3 A 127.0.0.5"))
        await_backends(pool, "127.0.0.2 127.0.0.5", 4)
        assert.same(middle["127.0.0.2"], connections(pool)["127.0.0.2"])
        pool:stop()
      end)
    end)

    it("has A and AAAA where there is no SRV, and tells why", function()
      local knot = dns_servers.knot { zones = { ["example."] = zone("db A 127.0.0.2", "db A 127.0.0.3", "db AAAA ::1") } }
      cueball.run(function()
        local options = { domain = "db.example", service = "_pg._tcp", default_port = port, nameservers = { server_of(knot) },
          families = "ipv4" }
        local pool = open(options)
        await_backends(pool, "127.0.0.2 127.0.0.3", 4)
        pool:stop()
        options.families, options.service, options.recovery = "ipv6", nil, SLOW
        local list = assert(cueball.resolver.dns(options):lookup { timeout_ms = PATIENCE_MS })
        assert.equal(("[::1]:%d"):format(port), list[1].key)
        assert.equal("AAAA", list[1].why.record)
        options.families, options.service = "ipv4", "_pg._tcp"
        list = assert(cueball.resolver.dns(options):lookup { timeout_ms = PATIENCE_MS })
        assert.equal(2, #list)
        assert.is_truthy(list[1].provenance:find("since _pg._tcp.db.example does not exist (NXDOMAIN from 127.0.0.1:", 1, true),
          list[1].provenance)
      end)
    end)

    it("has all of 500 targets, which do not fit into a datagram", function()
      local lines = {}
      for number = 1, 500 do
        lines[#lines + 1] = srv("db" .. number)
        lines[#lines + 1] = ("db%d A 127.1.%d.%d"):format(number, math.floor(number / 250), number % 250 + 1)
      end
      local knot = dns_servers.knot { zones = { ["example."] = "$TTL 60\n" .. table.concat(lines, "\n") } }
      cueball.run(function()
        local list = assert(cueball.resolver.dns({
          domain = "example", service = "_pg._tcp", nameservers = { server_of(knot) }, families = "ipv4", hosts_file = false,
          max_dns_concurrency = 50,
        }):lookup { timeout_ms = PATIENCE_MS })
        assert.equal(500, #list)
        local seen = {}
        for _, backend in ipairs(list) do seen[backend.address] = true end
        assert.is_true(seen["127.1.0.2"] and seen["127.1.2.1"])
      end)
    end)

    it("is told what there is not", function()
      local knot = dns_servers.knot { zones = { ["example."] = zone "db TXT x" } }
      cueball.run(function()
        local function lookup(domain)
          return select(2, cueball.resolver.dns({
            domain = domain, default_port = 80, nameservers = { server_of(knot) }, recovery = SLOW,
          }):lookup { timeout_ms = PATIENCE_MS })
        end
        local message, name = lookup "nobody.example"
        assert.equal("not_found", name)
        assert.is_truthy(message:find("nobody.example does not exist (NXDOMAIN from 127.0.0.1:", 1, true), message)
        message, name = lookup "db.example"
        assert.equal("not_found", name)
        assert.is_truthy(message:find("NODATA", 1, true) or message:find("no addresses", 1, true), message)
        assert.equal("dns_failed", (select(2, lookup "db.elsewhere")))
      end)
    end)
  end)
end

describe("a pool whose nameserver dies", function()
  it("goes on with what it knows, and follows when it is back", function()
    local knot = dns_servers.knot { zones = { ["example."] = zone(srv "db1", srv "db2", "db1 A 127.0.0.2", "db2 A 127.0.0.3") } }
    cueball.run(function()
      local pool = open { domain = "example", service = "_pg._tcp", default_port = port, nameservers = { knot.server },
        max_ttl_ms = 2000 }
      await_backends(pool, "127.0.0.2 127.0.0.3", 4)
      local before = connections(pool)
      local trouble
      pool:subscribe(function(event) if event.kind == "resolver_failed" then trouble = true end end)
      knot:stop()
      cueball.sleep(4000) -- several TTLs, and questions that fail
      assert.same(before, connections(pool))
      assert.equal("running", pool:state())
      knot:rewrite("example.", zone(srv "db1", "db1 A 127.0.0.2"))
      knot:start()
      await_backends(pool, "127.0.0.2", 4)
      assert.is_true(trouble == nil or pool:last_error() ~= nil)
      local after = connections(pool)["127.0.0.2"]
      for index, id in ipairs(before["127.0.0.2"]) do assert.equal(id, after[index]) end
      pool:stop()
    end)
  end)

  it("asks another", function()
    local knot = dns_servers.knot { zones = { ["example."] = zone "db A 127.0.0.2" } }
    local dead = "127.0.0.1:" .. free_port()
    cueball.run(function()
      local pool = open { domain = "db.example", default_port = port, nameservers = { dead, knot.server }, families = "ipv4" }
      await_backends(pool, "127.0.0.2", 4)
      pool:stop()
    end)
  end)
end)

-- Nameservers that cannot be believed, before one that can: what they say, and the name of it.
local function answer_with(rcode)
  return function(query, reply) reply(dns_message.reply(query, { rcode = rcode })) end
end

local LIARS = {
  { "says what cannot be read", function(_, reply) reply "rubbish" end },
  { "answers another id", function(query, reply)
    local id = dns_message.of_query(query)
    reply(dns_message.reply(query, { id = (id + 1) % 65536, answer = { dns_message.a("db.example", 60, "127.0.0.9") } }))
  end },
  { "tells of another name only", function(query, reply)
    reply(dns_message.reply(query, { rcode = 2, answer = { dns_message.a("evil.example", 60, "127.0.0.9") } }))
  end },
  { "has SERVFAIL", answer_with(2) },
  { "has REFUSED", answer_with(5) },
  { "has NOTIMP", answer_with(4) },
}

describe("a pool whose first nameserver", function()
  for _, one in ipairs(LIARS) do
    local title, answer = unpack(one)
    it(title .. " asks the second", function()
      local knot = dns_servers.knot { zones = { ["example."] = zone "db A 127.0.0.2" } }
      local liar = dns_servers.fake(answer)
      cueball.run(function()
        local pool = open { domain = "db.example", default_port = port, nameservers = { liar.server, knot.server }, families = "ipv4" }
        await_backends(pool, "127.0.0.2", 4)
        assert.is_truthy(pool:backends()[1].provenance:find("from " .. knot.server, 1, true))
        pool:stop()
      end)
    end)
  end
end)

describe("a pool whose only nameserver", function()
  it("adds addresses of names that were not asked for is told none of them", function()
    local liar = dns_servers.fake(function(query, reply)
      reply(dns_message.reply(query, {
        answer = { dns_message.a("DB.example", 60, "127.0.0.2"), dns_message.a("other.example", 60, "127.0.0.9") },
        additional = { dns_message.a("db.example", 60, "127.0.0.8") },
      }))
    end)
    cueball.run(function()
      local pool = open { domain = "db.example", default_port = port, nameservers = { liar.server }, families = "ipv4" }
      await_backends(pool, "127.0.0.2", 4)
      pool:stop()
    end)
  end)

  it("has the targets in another zone asks for their addresses", function()
    local long = ("a"):rep(63) .. "." .. ("b"):rep(63) .. "." .. ("c"):rep(63) .. "." .. ("d"):rep(51) -- 253 octets with .other.net
    local knot = dns_servers.knot { zones = {
      ["example."] = zone(("_pg._tcp SRV 0 1 %d db.other.net."):format(port), ("_pg._tcp SRV 0 1 %d %s.other.net."):format(port, long)),
      ["other.net."] = zone("db A 127.0.0.2", long .. " A 127.0.0.3"),
    } }
    -- Minimal answers: whatever comes along is left out on the way.
    local unbound = dns_servers.unbound { forward_to = knot.server, is_minimal = true }
    cueball.run(function()
      local pool = open { domain = "example", service = "_pg._tcp", default_port = port, nameservers = { unbound.server },
        families = "ipv4" }
      await_backends(pool, "127.0.0.2 127.0.0.3", 4)
      for _, backend in ipairs(pool:backends()) do
        assert.is_nil(backend.provenance:find("came along", 1, true))
        assert.is_true(#backend.name == 12 or #backend.name == 253, backend.name)
      end
      pool:stop()
    end)
  end)
end)

describe("a pool whose nameservers have a name", function()
  it("finds them by the system's, and follows them", function()
    local names = dns_servers.knot { zones = { ["example."] = zone "db A 127.0.0.2" } }
    local system = dns_servers.knot { zones = {
      ["ns.example."] = zone(("_dns._udp SRV 0 0 %d one"):format(names.port), "one A 127.0.0.1"),
    } }
    cueball.run(function()
      -- The system's settings are the machine's: here they are replaced by ones that lead to our server.
      local host = setmetatable({}, { __index = cueball.host() })
      host.dns = setmetatable({ system = function()
        return { servers = { system.server }, search = {}, ndots = 1, rotate = false }
      end }, { __index = cueball.host().dns })
      local resolver = cueball.resolver.dns { domain = "db.example", default_port = port, nameservers = "ns.example", families = "ipv4",
        hosts_file = false }
      local list = assert(resolver:lookup { host = host, timeout_ms = PATIENCE_MS })
      assert.equal("127.0.0.2", list[1].address)
      assert.equal(names.server, list[1].why.server)
    end)
  end)
end)

describe("cueball.resolver.dns on the machine's own settings", function()
  it("knows localhost without asking anybody", function()
    cueball.run(function()
      local list = assert(cueball.resolver.from("localhost:80", { nameservers = { "127.0.0.1:1" } }):lookup { timeout_ms = PATIENCE_MS })
      local found
      for _, backend in ipairs(list) do found = found or backend.key == "127.0.0.1:80" and backend end
      assert.is_truthy(found)
      assert.equal("hosts file", found.why.server)
    end)
  end)

  it("leaves nothing that keeps the loop alive", function()
    local before = server.open_handles()
    cueball.run(function()
      cueball.resolver.dns({ domain = "db.example", default_port = 80, nameservers = { "127.0.0.1:1" }, recovery = QUICK }):lookup()
    end)
    assert.equal("", server.left_open(before))
  end)
end)

