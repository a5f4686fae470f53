--- The options of cueball.resolver.dns: each mistake is told at the caller's line.
require "spec.support.sim_pool"
local cueball = require "cueball"
local with = require "spec.support.with"

local dns = cueball.resolver.dns

local function options(more)
  local all = with({ domain = "db.example", default_port = 80 }, more)
  return all
end

local function raises(message, more)
  assert.blames("cueball.resolver.dns: " .. message, function() local _ = dns(options(more)) end)
end

describe("cueball.resolver.dns", function()
  it("takes all that the manual lists", function()
    local resolver = dns {
      domain = "db.example.", service = "_pg._tcp", name = "orders", default_port = 5432,
      nameservers = { "10.0.0.53", "[::1]:5353", "::1" },
      recovery = { default = { attempts = 1 }, initial = {}, connect = {}, dns = { timeout_ms = 5 }, dns_srv = { attempts = 2 } },
      max_dns_concurrency = 7, min_ttl_ms = 1, max_ttl_ms = 5000, search = { "a.example" }, ndots = 2,
      families = "ipv4", hosts_file = false,
    }
    assert.equal("orders", resolver.name)
    assert.same({ "10.0.0.53:53", "[::1]:5353", "[::1]:53" }, resolver.options.nameservers)
    assert.same({ "[fe80::1%eth0]:53", "[fe80::1%eth0]:53", "[fe80::2%lo]:54" },
      dns(options { nameservers = { "fe80::1%eth0", "[fe80::1%eth0]", "[fe80::2%lo]:54" } }).options.nameservers)
    assert.equal("db.example", dns(options { domain = "db.example." }).name)
    assert.equal("ns.example", dns(options { nameservers = "ns.example" }).options.nameservers)
    assert.equal("ns.example", dns(options { nameservers = { "ns.example" } }).options.nameservers)
    assert.same({ "10.0.0.53:53" }, dns(options { nameservers = "10.0.0.53" }).options.nameservers)
    assert.truthy(dns(options { search = false, service = false }))
  end)

  it("keeps no hold of the caller's table", function()
    local given = options {}
    local resolver = dns(given)
    given.domain = "x"
    assert.equal("db.example", resolver.options.domain)
  end)

  it("refuses what is no domain or service", function()
    assert.blames("cueball.resolver.dns: expected a table of options, got nil", function() local _ = dns() end)
    assert.blames("cueball.resolver.dns: expected a table of options, got \"db.example\"", function() local _ = dns "db.example" end)
    assert.blames("cueball.resolver.dns: option 'domain' is required: a name such as \"db.example\"",
      function() local _ = dns { default_port = 80 } end)
    raises("option 'domain' must be a name such as \"db.example\", not \"10.0.0.1\": it is an address, not a name", { domain = "10.0.0.1" })
    raises("option 'domain' must be a name such as \"db.example\", not \"1.2.3\": its last part is a number, so it looks like an IPv4 "
      .. "address, but is none", { domain = "1.2.3" })
    raises("option 'domain' must be a string, not 5", { domain = 5 })
    raises("option 'service' must be like \"_http._tcp\", not \"_http\": a service is two parts with underscores", { service = "_http" })
    raises("option 'service' must be a string, or false for none, not true", { service = true })
    local long = ("a."):rep(120) .. "example"
    raises(("option 'service' must be like \"_http._tcp\", not \"_http._tcp\": with the domain it has more than 253 octets"),
      { domain = long, service = "_http._tcp" })
    assert.blames("cueball.resolver.dns: option 'default_port' is required where no 'service' is given: addresses alone tell no port",
      function() local _ = dns { domain = "db.example" } end)
  end)

  it("refuses nameservers that are none, and more than one name for them", function()
    raises("option 'nameservers': there may be one name to find them by, not two: \"ns1.example\" and \"ns2.example\"",
      { nameservers = { "ns1.example", "ns2.example" } })
    raises("option 'nameservers': either addresses or one name to find them by, not both: \"10.0.0.53:53\" and \"ns1.example\"",
      { nameservers = { "ns1.example", "10.0.0.53" } })
    raises("option 'nameservers' is empty; left out, those of the system are asked", { nameservers = {} })
    for _, text in ipairs { "10.0.0.53:0", "10.0.0.53:66000", "ns.example:53", "", "unix:/x", "[::1", "1.2.3" } do
      raises(("option 'nameservers': %q is no nameserver: expected \"IP\", \"IP:PORT\" or \"[IPv6]:PORT\", "
        .. "or the name of them all"):format(text),
        { nameservers = { text } })
    end
    raises("option 'nameservers': 5 is no nameserver: expected \"IP\", \"IP:PORT\" or \"[IPv6]:PORT\", or the name of them all",
      { nameservers = { 5 } })
    raises("option 'nameservers' must be a list of addresses such as \"10.0.0.53\", \"10.0.0.53:5353\" or \"[::1]:53\", or the "
      .. "name to find them by, not 5", { nameservers = 5 })
  end)

  it("refuses numbers out of range, and what it does not know", function()
    raises("unknown option 'nameserver'; did you mean 'nameservers'?", { nameserver = "10.0.0.1" })
    raises("option 'default_port' must be a whole number from 0 to 65535, not 65536", { default_port = 65536 })
    raises("option 'max_dns_concurrency' must be a whole number from 1 to 1000, not 0", { max_dns_concurrency = 0 })
    raises("option 'min_ttl_ms' must be a number of milliseconds from 1 to 86400000, not 0", { min_ttl_ms = 0 })
    raises("option 'max_ttl_ms' must be a number of milliseconds from 1 to 2592000000, not 3000000000", { max_ttl_ms = 3e9 })
    raises("option 'ndots' must be a whole number from 0 to 15, not 16", { ndots = 16 })
    raises("option 'search' must be a list of domains, or false for none, not \"a.example\"", { search = "a.example" })
    raises("option 'families' must be \"ipv4\", \"ipv6\" or \"both\", not \"v4\"", { families = "v4" })
    raises("option 'hosts_file' must be true or false, not 1", { hosts_file = 1 })
    raises("unknown option 'recovery.srv'; there are connect, default, dns, dns_srv, initial", { recovery = { srv = {} } })
    raises("option 'recovery.dns.attempts' must be a whole number from 1 to 1000, not 0", { recovery = { dns = { attempts = 0 } } })
    raises("option 'recovery.default.timeout_ms' must be a number from 0.001 to 86400000 (milliseconds), not -1",
      { recovery = { default = { timeout_ms = -1 } } })
    assert.has_error(function() dns(options { min_ttl_ms = 5000, max_ttl_ms = 4000 }) end)
  end)

  it("lets dns_srv fall back to dns, and that to default", function()
    local read = require("cueball.dns.options").recovery
    local of_dns, of_srv = read("it", { default = { attempts = 7, delay_ms = 5 }, dns = { attempts = 6 },
      dns_srv = { timeout_ms = 50 } }, 2)
    assert.same({ 6, 5, 2000 }, { of_dns.attempts, of_dns.delay_ms, of_dns.timeout_ms })
    assert.same({ 6, 5, 50 }, { of_srv.attempts, of_srv.delay_ms, of_srv.timeout_ms })
  end)
end)
