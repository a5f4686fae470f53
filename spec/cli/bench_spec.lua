--- cueball bench: in virtual time, where figures can be foretold, and on real servers.
local cli = require "cueball.cli"
local command = require "spec.support.command"
local uv_host = require "cueball.host.uv"
local histogram = require "cueball.cli.load.histogram"
local json = require "dkjson"
local machine = require "spec.support.machine"
local random = require "cueball.random"
local report = require "cueball.cli.load.report"
local shell = require "spec.support.shell"

local function bench(...)
  local system = machine.new { host = uv_host }
  local status = cli.main({ "bench", ... }, system)
  return status, system.out, system.err
end

local function figures(...)
  local status, out, err = bench("--json", ...)
  assert.equal("", err)
  return json.decode(out), status
end

describe("a histogram of load", function()
  it("knows each quantile to 1 in 128, the ends exactly", function()
    local chance, values, seen = random.from(7), {}, histogram.new()
    for index = 1, 5000 do
      values[index] = math.exp(chance() * 25)
      seen:add(values[index])
    end
    table.sort(values)
    for q = 0.001, 0.999, 0.001 do
      local exact, found = values[math.ceil(q * 5000)], seen:quantile(q)
      assert.is_true(math.abs(found - exact) <= exact / 128 + 1, ("%g: %g, not %g"):format(q, found, exact))
    end
    assert.equal(values[5000], seen:quantile(1))
    assert.equal(5000, seen.total)
    local sum, before = 0, nil
    for _, bar in ipairs(seen:bars(20)) do
      sum = sum + bar.count
      assert.is_true(not before or before == bar.from)
      before = bar.to
    end
    assert.equal(5000, sum)
    assert.is_true(#seen:bars(20) <= 21)
  end)

  it("is empty at first", function()
    assert.is_nil(histogram.new():quantile(0.5))
    assert.is_nil(histogram.new():mean())
    assert.same({}, histogram.new():bars(20))
  end)
end)

describe("cueball bench in virtual time", function()
  it("gives the same figures for the same seed", function()
    local arguments = { "--sim", "-r", "500/s", "--hold", "2ms-9ms", "--poisson", "-d", "2s", "-m", "3", "--server", "refuse=0.2" }
    local function out(seed) return select(2, bench("--json", "--seed", seed, unpack(arguments))) end
    local first = out "5"
    assert.equal(first, out "5")
    assert.not_equal(first, out "6")
  end)

  it("begins requests at the rate, and measures without the warm-up", function()
    local found, status = figures("--sim", "-r", "1000/s", "--hold", "4ms", "-d", "3s", "-w", "500ms")
    assert.equal(0, status)
    assert.same({ ok = 3000 }, found.outcomes)
    assert.equal(3, found.seconds)
    assert.equal(1000, found.rate)
    assert.is_true(found.generator.kept_rate)
    assert.equal(0, found.generator.late_ms.max)
    assert.is_true(math.abs(found.lease_ms.p50 - 4) < 0.05, found.lease_ms.p50)
  end)

  -- Coordinated omission: one connection, 100 requests a second of 1 ms, and once a stall of a second. Whoever asks only after the
  -- answer to the one before sees one slow request in a hundred or so. Of those that were to come, a third waited.
  it("counts the wait of requests that a stall has kept from beginning", function()
    local path = os.tmpname()
    shell.write(path, [[
      local host = ...
      local cueball = require "cueball"
      host.server("10.0.0.1", 80)
      local count = 0
      local pool = cueball.pool { resolver = cueball.resolver.static { "10.0.0.1:80" }, connect = cueball.connection.tcp {},
        max_connections = 1 }
      return pool, function()
        count = count + 1
        host.sleep(count == 150 and 1000 or 1)
        return true
      end]])
    local open = figures("--sim", "-r", "100/s", "-d", "3s", "-w", "0", path)
    local closed = figures("--sim", "-c", "1", "-d", "3s", "-w", "0", path)
    os.remove(path)
    assert.is_true(open.latency_ms.p75 > 100, open.latency_ms.p75)
    assert.is_true(open.latency_ms.max >= 1000)
    assert.is_true(closed.latency_ms.p99 < 1.1, closed.latency_ms.p99)
    assert.is_nil(closed.generator.kept_rate)
  end)

  it("has no more requests at a time than it may, and counts the wait of the others", function()
    local found = figures("--sim", "-r", "100/s", "-c", "2", "--hold", "40ms", "-d", "2s", "-w", "0")
    assert.equal(2, found.generator.in_flight_max)
    assert.is_true(found.latency_ms.p99 > 900, found.latency_ms.p99)
    assert.is_true((found.outcomes.unfinished or 0) == 0, json.encode(found.outcomes))
    assert.equal(200, found.outcomes.ok)
  end)

  it("counts what does not go well by what it was, and unfinished requests with what they took so far", function()
    local found, status = figures("--sim", "-r", "200/s", "--hold", "50ms", "-m", "2", "-d", "2s", "-w", "0",
      "--set", "claim_timeout_ms=20")
    assert.equal(0, status)
    assert.is_true(found.outcomes.claim_timeout > 200, json.encode(found.outcomes))
    assert.equal(found.requests, found.outcomes.ok + found.outcomes.claim_timeout)
    found, status = figures("--sim", "-r", "10/s", "-d", "1s", "-w", "0", "--server", "hang=1")
    assert.equal(1, status)
    assert.equal(10, found.outcomes.pool_failed or found.outcomes.unfinished, json.encode(found.outcomes))
    found = figures("--sim", "-r", "10/s", "-d", "1s", "-w", "0", "--request", "x", "--connect", "read_timeout_ms=100")
    assert.equal(10, found.outcomes.timeout)   -- no line comes back of what is none
  end)

  it("draws requests at random times if it is to", function()
    local found = figures("--sim", "-r", "2000/s", "--poisson", "--hold", "1ms", "-d", "5s", "-m", "50")
    assert.is_true(math.abs(found.requests - 10000) < 500, found.requests)
    assert.is_true(found.generator.kept_rate)
    assert.is_true(found.generator.in_flight_max > 4)
  end)

  it("shows all of it to people, too", function()
    local status, out, err = bench("--sim", "-r", "100/s", "--hold", "3ms", "-d", "1s")
    assert.equal(0, status)
    assert.equal("", err)
    assert.matches("^Requests   100 in 1.0 s: 100.0 a second, asked for: 100.0 a second\n +100  100.00 %%  ok\n", out)
    assert.matches("\nlatency   +3%.%d%d ms", out)
    assert.matches("\nLatency, from when each request was meant to begin\n[^\n]+#### 100\n", out)
    assert.matches("\nGenerator  kept its rate; begun late by 0 us %(p50%)", out)
    status, out = bench("--sim", "--hold", "5ms", "-d", "1s")
    assert.equal(0, status)
    assert.matches("closed loop: a stall keeps it from asking", out)
  end)
end)

describe("cueball bench", function()
  it("says what cannot be, and ends with 2", function()
    local path = os.tmpname()
    shell.write(path, "return 5")
    for _, case in ipairs {
      { {}, "give backends with -b, a SCRIPT, or --sim" },
      { { "-b", "127.0.0.1" }, '"127.0.0.1": there is no port' },
      { { "-b", "127.0.0.1:1", "x.lua" }, "give a SCRIPT or backends, not both" },
      { { "-m", "4", "x.lua" }, "the SCRIPT makes its own" },
      { { "--redis", "--postgres", "-b", "127.0.0.1:1" }, "exclude each other" },
      { { "--sim", "--redis" }, "simulated servers speak TCP only, not redis" },
      { { "--sim" }, "a request has to take time" },
      { { "--server", "refuse=1", "-b", "127.0.0.1:1" }, "option '--server' is for --sim" },
      { { "--sim", "--rate", "fast" }, "option '-r/--rate' must be a rate" },
      { { "--sim", "--rate", "0" }, "option '-r/--rate' must be a rate" },
      { { "--sim", "-r", "5", "--hold", "9ms-2ms" }, "option '--hold' must be a time" },
      { { "--sim", "-r", "5", "--set", "spares" }, "option '--set' must be NAME=VALUE" },
      { { "--sim", "-r", "5", "--set", "sparess=4" }, "unknown option 'sparess'; did you mean 'spares'?" },
      { { "--sim", "-r", "5", "--set", "recovery.default.attempts=0" }, "option 'recovery.default.attempts' must be" },
      { { "--sim", "-r", "5", "--connect", "nope=1" }, "unknown option 'nope'" },
      { { "--sim", "-r", "5", "--request", "\\q" }, "option '--request' has an escape" },
      { { "--sim", "-r", "5", path }, "expected that it returns a pool, and perhaps a function(connection, lease), not 5" },
      { { "--sim", "-r", "5", "/nowhere.lua" }, "/nowhere.lua" },
    } do
      local status, out, err = bench(unpack(case[1]))
      assert.equal(2, status, case[2] .. ": " .. out .. err)
      assert.is_truthy(err:find(case[2], 1, true), err)
    end
    os.remove(path)
  end)

  it("measures a real server, tells what it cost, and a line each second", function()
    local redis = require "spec.support.redis"
    local server = redis.start()
    local status, out, err = command.run(("bench --redis -b %s -r 200/s -d 2s -w 0 --request 'GET x' --json"):format(server.backend))
    assert.equal(0, status, err)
    local found = json.decode(out)
    assert.equal(400, found.outcomes.ok, out)
    assert.is_true(found.generator.cpu_share > 0)
    assert.is_true(found.latency_ms.p50 > 0 and found.latency_ms.p50 >= found.lease_ms.p50 * 0.9)
    assert.matches("%d%.%d s +%d+%.%d/s  p50 +%S+ %as", err) -- the first; on a busy machine it comes later than after a second
    for name in pairs(found) do assert.is_true(report.members[name] == true, name) end
    server:stop()
  end)

  it("prints what it has when it is interrupted, and ends with 130", function()
    local one = command.start "bench -b 127.0.0.1:1 -r 20/s -d 60s -w 0"
    one:wait_for "%d%.%d s"
    one:signal "INT"
    local status, out = one:wait()
    assert.equal(130, status)
    assert.matches("Interrupted: these are the figures so far\n$", out)
  end)
end)
