--- The dashboard in a location of the real nginx: the page, what it asks for, and who may ask.
local uv = require "luv"
local dkjson = require "dkjson"
local browser = require "spec.support.browser"
local host = require "cueball.host.uv"
local nginx = require "spec.support.nginx"

local POOLS = [[
local cueball = require "cueball"
local function open(name)
  return cueball.pool {
    name = name, max_connections = 3, connect = function() return {} end,
    resolver = cueball.resolver.static { "10.0.0.1:80", "10.0.0.2:80" },
  }
end
return { cache = open "cache", other = open "other" }
]]

local HTTP = "lua_shared_dict cueball 1m;\ninit_worker_by_lua_block { pools = require 'my_pools' }\n"

local TOKEN = "0123456789abcdef"

local SERVER = [[
location /pools/ { content_by_lua_block { require("cueball.monitor").serve { at = "/pools/", hosts = { "status.example" } } } }
location /few/ { lua_check_client_abort on; content_by_lua_block {
  require("cueball.monitor").serve { at = "/few/", pools = { "cache" }, token = "]] .. TOKEN .. [[", streams_max = 1 }
} }
location /same/ { content_by_lua_block {
  local guarded = { at = "/same/", token = "]] .. TOKEN .. [[", pools = { "cache" } }
  require("cueball.monitor").serve(ngx.var.http_x_server == "inner" and { at = "/same/" } or guarded)
} }
location /polled/ { content_by_lua_block { require("cueball.monitor").serve { at = "/polled/" } } }
location = /polled/events { return 404; }
location = /pools/guarded { content_by_lua_block {
  require("cueball.monitor").serve { at = "/pools/", token = "]] .. TOKEN .. [[" }
} }
location = /work { content_by_lua_block {
  assert(pools.cache:with(function() return true end))
  require("cueball.log").say(require "cueball.nginx.host", "warn", "worked", "worked")
} }
location = /wrong { content_by_lua_block {
  for _, given in ipairs { { at = "pools" }, { at = "/pools/", listen = "127.0.0.1:0" } } do
    ngx.say(select(2, pcall(require("cueball.monitor").serve, given)))
  end
} }
]]

describe("cueball.monitor.serve at a location of nginx", function()
  local one

  local function start(workers)
    one = nginx.start { workers = workers, http = HTTP, server = SERVER, files = { ["my_pools.lua"] = POOLS } }
  end

  after_each(function()
    if one then one:stop() one = nil end
  end)

  -- → status, the head, the body
  local function ask(line, headers)
    return host.run(function()
      local socket = host.tcp()
      socket:settimeouts(60000, 60000, 60000)
      assert(socket:connect("127.0.0.1", one.port))
      socket:send(line .. " HTTP/1.1\r\nConnection: close\r\n" .. (headers or "Host: localhost\r\n") .. "\r\n")
      local answer = assert(socket:receive "*a")
      socket:close()
      local head, body = answer:match "^(.-\r\n)\r\n(.*)$"
      return tonumber(head:match "^HTTP/1.1 (%d+)"), head:lower(), body
    end)
  end

  local function json(line, headers)
    local status, _, body = ask(line, headers)
    return assert(dkjson.decode(body), body), status
  end

  -- The text of a stream until it has this; the connection is left open, for fn.
  local function listen(path, text, fn)
    return host.run(function()
      local socket = host.tcp()
      socket:settimeouts(60000, 60000, 60000)
      assert(socket:connect("127.0.0.1", one.port))
      socket:send(("GET %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n"):format(path, TOKEN))
      local seen = socket:receive "*l" or ""
      if not seen:find("200", 1, true) then -- nothing comes after that, and it is not closed either
        socket:close()
        error(seen, 0)
      end
      while not seen:find(text, 1, true) do
        local line = socket:receive "*l"
        if not line then error("the stream ended: " .. seen:sub(-2000), 0) end
        seen = seen .. line .. "\n"
      end
      if fn then fn(socket) end
      socket:close()
      return seen
    end)
  end

  it("has the page and all that belongs to it, with its headers", function()
    start(1)
    local dashboard = require "cueball.monitor.dashboard"
    for _, path in ipairs(dashboard.paths()) do
      local status, head, body = ask("GET /pools" .. path)
      assert.equal(200, status, path)
      assert.is_true(body == dashboard.find(path).body, path)
      assert.truthy(head:find("content-security-policy: default-src 'none'; script-src 'self'", 1, true), path)
      local etag = head:match 'etag: ("[^\r]+")'
      assert.equal(304, (ask("GET /pools" .. path, ("Host: localhost\r\nIf-None-Match: %s\r\n"):format(etag))), path)
    end
    assert.equal("", select(3, ask "HEAD /pools/"))
  end)

  it("is for whom each location says, though two have one path", function()
    start(1)
    assert.equal(200, (ask "GET /pools/snapshot"))
    assert.equal(401, (ask "GET /pools/guarded"))
    assert.equal(404, (ask("GET /pools/guarded", "Host: localhost\r\nAuthorization: Bearer " .. TOKEN .. "\r\n")))
    assert.equal(200, (ask "GET /pools/snapshot"))
  end)

  it("shows the pools of the worker that answers in detail, one of them, or one of them whole and the others in brief", function()
    start(1)
    ask "GET /work"
    local all = json "GET /pools/snapshot"
    assert.same({ "worker 0", "ngx", 2 }, { all.process.role, all.process.host, #all.pools })
    assert.truthy(all.pools[1].connections and all.pools[1].leases and all.pools[1].signals)
    local single = json "GET /pools/snapshot?pool=cache"
    assert.same({ 1, "cache", 1 }, { #single.pools, single.pools[1].name, single.pools[1].stats.claims })
    local brief = {}
    for _, pool in ipairs(json("GET /pools/snapshot?focus=cache").pools) do brief[pool.name] = pool.is_brief or false end
    assert.same({ cache = false, other = true }, brief)
    assert.equal("not_found", json("GET /pools/snapshot?pool=none").name)
    assert.equal(3, json("GET /pools/plan?pool=cache&max_connections=3").after["10.0.0.1:80"]
      + json("GET /pools/plan?pool=cache&max_connections=3").after["10.0.0.2:80"])
  end)

  it("tells what happens, goes on after the last event that was seen, and sends readers away when the worker exits", function()
    start(1)
    ask "GET /work"
    local seen = listen("/pools/events?pool=cache", "event: snapshot")
    assert.truthy(seen:find("text/event-stream", 1, true))
    assert.truthy(seen:find('"worked"', 1, true))
    local line, ended
    listen("/pools/events", "event: snapshot", function(socket)
      one:signal "HUP"
      repeat line, ended = socket:receive "*l" until not line
    end)
    assert.equal("closed", ended)
    assert.is_nil(one:log():match "%[error%][^\n]*")
  end)

  it("adds up all workers in its metrics, and has those pools only that are wanted", function()
    start(2)
    local text
    nginx.until_true(function()
      text = select(3, ask "GET /pools/metrics")
      return text:find("cueball_workers 2\n", 1, true) and text:find('cueball_pool_workers{pool="other",state="running"} 2\n', 1, true)
    end, function() return text .. one:log() end)
    assert.truthy(text:find('cueball_pool_connections_max{pool="cache"} 6\n', 1, true))
    text = select(3, ask("GET /few/metrics", "Host: localhost\r\nAuthorization: Bearer " .. TOKEN .. "\r\n"))
    assert.truthy(text:find('cueball_pool_connections_max{pool="cache"} 6\n', 1, true))
    assert.is_nil(text:find('pool="other"', 1, true))
  end)

  it("answers whom it may, and changes nothing", function()
    start(1)
    local function refused(line, headers)
      local answer, status = json(line, headers)
      return { status, answer.name }
    end
    assert.same({ 405, "method_not_allowed" }, refused("POST /pools/snapshot", "Host: localhost\r\nContent-Length: 0\r\n"))
    assert.same({ 400, "bad_request" }, refused("GET /pools/snapshot", "Host: localhost\r\nContent-Length: 1\r\n\r\nx"))
    assert.same({ 421, "unknown_host" }, refused("GET /pools/snapshot", "Host: evil.example\r\n"))
    assert.same({ 403, "cross_origin" }, refused("GET /pools/snapshot", "Host: localhost\r\nOrigin: http://evil.example\r\n"))
    assert.same({ 403, "cross_origin" }, refused("GET /pools/events", "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n"))
    assert.same({ 401, "unauthorized" }, refused("GET /few/snapshot"))
    assert.same({ 401, "unauthorized" }, refused("GET /few/events", "Host: localhost\r\nAuthorization: Bearer wrong\r\n"))
    assert.same({ 404, "not_found" }, refused "GET /pools/etc/passwd")
    assert.same({ 404, "not_found" }, refused "GET /pools/../pools/x")
    assert.equal(200, (ask "GET /few/"))
    assert.equal(200, (ask("GET /pools/snapshot", "Host: status.example\r\n")))
    local few = json("GET /few/snapshot", "Host: localhost\r\nAuthorization: Bearer " .. TOKEN .. "\r\n")
    assert.same({ 1, "cache" }, { #few.pools, few.pools[1].name })
    listen("/few/events", "event: snapshot", function()
      local socket = host.tcp()
      socket:settimeouts(60000, 60000, 60000)
      assert(socket:connect("127.0.0.1", one.port))
      socket:send(("GET /few/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n"):format(TOKEN))
      assert.equal("HTTP/1.1 503 Service Temporarily Unavailable", socket:receive "*l")
      socket:close()
    end)
    nginx.until_true(function() -- the reader that left makes room
      return pcall(listen, "/few/events", "event: snapshot")
    end, function() return one:log() end)
    local _, _, wrong = ask "GET /wrong"
    assert.matches('option \'at\' must be the path of a location', wrong)
    assert.matches("option 'listen' is for a server of its own", wrong)
  end)

  it("keeps apart locations of the same path, whose options differ", function()
    start(1)
    local inner, token = "Host: localhost\r\nX-Server: inner\r\n", "Host: localhost\r\nAuthorization: Bearer " .. TOKEN .. "\r\n"
    for _ = 1, 2 do
      assert.equal(2, #json("GET /same/snapshot", inner).pools)
      assert.equal(401, (ask "GET /same/snapshot"))
      assert.equal(1, #json("GET /same/snapshot", token).pools)
    end
  end)

  it("is a page that lives in a browser, with a stream and without", function()
    start(1)
    local visitor = host.run(browser.start)
    local ok, message = pcall(host.run, function()
      visitor:open(("http://127.0.0.1:%d/pools/"):format(one.port))
      visitor:wait "return document.getElementById('link-text').textContent === 'live'"
      visitor:wait "return document.querySelectorAll('#slots .tile').length === 3"
      assert.matches("^worker 0 · pid %d+ · ngx", visitor:text "#process")
      assert.equal("cache", visitor:text "#pool-name")
      visitor:click "#pool-list li:nth-child(2) button"
      visitor:wait "return document.getElementById('pool-name').textContent === 'other' && !document.querySelector('#pool[aria-busy]')"
      assert.equal("", visitor:problems())
      visitor:open(("http://127.0.0.1:%d/polled/"):format(one.port))
      visitor:wait "return document.getElementById('link-text').textContent === 'live, without events'"
      visitor:wait "return document.querySelectorAll('#slots .tile').length === 3"
      visitor:open "about:blank"
    end)
    host.run(visitor.stop, visitor)
    assert.is_true(ok, message)
  end)

  it("lets a worker end that has readers", function()
    start(1)
    listen("/pools/events", "event: snapshot", function()
      local before = one:workers()[1]
      one:signal "HUP"
      nginx.until_true(function() return uv.kill(before, 0) ~= 0 end, function() return one:log() end)
    end)
  end)
end)
