--- How backends look: for scripts, on a terminal, as JSON.
local json = require "dkjson"
local machine = require "spec.support.machine"
local output = require "cueball.cli.output"
local with = require "spec.support.with"

local function backend(address, port, more)
  local key = require("cueball.address").join(address, port)
  local one = with({ address = address, port = port, key = key, name = "db", priority = 0, weight = 1 }, more)
  return one
end

local db1 = backend("10.0.0.1", 5432, { name = "db1.example", provenance =
  "A 10.0.0.1 of db1.example from 127.0.0.1:53, TTL 30 s; SRV _pg._tcp.example from 127.0.0.1:53, TTL 60 s",
  why = { record = "A", owner = "db1.example", server = "127.0.0.1:53", ttl = 30, targets_from = 1, removal = 0,
    srv_name = "_pg._tcp.example", srv_server = "127.0.0.1:53", srv_ttl = 60, is_additional = false } })
local db2 = backend("2001:db8::2", 5433, { name = "db2.example", priority = 10, weight = 5, provenance = "AAAA of db2.example" })

describe("the order of backends", function()
  local function order(list)
    local keys = {}
    for index, one in ipairs(output.sorted(list)) do keys[index] = one.key end
    return table.concat(keys, " ")
  end

  it("is by priority, then by address as a number, then by port", function()
    assert.equal("10.0.0.2:80 10.0.0.10:9 10.0.0.10:80 [::2]:1 [::10]:1 unix:/a 10.0.0.1:80", order {
      backend("10.0.0.1", 80, { priority = 1 }), backend("unix:/a", 0), backend("::10", 1), backend("::2", 1),
      backend("10.0.0.10", 80), backend("10.0.0.10", 9), backend("10.0.0.2", 80),
    })
  end)

  it("is the same whatever order they came in, and leaves the list alone", function()
    local a, b = backend("10.0.0.1", 80, { key = "a" }), backend("10.0.0.1", 80, { key = "b" })
    local list = { b, a }
    assert.equal("a b", order(list))
    assert.equal("a b", order { a, b })
    assert.equal(b, list[1])
  end)
end)

describe("output for scripts", function()
  it("is a line for each, with single spaces and without colour", function()
    local system = machine.new()
    assert.is_true(output.new(system, {}):backends({ db2, db1 }, {}))
    assert.equal("10.0.0.1 5432 10.0.0.1:5432\n2001:db8::2 5433 [2001:db8::2]:5433\n", system.out)
  end)

  it("has with --why a line for each thing that led there", function()
    local system = machine.new()
    output.new(system, { why = true }):backends({ db2, db1 }, {})
    assert.equal([[
10.0.0.1 5432 10.0.0.1:5432
  A 10.0.0.1 of db1.example from 127.0.0.1:53, TTL 30 s
  SRV _pg._tcp.example from 127.0.0.1:53, TTL 60 s
2001:db8::2 5433 [2001:db8::2]:5433
  AAAA of db2.example
]], system.out)
  end)

  it("tells changes one a line, with the time to the millisecond", function()
    local system = machine.new()
    local out = output.new(system, {})
    out:event("added", db1)
    system.clock = 1000000000.9996
    out:event("changed", db2)
    out:event("removed", db1)
    assert.equal([[
2001-09-09T01:46:40.123Z added 10.0.0.1:5432 10.0.0.1:5432
2001-09-09T01:46:41.000Z changed [2001:db8::2]:5433 [2001:db8::2]:5433
2001-09-09T01:46:41.000Z removed 10.0.0.1:5432 10.0.0.1:5432
]], system.out)
    system.out = ""
    output.new(system, { why = true }):event("added", db2)
    assert.equal("2001-09-09T01:46:41.000Z added [2001:db8::2]:5433 [2001:db8::2]:5433 AAAA of db2.example\n", system.out)
  end)
end)

describe("output on a terminal", function()
  local function plain(text) return (text:gsub("\27%[%d+m", "")) end

  it("is aligned under titles, with the columns that tell something", function()
    local system = machine.new { terminals = { out = true } }
    output.new(system, { color = "never" }):backends({ db1, db2 }, {})
    assert.equal([[
ADDRESS      PORT  KEY                 NAME         PRIORITY  WEIGHT
10.0.0.1     5432  10.0.0.1:5432       db1.example         0       1
2001:db8::2  5433  [2001:db8::2]:5433  db2.example        10       5
]], system.out)
    system.out = ""
    local one = backend("10.0.0.1", 80, { name = "10.0.0.1:80" })
    output.new(system, { color = "never" }):backends({ one }, {})
    assert.equal("ADDRESS   PORT  KEY\n10.0.0.1    80  10.0.0.1:80\n", system.out)
  end)

  it("is coloured, unless NO_COLOR or a dumb terminal says otherwise", function()
    local function colored(changes, color)
      local system = machine.new(changes)
      output.new(system, { color = color or "auto" }):backends({ db1 }, {})
      local is_colored = system.out:find "\27" ~= nil
      if is_colored then assert.is_truthy(plain(system.out):find "10%.0%.0%.1%s") end
      return is_colored
    end
    local terminal = { out = true }
    assert.is_true(colored { terminals = terminal })
    assert.is_true(colored { terminals = terminal, variables = { NO_COLOR = "" } })
    assert.is_false(colored { terminals = terminal, variables = { NO_COLOR = "1" } })
    assert.is_false(colored { terminals = terminal, variables = { TERM = "dumb" } })
    assert.is_false(colored { terminals = { err = true } })
    assert.is_false(colored({ terminals = terminal }, "never"))
    assert.is_true(colored({ variables = { NO_COLOR = "1" } }, "always"))
  end)

  it("is the same text with colour and without", function()
    local colored, bare = machine.new { terminals = { out = true } }, machine.new { terminals = { out = true } }
    for _, system in ipairs { colored, bare } do
      local out = output.new(system, { color = system == colored and "always" or "never", why = true })
      out:backends({ db1, db2 }, {})
      out:event("added", db1)
    end
    assert.not_equal(bare.out, colored.out)
    assert.equal(bare.out, plain(colored.out))
  end)
end)

describe("JSON", function()
  it("is one document, its members in the same order each time", function()
    local system = machine.new { terminals = { out = true } }
    output.new(system, { json = true }):backends({ db2, db1 }, { name = "example", service = "_pg._tcp" })
    assert.equal('{"name":"example","service":"_pg._tcp","backends":['
      .. '{"name":"db1.example","address":"10.0.0.1","port":5432,"key":"10.0.0.1:5432","priority":0,"weight":1},'
      .. '{"name":"db2.example","address":"2001:db8::2","port":5433,"key":"[2001:db8::2]:5433","priority":10,"weight":5}]}\n', system.out)
  end)

  it("has why with --why", function()
    local system = machine.new()
    output.new(system, { json = true, why = true }):backends({ db1 }, { name = "example" })
    local document = json.decode(system.out, 1, json.null)
    assert.equal(json.null, document.service)
    assert.same({ provenance = db1.provenance, record = "A", owner = "db1.example", server = "127.0.0.1:53", ttl = 30,
      targets_from = "srv", srv_name = "_pg._tcp.example", srv_server = "127.0.0.1:53", srv_ttl = 60, is_additional = false },
      document.backends[1].why)
  end)

  it("has names where the tracker has numbers, and leaves out what is not known", function()
    local system = machine.new()
    output.new(system, { json = true, why = true }):event("removed", backend("10.0.0.1", 80, { provenance = "p", why = {
      record = "A", owner = "db", server = "127.0.0.1:53", ttl = 0, targets_from = 4, removal = 3, srv_name = "_pg._tcp.db",
      srv_server = "", srv_ttl = 0, is_additional = false } }))
    assert.same({ provenance = "p", record = "A", owner = "db", server = "127.0.0.1:53", ttl = 0, targets_from = "notimp",
      removal = "name", srv_name = "_pg._tcp.db", is_additional = false }, json.decode(system.out).why)
    local lib = require("cueball.native").lib
    for prefix, names in pairs { CUEBALL_TARGETS_ = output.names.targets_from, CUEBALL_REMOVAL_ = output.names.removal } do
      for number, name in pairs(names) do assert.equal(number, tonumber(lib[prefix .. name:upper()])) end
    end
  end)

  it("is a line for each change when following", function()
    local system = machine.new()
    output.new(system, { json = true, why = true }):event("removed", db2)
    local first, rest = system.out:match "^(.-)\n(.*)$"
    assert.equal("", rest)
    assert.same({ time = "2001-09-09T01:46:40.123Z", event = "removed", address = "2001:db8::2", port = 5433,
      key = "[2001:db8::2]:5433", name = "db2.example", priority = 10, weight = 5, why = { provenance = "AAAA of db2.example" } },
      json.decode(first))
  end)
end)

describe("what cannot be written", function()
  it("is told, but for a reader that is gone", function()
    local system = machine.new { fault = { "No space left on device", 28 } }
    local out = output.new(system, {})
    assert.equal(1, out:status_of(out:backends({ db1 }, {})))
    assert.equal("cueball: stdout cannot be written: No space left on device\n", system.err)
    system.fault, system.err = { "Broken pipe", 32 }, ""
    assert.equal(141, out:status_of(out:event("added", db1)))
    assert.equal("", system.err)
  end)
end)
