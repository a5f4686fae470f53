--- cueball.monitor.serve on libuv: what it shows, whom it refuses, and that readers cannot hurt the program.
local certificates = require "spec.support.certificates"
local cueball = require "cueball"
local cueball_log = require "cueball.log"
local dkjson = require "dkjson"
local host = require "cueball.host.uv"
local http_client = require "spec.support.http_client"
local monitor = require "cueball.monitor"
local shell = require "spec.support.shell"
local until_true = require "spec.support.until_true"

local TOKEN = "s3cret-s3cret-s3cret"
local log = {}

local function factory(backend)
  if backend.key:find "10.0.0.9" then return nil, "connection refused" end
  return {}
end

-- Runs fn(client, server, pool) beside a pool of two backends, one of which is dead.
local function with_server(given, fn)
  host.run(function()
    local pool = cueball.pool {
      name = "db", max_connections = 4, connect = factory,
      resolver = cueball.resolver.static { "10.0.0.1:1", "10.0.0.9:1" },
    }
    given.listen = given.listen or "127.0.0.1:0"
    local one, message = monitor.serve(given)
    assert(one, message)
    assert(pool:ready())
    local ok, fault = xpcall(fn, debug.traceback, http_client.to(one.address), one, pool)
    one:close()
    pool:stop()
    if not ok then error(fault, 0) end
  end)
end

local function json_of(body)
  return assert(dkjson.decode(body))
end

-- Reads a stream of events: next() → its kind, its data, its id.
local function events_on(socket)
  local function event()
    local found = {}
    while true do
      local line = assert(socket:receive "*l")
      if line == "" and found.event then return found.event, found.data, found.id end
      local name, value = line:match "^(%l+): (.*)$"
      if name then found[name] = value end
    end
  end
  -- The chunks' own lines are no events' lines: sizes in hex, and empty lines.
  return event
end

local function open_events(client, path, headers)
  local socket = client:connect()
  socket:send(http_client.request("GET", path, headers, client.address))
  local line
  repeat line = assert(socket:receive "*l") until line == ""
  return events_on(socket), socket
end

describe("monitor.serve", function()
  before_each(function()
    log = {}
    host.log_to(function(level, message) log[#log + 1] = level .. " " .. message end)
  end)
  after_each(function() host.log_to(nil) end)

  it("shows snapshots with every detail", function()
    with_server({}, function(client, _, pool)
      local lease = pool:claim()
      until_true(function() return pool:stats().dead_backends == 1 end)
      local status, body, headers = client:get "/snapshot"
      assert.same({ 200, "application/json", "no-store", "nosniff" },
        { status, headers["content-type"], headers["cache-control"], headers["x-content-type-options"] })
      assert.is_nil(headers["access-control-allow-origin"])
      local shown = json_of(body)
      assert.equal("uv", shown.process.host)
      assert.equal("program", shown.process.role)
      assert.is_true(shown.process.age_s >= 0 and shown.process.started_s <= shown.time_s)
      local db = shown.pools[1]
      assert.same({ "db", "running", false, 4 }, { db.name, db.state, db.is_paused, db.max_connections })
      assert.equal(0.25, db.signals.utilisation)
      assert.equal(0, db.signals.waiting)
      local dead = db.backends[1].state == "dead" and db.backends[1] or db.backends[2]
      assert.equal("10.0.0.9:1", dead.key)
      assert.matches("^dead: connection refused", dead.reason)
      assert.equal(4, dead.limit)
      assert.is_true(dead.since_ms > 0)
      assert.truthy(body:find('"waiters":[]', 1, true))
      lease:release()
    end)
  end)

  it("shows one pool, those that it was told of, and says which there are not", function()
    with_server({ pools = { "db" } }, function(client)
      local other = cueball.pool { name = "other", connect = factory, resolver = cueball.resolver.static { "10.0.0.1:1" } }
      assert.equal(1, #json_of(select(2, client:get "/snapshot")).pools)
      assert.equal(200, (client:get "/snapshot?pool=db&where=1&limit=1"))
      local status, body = client:get "/snapshot?pool=other"
      assert.same({ 404, "not_found" }, { status, json_of(body).name })
      assert.equal(404, (client:get "/snapshot?pool=%22%3Cscript%3E"))
      assert.equal(400, (client:get "/snapshot?limit=0"))
      assert.equal(400, (client:get "/plan"))
      assert.equal(404, (client:get "/plan?pool=other"))
      assert.matches("^max_connections = 3:\n", json_of(select(2, client:get "/plan?pool=db&max_connections=3")).text)
      assert.is_nil((select(2, client:get "/metrics")):find('pool="other"', 1, true))
      other:stop()
    end)
  end)

  it("shows one pool in detail and the others in brief, where one is looked at", function()
    with_server({}, function(client)
      local other = cueball.pool { name = "other", connect = factory, resolver = cueball.resolver.static { "10.0.0.1:1" } }
      local brief, count = {}, 0
      for _, pool in ipairs(json_of(select(2, client:get "/snapshot?focus=other")).pools) do
        brief[pool.name], count = pool.is_brief or false, count + 1
        assert.equal(pool.name == "other", pool.connections ~= nil)
      end
      assert.same({ { db = true, other = false }, 2 }, { brief, count })
      other:stop()
    end)
  end)

  it("does not foresee what would hold the program for seconds", function()
    with_server({}, function(client)
      for _, asked in ipairs { "max_connections=1000000&spares=1000000", "max_connections=10001", "spares=1e6" } do
        local status, body = client:get("/plan?pool=db&" .. asked)
        assert.same({ 400, "invalid" }, { status, json_of(body).name })
        assert.matches(": 10000 at most can be foreseen here$", json_of(body).error)
      end
      assert.equal(200, (client:get "/plan?pool=db&max_connections=10000&spares=10000"))
    end)
  end)

  it("gives metrics in the form that is asked for", function()
    with_server({}, function(client)
      local _, old, headers = client:get "/metrics"
      assert.equal("text/plain; version=0.0.4; charset=utf-8", headers["content-type"])
      assert.truthy(old:find('# TYPE cueball_pool_claims_total counter', 1, true))
      local _, new
      _, new, headers = client:get("/metrics", { Accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5" })
      assert.equal("application/openmetrics-text; version=1.0.0; charset=utf-8", headers["content-type"])
      assert.matches("# EOF\n$", new)
      local _, otel = client:get "/metrics?names=opentelemetry"
      local labels = '{db_client_connection_pool_name="db",db_client_connection_state="used"}'
      assert.truthy(otel:find("db_client_connection_count" .. labels .. " 0", 1, true))
      assert.is_nil(otel:find("cueball_", 1, true))
      assert.equal(400, (client:get "/metrics?names=x"))
      assert.equal(400, (client:get "/metrics?format=json"))
    end)
  end)

  it("shows the page, and what it is made of", function()
    with_server({ token = TOKEN }, function(client)
      local status, body, headers = client:get "/"
      assert.same({ 200, "text/html; charset=utf-8" }, { status, headers["content-type"] })
      assert.matches("frame%-ancestors 'none'", headers["content-security-policy"])
      assert.matches("^<!doctype html>", body)
      assert.equal(304, (client:get("/", { ["If-None-Match"] = headers.etag })))
      assert.equal(200, (client:get "/dashboard/style.css"))
      assert.equal(401, (client:get "/dashboard/../../../../etc/passwd"))
      assert.equal(404, (client:get("/dashboard/init.lua", { Authorization = "Bearer " .. TOKEN })))
    end)
  end)

  it("keeps few texts, and one that is made again counts once", function()
    local now, routes = 0, require "cueball.monitor.routes"
    local later = setmetatable({ now = function() now = now + 1e9 return now end }, { __index = host }) -- none is fresh
    local server = { host = later, kept = {}, kept_count = 0, is_wanted = function() return true end }
    host.run(function()
      for _ = 1, 20 do routes.snapshot_text(server, { where = false, limit = 1 }) end
      assert.equal(1, server.kept_count)
      for limit = 1, 100 do routes.snapshot_text(server, { where = false, limit = limit }) end
      assert.is_true(server.kept_count <= 16)
    end)
  end)

  it("changes nothing, and answers GET and HEAD only", function()
    with_server({}, function(client)
      for _, method in ipairs { "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE" } do
        local status, body, headers = client:get("/snapshot", nil, method)
        assert.same({ 405, "GET, HEAD", "method_not_allowed" }, { status, headers.allow, json_of(body).name }, method)
      end
      assert.equal(200, (client:get("/snapshot", nil, "HEAD")))
      assert.equal(400, (client:get("/snapshot", { ["Content-Length"] = "3" })))
    end)
  end)

  it("is no tool of other pages: their names, their requests", function()
    with_server({ hosts = { "db1.example" } }, function(client)
      local function status_with(headers, path)
        return (client:get(path or "/snapshot", headers))
      end
      for _, name in ipairs { "evil.example", "127.0.0.1.evil.example:80", "localhost.evil", "", "a b", "[::1", "localhost:x" } do
        assert.equal(421, status_with { Host = name }, name)
      end
      for _, name in ipairs { "localhost", "LOCALHOST:1", "[::1]:9", "10.1.2.3", "db1.example", "DB1.example:80" } do
        assert.equal(200, status_with { Host = name }, name)
      end
      assert.equal(421, status_with { Host = false })
      assert.matches("^HTTP/1.1 421", (client:raw "GET /snapshot HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"))
      assert.equal(403, status_with { Origin = "http://evil.example" })
      assert.equal(403, status_with { Origin = "null" })
      assert.equal(403, status_with { Origin = "http://localhost:1", Host = "localhost:2" })
      assert.equal(200, status_with { Origin = "http://localhost:2", Host = "localhost:2" })
      assert.equal(403, status_with { ["Sec-Fetch-Site"] = "cross-site" })
      assert.equal(403, status_with { ["Sec-Fetch-Site"] = "same-site" })
      assert.equal(200, status_with { ["Sec-Fetch-Site"] = "same-origin" })
      local link = { ["Sec-Fetch-Site"] = "cross-site", ["Sec-Fetch-Mode"] = "navigate", ["Sec-Fetch-Dest"] = "document" }
      assert.equal(200, status_with(link, "/"))
      assert.equal(403, status_with(link, "/snapshot"))
      link["Sec-Fetch-Dest"] = "iframe"
      assert.equal(403, status_with(link, "/"))
    end)
  end)

  it("wants the token, in the header alone", function()
    with_server({ token = TOKEN }, function(client)
      local status, _, headers = client:get "/snapshot"
      assert.same({ 401, 'Bearer realm="cueball"' }, { status, headers["www-authenticate"] })
      for _, wrong in ipairs { "Bearer", "Bearer x", "Bearer " .. TOKEN .. "x", "Bearer " .. TOKEN:sub(1, -2), "Basic " .. TOKEN, TOKEN } do
        assert.equal(401, (client:get("/metrics", { Authorization = wrong })), wrong)
      end
      assert.equal(401, (client:get("/snapshot?token=" .. TOKEN)))
      assert.equal(200, (client:get("/snapshot", { Authorization = "Bearer " .. TOKEN })))
      local told = 0
      for _, line in ipairs(log) do
        if line:find "no token, or a wrong one" then told = told + 1 end
        assert.is_nil(line:find(TOKEN, 1, true))
      end
      assert.equal(1, told)
    end)
  end)

  it("refuses options that would open it to others, or mean nothing", function()
    local function fails(given, expected)
      local ok, message = pcall(function() return (monitor.serve(given)) end)
      assert.is_false(ok)
      assert.matches(expected, message)
    end
    fails({ listen = "0.0.0.0:0" }, "server_spec.lua:%d+: .*0.0.0.0:0 can be reached from other machines, which wants a token")
    fails({ listen = "[::]:0" }, "wants a token")
    fails({ listen = "127.0.0.1" }, "there is no port")
    fails({ listen = "localhost:80" }, "is not an address")
    fails({ token = "short" }, "option 'token' must be a string of 16 or more .* not the string that was given")
    fails({ tokens = "x" }, "unknown option 'tokens'; did you mean 'token'")
    fails({ hosts = { "a b" } }, "a list of names")
    fails({ format = "json" }, "for a location of nginx")
    fails({ tls = { cert_file = "/nowhere" } }, "option 'tls': TLS: /nowhere")
  end)

  it("says why it cannot listen", function()
    with_server({}, function(_, one)
      local none, message, name = monitor.serve { listen = one.address }
      assert.is_nil(none)
      assert.matches("address already in use", message)
      assert.equal("address_in_use", name)
    end)
  end)

  it("listens on a path, which a browser cannot reach", function()
    local folder = shell.must "mktemp -d"
    with_server({ listen = "unix:" .. folder .. "/m.sock" }, function(client)
      assert.equal(200, (client:get("/snapshot", { Host = "anything.example" })))
      assert.equal("600", (shell.must("stat -c %a " .. folder .. "/m.sock")))
    end)
    shell.must("rm -r " .. folder)
  end)

  it("speaks TLS, and nothing else then", function()
    local good = certificates.good
    with_server({ tls = { cert = good.cert_pem, key = good.key_pem } }, function(client)
      assert.equal("", client:raw "GET /snapshot HTTP/1.1\r\nHost: localhost\r\n\r\n":match "HTTP.*" or "")
      local socket = client:connect()
      socket:settls(assert(require("cueball.tls").context { ca_file = certificates.ca.cert, verify = false }))
      assert(socket:sslhandshake(false, nil, false))
      socket:send(http_client.request("GET", "/snapshot", nil, client.address))
      assert.equal(200, (http_client.answer(socket)))
      socket:close()
    end)
  end)
end)

describe("the monitor's events", function()
  before_each(function() host.log_to(function() end) end)
  after_each(function() host.log_to(nil) end)

  -- The next event of a kind.
  local function wait_for(event, kind, has)
    while true do
      local found, data, id = event()
      if found == kind and (not has or data:find(has, 1, true)) then return data, id end
    end
  end

  it("tell records as they come, and a snapshot each second", function()
    with_server({}, function(client, _, pool)
      local event, socket = open_events(client, "/events")
      local data, id = wait_for(event, "record", "10.0.0.9:1 is dead")
      assert.equal("warn", json_of(data).level)
      assert.matches("^%x+%-%d+$", id)
      assert.equal("db", json_of(wait_for(event, "snapshot")).pools[1].name)
      assert.is_truthy(json_of(wait_for(event, "snapshot")).pools[1].backends)
      pool:log("warn", "look here")
      wait_for(event, "record", "look here")
      socket:close()
    end)
  end)

  it("go on where they were cut", function()
    with_server({}, function(client, _, pool)
      until_true(function() return pool:stats().dead_backends == 1 end) -- which is told, too
      local event, socket = open_events(client, "/events")
      pool:log("warn", "the first")
      local _, id = wait_for(event, "record", "the first")
      socket:close()
      pool:log("warn", "the second")
      event, socket = open_events(client, "/events", { ["Last-Event-ID"] = id })
      local kind, data, next_id = event()
      assert.equal("record", kind)
      assert.truthy(data:find("the second", 1, true))
      assert.equal(tonumber(id:match "%d+$") + 1, tonumber(next_id:match "%d+$"))
      socket:close()
    end)
  end)

  it("show one pool whole and the others in brief, where that is asked for", function()
    with_server({}, function(client)
      local other = cueball.pool { name = "other", connect = factory, resolver = cueball.resolver.static { "10.0.0.1:1" } }
      local event, socket = open_events(client, "/events?pool=other")
      local pools = json_of(wait_for(event, "snapshot")).pools
      assert.is_true(pools[1].is_brief)
      assert.is_nil(pools[1].backends)
      assert.is_nil(pools[2].is_brief)
      assert.equal(1, #pools[2].backends)
      socket:close()
      other:stop()
    end)
  end)

  it("are told to no more readers than may be, and to nobody after the end", function()
    with_server({ streams_max = 2 }, function(client, one)
      local _, first = open_events(client, "/events")
      local _, second = open_events(client, "/events")
      local status, body, headers = client:get "/events"
      assert.same({ 503, "too_many", "2" }, { status, json_of(body).name, headers["retry-after"] })
      first:close()
      until_true(function()
        local socket = client:connect()
        socket:send(http_client.request("GET", "/events", nil, client.address))
        local line = socket:receive "*l"
        socket:close()
        return line:find "200" ~= nil
      end)
      one:close()
      assert.is_truthy(second:receive "*a")
    end)
  end)

  it("drop a reader that reads nothing, and nobody else", function()
    with_server({}, function(client, one, pool)
      local lazy = client:connect()
      lazy:setoption("rcvbuf", 4096)
      lazy:send(http_client.request("GET", "/events", nil, client.address))
      assert(lazy:receive(1))
      local event, socket = open_events(client, "/events")
      local text = ("x"):rep(7000)
      until_true(function()
        for number = 1, 100 do
          cueball_log.tell(host, { level = "warn", pool = "db", event = "spec" .. number, cause = tostring(host.now()), message = text })
          wait_for(event, "record", "spec" .. number)
        end
        return one.stream.reader_count == 1
      end)
      pool:log("warn", "all is well")
      wait_for(event, "record", "all is well")
      socket:close()
    end)
  end)
end)
