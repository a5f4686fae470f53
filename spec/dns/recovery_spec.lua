--- Discovery that recovers, against real nameservers on loopback: knot, unbound in front of it, dnsmasq. Times are real here.
local cueball = require "cueball"
local backends_of = require "spec.support.backends_of"
local dns_servers = require "spec.support.dns_servers"
local until_true = require "spec.support.until_true"

local QUICK = { default = { timeout_ms = 300, max_timeout_ms = 600, delay_ms = 50, max_delay_ms = 200, attempts = 2 } }

setup(function() cueball.host().log_to(function() end) end)
teardown(function() cueball.host().log_to(nil) end)
after_each(function() dns_servers.close_all() end)

local function open(options)
  options.recovery, options.hosts_file, options.search, options.families = QUICK, false, {}, "ipv4"
  return cueball.pool { resolver = cueball.resolver.dns(options), connect = function() return {} end, max_connections = 2 }
end

local function addresses(pool)
  return backends_of(pool, function(backend) return backend.address end)
end

local function await(pool, wanted)
  until_true(function() return addresses(pool) == wanted end, function()
    return ("expected %q, there is %q; %s"):format(wanted, addresses(pool), tostring(pool:last_error()))
  end)
end

local function await_failure(pool, words)
  until_true(function() return pool:resolver().failing and pool:resolver().message:find(words, 1, true) end,
    function() return pool:resolver().message end)
end

describe("a pool", function()
  it("whose nameserver (knot) is not there at first finds its nodes soon after it is", function()
    local knot = dns_servers.knot { zones = { ["example."] = "db 3600 A 127.0.0.2\n" } }
    knot:stop()
    cueball.run(function()
      local pool = open { domain = "db.example", default_port = 80, nameservers = { knot.server } }
      await_failure(pool, "connection refused, asking " .. knot.server)
      knot:start()
      await(pool, "127.0.0.2")
      assert.is_false(pool:resolver().failing)
      pool:stop()
    end)
  end)

  it("whose resolver (unbound) has SERVFAIL for a while follows a node that moved meanwhile", function()
    local knot = dns_servers.knot { zones = { ["example."] = "db 1 A 127.0.0.2\n" } }
    local unbound = dns_servers.unbound { forward_to = knot.server }
    cueball.run(function()
      local pool = open { domain = "db.example", default_port = 80, nameservers = { unbound.server } }
      await(pool, "127.0.0.2")
      knot:stop()
      await_failure(pool, "A db.example")
      assert.equal("127.0.0.2", addresses(pool))
      knot:rewrite("example.", "db 3600 A 127.0.0.3\n")
      knot:start()
      await(pool, "127.0.0.3")
      pool:stop()
    end)
  end)

  it("whose service is gone for a moment, at a nameserver that sends no SOA (dnsmasq), finds it again", function()
    local SRV = "--srv-host=_pg._tcp.example,%s,5432"
    local dnsmasq = dns_servers.dnsmasq { records = { SRV:format "a.example", "--host-record=a.example,127.0.0.2,1" } }
    cueball.run(function()
      local pool = open { domain = "example", service = "_pg._tcp", default_port = 5432, nameservers = { dnsmasq.server },
        max_ttl_ms = 1000 }
      await(pool, "127.0.0.2")
      dnsmasq:rewrite {}
      cueball.sleep(4000) -- some rounds without it
      assert.equal("127.0.0.2", addresses(pool))
      dnsmasq:rewrite { SRV:format "b.example", "--host-record=b.example,127.0.0.3,1" }
      await(pool, "127.0.0.3")
      pool:stop()
    end)
  end)
end)
