--- cueball resolve against a real nameserver: the script in a process of its own, knot in another.
local command = require "spec.support.command"
local json = require "dkjson"
local servers = require "spec.support.dns_servers"
local uv = require "luv"

local ZONE = [[
_http._tcp.web SRV 0 1 8001 web1
_http._tcp.web SRV 0 3 8002 web2
_http._tcp.web SRV 10 1 8003 backup
web1 A 10.0.0.1
web2 A 10.0.0.2
web2 AAAA 2001:db8::2
backup CNAME web9
web9 A 10.0.0.9
plain A 10.0.1.2
plain A 10.0.1.1
gone TXT "no address"
]]

-- luv before 1.45 crashes at exit if a handle is closing still, and here nothing else runs the loop.
local function close_all()
  servers.close_all()
  uv.run "nowait"
end

-- Time enough for a slow machine, so that nothing is found too late.
local PATIENCE = "-t 30s "

describe("cueball resolve with a nameserver", function()
  local knot

  setup(function() knot = servers.knot { zones = { ["example."] = ZONE } } end)
  teardown(close_all)

  local function resolve(arguments) return command.run("resolve " .. PATIENCE .. "-r " .. knot.server .. " " .. arguments) end

  it("prints the targets of SRV records in order of priority, then of address", function()
    local status, out, err = resolve "-4 web.example"
    assert.equal("10.0.0.1 8001 10.0.0.1:8001\n10.0.0.2 8002 10.0.0.2:8002\n10.0.0.9 8003 10.0.0.9:8003\n", out, err)
    assert.equal("", err)
    assert.equal(0, status)
    assert.equal("2001:db8::2 8002 [2001:db8::2]:8002\n", select(2, resolve "-6 web.example"))
  end)

  it("prints the addresses of the name itself without them, with the port that was given", function()
    assert.equal("10.0.1.1 80 10.0.1.1:80\n10.0.1.2 80 10.0.1.2:80\n", select(2, resolve "plain.example"))
    assert.equal("10.0.1.1 99 10.0.1.1:99\n10.0.1.2 99 10.0.1.2:99\n", select(2, resolve "-s none -p 98 plain.example:99"))
    assert.equal("10.0.1.1 98 10.0.1.1:98\n10.0.1.2 98 10.0.1.2:98\n", select(2, resolve "-s _pg._tcp -p 98 plain.example"))
  end)

  it("says why with --why: record, server, TTL, CNAME, fallback", function()
    local _, out = resolve "-4 --why web.example"
    assert.is_truthy(out:find("\n10.0.0.9 8003 10.0.0.9:8003\n  A 10.0.0.9 of web9.example", 1, true), out)
    assert.is_truthy(out:find("backup.example", 1, true), "the name that was an alias")
    assert.equal(3, select(2, out:gsub("\n  SRV _http%._tcp%.web%.example from " .. knot.server:gsub("%.", "%%."), "")))
    assert.equal(3, select(2, out:gsub("  A [^\n]*, TTL 60 s\n", "")))
    _, out = resolve "--why plain.example"
    assert.is_truthy(out:find("since _http._tcp.plain.example does not exist (NXDOMAIN from " .. knot.server, 1, true), out)
  end)

  it("says it as JSON", function()
    local status, out = resolve "-4 --json --why web.example"
    assert.equal(0, status)
    local document = json.decode(out)
    assert.equal("web.example", document.name)
    assert.equal("_http._tcp", document.service)
    assert.equal(3, #document.backends)
    local backup = document.backends[3]
    assert.equal("10.0.0.9:8003 backup.example 10 1",
      ("%s %s %d %d"):format(backup.key, backup.name, backup.priority, backup.weight))
    assert.is_string(backup.why.provenance)
    backup.why.provenance, backup.why.srv_ttl, backup.why.is_additional = nil, nil, nil
    assert.same({ record = "A", owner = "web9.example", server = knot.server, ttl = 60, targets_from = "srv",
      srv_name = "_http._tcp.web.example", srv_server = knot.server }, backup.why)
  end)

  it("ends with 1 where there is nothing, and says what was answered", function()
    for arguments, message in pairs { ["no.example"] = "NXDOMAIN", ["gone.example"] = "NODATA", ["-6 plain.example"] = "NODATA",
      ["else.where"] = "REFUSED" } do
      local status, out, err = resolve(arguments)
      assert.equal(1, status, arguments .. ": " .. err)
      assert.equal("", out)
      assert.is_truthy(err:find("^cueball: [^\n]*" .. message .. "[^\n]*\n$"), arguments .. ": " .. err)
    end
  end)

  it("ends with 3 where nobody answers in time", function()
    local silent = uv.new_udp()   -- takes questions, and says nothing
    silent:bind("127.0.0.1", 0)
    local status, out, err = command.run("resolve -t 400ms -r 127.0.0.1:" .. silent:getsockname().port .. " web.example")
    silent:close()
    uv.run "nowait"
    assert.equal(3, status, err)
    assert.equal("", out)
    assert.is_truthy(err:find "^cueball: [^\n]+\n$", err)
  end)

  it("tries the next server within the time when one is silent", function()
    local silent = uv.new_udp()
    silent:bind("127.0.0.1", 0)
    local status, out, err = command.run(("resolve -4 -t 20s -r 127.0.0.1:%d,%s plain.example")
      :format(silent:getsockname().port, knot.server))
    silent:close()
    uv.run "nowait"
    assert.equal("10.0.1.1 80 10.0.1.1:80\n10.0.1.2 80 10.0.1.2:80\n", out, err)
    assert.equal(0, status)
  end)
end)

describe("cueball resolve -f with a nameserver", function()
  local knot

  before_each(function() knot = servers.knot { zones = { ["live.example."] = "$TTL 1\ndb A 10.0.0.1\ndb A 10.0.0.2\n" } } end)
  after_each(command.stop_all)
  teardown(close_all)

  local function follow(more)
    return command.start(("resolve -f -4 -s none -r %s %s db.live.example"):format(knot.server, more))
  end

  it("prints what comes and goes, each line at once, until it is interrupted", function()
    local following = follow "--why"
    following:wait_for "added 10%.0%.0%.1:80 10%.0%.0%.1:80 A 10%.0%.0%.1 of db%.live%.example from [^\n]*\n"
    following:wait_for "added 10%.0%.0%.2:80"
    knot:rewrite("live.example.", "$TTL 1\ndb A 10.0.0.2\ndb A 10.0.0.3\n")
    following:wait_for "removed 10%.0%.0%.1:80 10%.0%.0%.1:80 10%.0%.0%.1 is not in the A answer"
    following:signal "INT"
    local status, out, err = following:wait()
    assert.equal(130, status, err)
    local count = 0
    for line in out:gmatch "[^\n]+" do
      assert.is_truthy(line:find "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ %l+ %S+ %S+ ", line)
      count = count + 1
    end
    assert.equal(4, count, out)
    assert.is_truthy(out:find " added 10%.0%.0%.3:80 ", out)
    assert.is_nil(out:find "removed 10%.0%.0%.2", out)
  end)

  it("prints lines of JSON", function()
    local following = follow "--json"
    following:wait_for '"10%.0%.0%.2:80"[^\n]*\n'
    following:signal "INT"
    local status, out = following:wait()
    assert.equal(130, status)
    local keys = {}
    for line in out:gmatch "[^\n]+" do
      local object = assert(json.decode(line))
      assert.equal("added", object.event)
      keys[#keys + 1] = object.key
    end
    table.sort(keys)
    assert.same({ "10.0.0.1:80", "10.0.0.2:80" }, keys)
  end)

  it("says on stderr that the server is gone, keeps what it told, and goes on when it is back", function()
    local following = follow "-t 600ms"
    following:wait_for "added 10%.0%.0%.2:80"
    knot:stop()
    following:wait_for "Z failing: [^\n]*\n"
    knot:start()
    following:wait_for "Z recovered\n"
    following:signal "INT"
    local status, out = following:wait()
    assert.equal(130, status)
    assert.is_nil(out:find("removed", 1, true), out)
  end)

  it("ends with its reader, though nothing happens any more", function()
    local status, out, err = command.shell(("{ timeout 60 %s resolve -f -4 -s none -r %s db.live.example; echo \"status $?\" >&2; } "
      .. "| head -n 1"):format(command.script, knot.server))
    assert.equal(0, status)
    assert.is_truthy(out:find "^%S+ added 10%.0%.0%.%d:80 [^\n]*\n$", out)
    assert.equal("status 141\n", err)
  end)
end)
