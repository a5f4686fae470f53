--- One question, one answer: resolver:lookup, on the simulated host.
require "spec.support.sim_pool"
local cueball = require "cueball"
local sim = require "cueball.host.sim"

local ZONE = [[
  _pg._tcp.example  60 SRV 0 10 5432 db1.example
  _pg._tcp.example  60 SRV 5 20 5433 db2.example
  db1.example       30 A   10.0.0.1
  db2.example       30 A   10.0.0.2
  db2.example       30 AAAA fe80::2
  lonely.example    30 AAAA fe80::2
  broken.example       SERVFAIL
  example          300 SOA 60
]]

local world

local function resolver(given)
  given.host = world
  return cueball.resolver.dns(given)
end

local function keys(list)
  local all = {}
  for index, backend in ipairs(list) do all[index] = backend.key end
  table.sort(all)
  return table.concat(all, " ")
end

before_each(function()
  world = sim.new { seed = 1 }
  world.zone(ZONE)
end)
after_each(function()
  assert.same({}, world.leaks())
end)

describe("a lookup", function()
  it("gives the backends with everything known of them", function()
    local list = assert(resolver({ domain = "example", service = "_pg._tcp" }):lookup())
    assert.equal("10.0.0.1:5432 10.0.0.2:5433 [fe80::2]:5433", keys(list))
    for _, backend in ipairs(list) do
      if backend.key == "10.0.0.2:5433" then
        assert.same({ "10.0.0.2", 5433, "db2.example", 20, 5 },
          { backend.address, backend.port, backend.name, backend.weight, backend.priority })
        local why = backend.why
        assert.same({ "A", "db2.example", "127.0.0.1:53", 30, "_pg._tcp.example", "127.0.0.1:53", true },
          { why.record, why.owner, why.server, why.ttl, why.srv_name, why.srv_server, why.is_additional })
        assert.is_truthy(backend.provenance:find("A 10.0.0.2 of db2.example", 1, true))
      end
    end
    assert.equal("[fe80::2]:80", keys(resolver({ domain = "lonely.example", default_port = 80 }):lookup()))
  end)

  it("runs in a task, or by itself", function()
    world.run(function()
      assert.equal("10.0.0.1:7", keys(resolver({ domain = "db1.example", default_port = 7 }):lookup()))
    end)
    assert.equal("10.0.0.1:7", keys(resolver({ domain = "db1.example", default_port = 7 }):lookup { host = world }))
  end)

  it("says what there is not", function()
    assert.same({ nil, "db3.example does not exist (NXDOMAIN from 127.0.0.1:53)", "not_found" },
      { resolver({ domain = "db3.example", default_port = 80 }):lookup() })
    assert.same({ nil, "no SRV records for _pg._tcp.db1.example, and no default_port", "not_found" },
      { resolver({ domain = "db1.example", service = "_pg._tcp" }):lookup() })
    assert.equal("not_found", (select(3, resolver({ domain = "_pg._tcp.example", default_port = 80 }):lookup())))
  end)

  it("ends in time", function()
    local server = world.nameserver("127.0.0.1:53", { silence = "timeout" })
    local one = resolver { domain = "db1.example", default_port = 80 }
    local ASKED = ", asking for AAAA db1.example of 127.0.0.1:53"
    assert.same({ nil, "db1.example: no answer within 5000 ms" .. ASKED, "timeout" }, { one:lookup() })
    assert.equal(5000, world.time_ms())
    local list, message, name = one:lookup { timeout_ms = 100 }
    assert.same({ nil, "db1.example: no answer within 100 ms" .. ASKED, "timeout" }, { list, message, name })
    assert.equal(5100, world.time_ms())
    list, message, name = one:lookup { timeout_ms = 100000 }
    assert.is_nil(list)
    assert.is_truthy(message:find("no answer from 127.0.0.1:53", 1, true), message)
    assert.equal("timeout", name)
    server:stop()
    assert.equal("dns_failed", (select(3, one:lookup())))
    server:set { silence = "garbage" }
    assert.equal("dns_failed", (select(3, one:lookup())))
  end)

  it("tells servers that will not say from names that are not there", function()
    local list, message, name = resolver({ domain = "broken.example", default_port = 80 }):lookup()
    assert.is_nil(list)
    assert.equal("dns_failed", name)
    assert.is_truthy(message:find("SERVFAIL from 127.0.0.1:53", 1, true), message)
  end)

  it("gives what was found by the end of its time", function()
    world.zone [[
      _pg._tcp.example  60 SRV 0 10 5432 db1.example
      _pg._tcp.example  60 SRV 0 10 5432 broken.example
      db1.example 30 A 10.0.0.1
      broken.example SERVFAIL ]]
    world.nameserver("127.0.0.1:53", { additionals = false })
    local one = resolver { domain = "example", service = "_pg._tcp", recovery = { dns = { attempts = 100 } } }
    assert.equal("10.0.0.1:5432", keys(one:lookup { timeout_ms = 300 }))
  end)

  it("raises at the caller's line where nothing can wait, and leaves nothing", function()
    world.run(function()
      local _, message = pcall(string.gsub, "x", ".", function()
        local list = resolver({ domain = "db1.example", default_port = 80 }):lookup()
        return list
      end)
      assert.matches("^spec/dns/lookup_spec.lua:%d+: resolver:lookup: nothing may wait here", message)
    end)
  end)

  it("leaves nothing if its task is killed", function()
    world.nameserver("127.0.0.1:53", { silence = "timeout" })
    local task = world.spawn(function() resolver({ domain = "db1.example", default_port = 80 }):lookup() end)
    world.advance(100)
    assert.is_true(#world.leaks() > 0)
    world.kill(task)
    world.advance(0)
  end)

  it("is for hosts that have dns", function()
    world.dns = nil
    local list, message, name = resolver({ domain = "db1.example", default_port = 80 }):lookup()
    assert.same({ nil, 'the host "sim" has no dns: cueball.resolver.dns works on cueball.host.uv, cueball.host.sim and cueball.nginx.host',
      "not_supported" }, { list, message, name })
  end)

  it("refuses mistakes at the caller's line", function()
    local one = resolver { domain = "db1.example", default_port = 80 }
    assert.blames("resolver:lookup: unknown option 'timeout'; did you mean 'timeout_ms'?", function() one:lookup { timeout = 5 } end)
    assert.blames("resolver:lookup: option 'timeout_ms' must be a number of milliseconds above 0, up to 86400000, not 0",
      function() one:lookup { timeout_ms = 0 } end)
  end)
end)
