--- cueball.balancer in the real nginx, proxying to three backends.
local free_port = require("spec.support.port").free
local uv = require "luv"
local nginx = require "spec.support.nginx"
local host = require "cueball.host.uv"

-- A web server in this process, that can die and come back on its port: it answers with its number, after `ms`.
local Backend = {}
Backend.__index = Backend

local function serve(self, client)
  local text = ""
  client:read_start(function(err, data)
    if client:is_closing() then return end
    if err or not data then return client:close() end
    text = text .. data
    while text:find("\r\n\r\n", 1, true) do
      text = text:gsub("^.-\r\n\r\n", "", 1)
      self.requests = self.requests + 1
      local timer = uv.new_timer()
      timer:start(self.ms, 0, function()
        timer:close()
        if client:is_closing() then return end
        client:write(("HTTP/1.1 %d OK\r\nContent-Length: 1\r\n\r\n%d"):format(self.status, self.number))
      end)
    end
  end)
end

function Backend:start()
  self.handle, self.clients = uv.new_tcp(), {}
  assert(self.handle:bind("127.0.0.1", self.port))
  assert(self.handle:listen(512, function(err)
    if err then return end
    local client = uv.new_tcp()
    self.handle:accept(client)
    self.clients[#self.clients + 1] = client
    serve(self, client)
  end))
end

-- luv before 1.45 crashes at exit if a handle is closing still.
local function let_close() host.run(host.sleep, 20) end

--- It refuses connections, and drops those it has, whatever they wait for.
function Backend:die()
  if not self.handle:is_closing() then self.handle:close() end
  for _, client in ipairs(self.clients) do
    if not client:is_closing() then client:close() end
  end
end

local function new_backend(number, port)
  local self = setmetatable({ number = number, port = port or free_port(), ms = 0, status = 200, requests = 0 }, Backend)
  self:start()
  return self
end

local BALANCERS = [[
return { api = require("cueball.nginx.balancer").new {
  name = "api", balance = %q, tries = 3, attempts = 2, delay_ms = 300, max_delay_ms = 300,
  resolver = require("cueball.resolver.static") { %s },
} }
]]

local HTTP = [[
init_worker_by_lua_block { balancers = require "balancers" }
upstream api {
  server 0.0.0.1;
  balancer_by_lua_block { balancers.api:balance() }
  keepalive 32;
}
log_by_lua_block { balancers.api:report() }
]]

local SERVER = [[
location /api {
  proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_connect_timeout 20s; proxy_read_timeout 20s;
}
location = /peers { content_by_lua_block {
  for _, peer in ipairs(balancers.api:peers()) do
    ngx.say(peer.port, " ", peer.dead, " ", peer.pending, " ", peer.failed, " ", peer.latency_ms)
  end
} }
]]

describe("a balancer in nginx", function()
  local one, backends

  local function start(balance, weights, more, timeout_s)
    backends = {}
    local list = {}
    for number, weight in ipairs(weights or { 1, 1, 1 }) do
      backends[number] = new_backend(number)
      list[number] = ('{ address = "127.0.0.1", port = %d, weight = %d }'):format(backends[number].port, weight)
    end
    one = nginx.start {
      files = { ["balancers.lua"] = BALANCERS:format(balance, table.concat(list, ", ")) }, http = HTTP,
      server = SERVER:gsub("timeout 20s", ("timeout %ds"):format(timeout_s or 20)) .. (more or ""),
    }
  end

  after_each(function()
    if one then one:stop() one = nil end
    for _, each in ipairs(backends or {}) do each:die() end
    let_close()
  end)

  -- → answers by backend; every status other than 200 is an error
  local function ask(count, width)
    local by = { 0, 0, 0 }
    nginx.many(count, width, function()
      local status, body = one:get "/api"
      assert(status == 200, ("%s: %s\n%s"):format(tostring(status), tostring(body), one:log():sub(-3000)))
      by[tonumber(body)] = by[tonumber(body)] + 1
    end)
    return by
  end

  local function peers() return one:ask "/peers" end

  it("spreads requests by weight", function()
    start("rr", { 3, 2, 1 })
    assert.same({ 150, 100, 50 }, ask(300, 10))
    -- Nothing is thought to be under way that is not.
    for pending in peers():gmatch "%d+ false (%d+) 0" do assert.equal("0", pending) end
  end)

  for _, balance in ipairs { "rr", "p2c" } do
    it("shows no client that a backend dies and comes back, by " .. balance, function()
      start(balance)
      local answered = 0
      nginx.under_load(20, function()
        local status, body = one:get "/api"
        assert(status == 200, ("%s: %s\n%s"):format(tostring(status), tostring(body), one:log():sub(-3000)))
        answered = answered + 1
        host.sleep(5)
      end, function()
        nginx.until_true(function() return answered > 50 end)
        backends[2]:die()
        nginx.until_true(function() return one:log():find "is dead after 2 failures in a row" end, function() return one:log() end)
        backends[2].requests = 0
        backends[2]:start()
        nginx.until_true(function() return one:log():find "is alive again" and backends[2].requests > 20 end,
          function() return one:log() end)
      end)
    end)
  end

  it("answers as long as one of three lives", function()
    start "rr"
    backends[1]:die()
    backends[3]:die()
    assert.same({ 0, 60, 0 }, ask(60, 6))
    assert.equal(2, select(2, peers():gsub(" true ", "")))
  end)

  it("gives a slow backend less, by p2c", function()
    start "p2c"
    backends[3].ms = 2000 -- much more than the others take on a machine that has other things to do
    local by = ask(800, 16)
    assert.is_true(by[3] * 4 < by[1] and by[3] * 4 < by[2], table.concat(by, " "))
    local latency = tonumber(peers():match(backends[3].port .. " false %d+ 0 ([%d.]+)"))
    assert.is_true(latency >= 1900, tostring(latency))
  end)

  for _, status in ipairs { 503, 500 } do
    it(("is not drawn to a backend that answers %d at once, by p2c"):format(status), function()
      start "p2c"
      for number, each in ipairs(backends) do each.ms, each.status = number == 2 and 0 or 30, number == 2 and status or 200 end
      local good, bad = 0, 0
      nginx.many(400, 8, function()
        local got = one:get "/api"
        if got == 200 then good = good + 1 elseif got == status then bad = bad + 1 else error("status " .. tostring(got)) end
      end)
      assert.is_true(bad >= 1 and bad < 60, ("%d of %d"):format(bad, bad + good))
      assert.matches(backends[2].port .. " false 0 0 ", peers()) -- it lives
    end)
  end

  it("leaves one that does not answer in time alone", function()
    start("rr", nil, nil, 5) -- the others answer in time, however busy the machine is
    backends[2].ms = 60000
    local by = ask(60, 6)
    assert.equal(0, by[2])
    assert.matches(backends[2].port .. " true", peers())
  end)

  it("ends a request with 502 when all were tried, and when there is none", function()
    start("rr", { 1, 1 })
    backends[1]:die()
    backends[2]:die()
    assert.equal(502, (one:get "/api"))
    one:stop()
    one = nginx.start {
      files = { ["balancers.lua"] = [[return { api = require("cueball.nginx.balancer").new { resolver = function() end } }]] },
      http = HTTP, server = SERVER,
    }
    local status = one:get "/api"
    assert.equal(502, status, one:log())
    assert.matches("no backend is known", one:log())
  end)

  it("does not hold it against a backend that a client leaves", function()
    start("rr", { 1 })
    backends[1].ms = 300
    for _ = 1, 5 do one:ask_and_leave("/api", 30) end
    nginx.until_true(function() return peers():match "false 0 0" end, peers)
  end)

  it("reports in internal redirects too, or forgets in time", function()
    start("rr", { 1 }, [[
      location = /redirected { proxy_pass http://api; proxy_intercept_errors on; error_page 500 = /instead; }
      location = /instead { return 200 "instead"; }
      location = /collect { content_by_lua_block { collectgarbage() collectgarbage() ngx.print "done" } }
    ]])
    backends[1].status = 500
    for _ = 1, 20 do assert.equal("instead", one:ask "/redirected") end
    backends[1].status = 200
    nginx.until_true(function()
      one:ask "/collect" -- what is forgotten is garbage, which is found after enough requests
      one:ask "/api"
      return peers():match "false 0 "
    end, peers)
  end)

  it("whose peers are all dead has its resolver look where they are now", function()
    backends = { new_backend(1), new_backend(2) }
    local hourly = [[
return { api = require("cueball.nginx.balancer").new {
  name = "api", tries = 1, attempts = 1, delay_ms = 60000, max_delay_ms = 60000,
  resolver = function(sink)
    local looks = 0
    repeat
      looks = looks + 1
      ngx.shared.notes:set("looks", looks)
      sink:set { looks == 1 and "127.0.0.1:%d" or "127.0.0.1:%d" }
    until not sink:sleep(3600e3)
  end,
} }
]]
    one = nginx.start {
      files = { ["balancers.lua"] = hourly:format(backends[1].port, backends[2].port) }, http = "lua_shared_dict notes 100k;" .. HTTP,
      server = SERVER .. "location = /looks { content_by_lua_block { ngx.print(ngx.shared.notes:get 'looks') } }",
    }
    nginx.until_true(function() return select(2, one:get "/api") == "1" end)
    assert.equal("1", one:ask "/looks")
    backends[1]:die()
    one:get "/api"
    nginx.until_true(function() return select(2, one:get "/api") == "2" end, function() return one:log() end)
    assert.equal("2", one:ask "/looks")
  end)
end)

describe("the example of a balancer", function()
  it("runs as it stands, but for its ports and where things are", function()
    local prefix = assert(uv.fs_mkdtemp "/tmp/cueball-nginx-XXXXXX")
    local root = uv.fs_realpath(os.getenv "CUEBALL_ROOT" or ".")
    local build = uv.fs_realpath(os.getenv "CUEBALL_BUILD" or root .. "/build")
    local three, port = { new_backend(1), new_backend(2), new_backend(3) }, free_port()
    local file = assert(io.open(root .. "/examples/openresty/balancer.conf", "rb"))
    local text = file:read "*a"
    file:close()
    local modules = "/usr/lib/nginx/modules/"
    local main = ("daemon off; pid %s/pid; %s load_module %sndk_http_module.so; load_module %sngx_http_lua_module.so;\n")
      :format(prefix, uv.getuid() == 0 and "user root;" or "", modules, modules)
    local http = ("http {\n  access_log off; lua_package_path '%s/lua/?.lua;%s/lua/?/init.lua;%s/lua/?.lua;;';")
      :format(root, root, build) .. ("lua_package_cpath '%s/?.so;;';"):format(build)
    for _, name in ipairs { "client_body", "proxy", "fastcgi", "uwsgi", "scgi" } do
      http = http .. ("%s_temp_path %s/t;"):format(name, prefix)
    end
    text = main .. text:gsub("listen 8080", "listen 127.0.0.1:" .. port)
      :gsub("900(%d)", function(number) return three[tonumber(number)].port end)
      :gsub("http {", http, 1)
    file = assert(io.open(prefix .. "/nginx.conf", "wb"))
    file:write(text)
    file:close()
    local has_exited, handle = false, nil
    local pid
    handle, pid = uv.spawn("nginx", { args = { "-p", prefix, "-e", prefix .. "/error.log", "-c", prefix .. "/nginx.conf" } }, function()
      has_exited = true
      handle:close()
    end)
    local function get(path)
      return host.run(function()
        local socket = host.tcp()
        if not socket:connect("127.0.0.1", port) then return nil end
        socket:send(("GET %s HTTP/1.0\r\n\r\n"):format(path))
        local answer = socket:receive "*a" or ""
        return tonumber(answer:match "^HTTP/%S+ (%d+)"), answer
      end)
    end
    local ok, message = pcall(function()
      nginx.until_true(function() return get "/peers" == 200 end, function()
        return io.open(prefix .. "/error.log"):read(2000)
      end)
      for _ = 1, 5 do assert.equal(200, (get "/x")) end
      assert.matches("127.0.0.1:" .. three[3].port .. " %d+ requests, 0 under way", select(2, get "/peers"))
    end)
    uv.kill(pid, "sigterm")
    nginx.until_true(function() return has_exited end)
    for _, each in ipairs(three) do each:die() end
    let_close()
    os.execute("rm -rf '" .. prefix .. "'")
    assert(ok, message)
  end)
end)
