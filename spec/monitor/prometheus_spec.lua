--- The metrics as those who read them see them: promtool, which checks their form, and a real Prometheus, which scrapes a program; the
-- alert rules and the dashboard of docs/monitoring.
local cueball = require "cueball"
local dkjson = require "dkjson"
local free_port = require("spec.support.port").free
local host = require "cueball.host.uv"
local http_client = require "spec.support.http_client"
local monitor = require "cueball.monitor"
local shell = require "spec.support.shell"
local until_true = require "spec.support.until_true"
local uv = require "luv"
local root, quote = shell.root, shell.quote

local TOKEN = "s3cret-s3cret-s3cret"
local folder

local CONFIG = [[
global: { scrape_interval: 3s, scrape_timeout: 3s, evaluation_interval: 1s }
rule_files: [ %s/docs/monitoring/alerts.yml ]
scrape_configs:
  - job_name: app
    authorization: { credentials: %s }
    static_configs: [ { targets: [ "%s" ] } ]
]]

-- Runs fn(address) beside a pool whose claims come to all ends, and a server that shows it.
local function with_pool(given, fn)
  host.run(function()
    local pool = cueball.pool {
      name = 'a "db"', max_connections = 2, resolver = cueball.resolver.static { "10.0.0.1:1", "10.0.0.9:1" },
      connect = function(backend)
        if backend.key:find "10.0.0.9" then return nil, "connection refused" end
        return {}
      end,
    }
    given.listen = "127.0.0.1:0"
    local server = assert(monitor.serve(given))
    assert(pool:ready())
    until_true(function() return pool:stats().dead_backends == 1 end)
    local held = {}
    repeat
      local lease = pool:try_claim()
      held[#held + 1] = lease
    until not lease
    assert.is_nil((pool:claim { timeout_ms = 1 }))
    host.spawn(function()
      host.sleep(30)
      for _, lease in ipairs(held) do lease:release() end
    end)
    pool:claim({ timeout_ms = 30000 }):close()
    local ok, message = xpcall(fn, debug.traceback, server.address)
    server:close()
    pool:stop()
    if not ok then error(message, 0) end
  end)
end

-- Starts a program, and ends it.
local function start(command, arguments)
  local output = assert(io.open(folder .. "/output", "w"))
  local fd = assert(uv.fs_open(folder .. "/output", "a", 420))
  output:close()
  local handle = assert(uv.spawn(command, { args = arguments, stdio = { nil, fd, fd } }, function() end))
  uv.fs_close(fd)
  return handle
end

local function stop(handle)
  handle:kill "sigterm"
  until_true(function() return not handle:is_active() end)
  handle:close()
end

-- What Prometheus knows: the values of an expression, by the label `by`.
local function ask(prometheus, expression, by)
  local encoded = expression:gsub("[^%w]", function(byte) return ("%%%02X"):format(byte:byte()) end)
  local socket = prometheus:connect()
  socket:send(("GET /api/v1/query?query=%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):format(encoded))
  local status, body = http_client.answer(socket)
  socket:close()
  assert.equal(200, status, body)
  local found = {}
  for _, one in ipairs(dkjson.decode(body).data.result) do found[one.metric[by] or ""] = tonumber(one.value[2]) end
  return found
end

describe("the metrics", function()
  setup(function() folder = shell.must "mktemp -d" end)
  teardown(function() shell.must("rm -rf " .. quote(folder)) end)
  before_each(function() host.log_to(function() end) end)
  after_each(function() host.log_to(nil) end)

  it("are in order, as promtool judges", function()
    local text
    with_pool({}, function(address) text = select(2, http_client.to(address):get "/metrics?names=cueball") end)
    shell.write(folder .. "/metrics", text)
    assert.equal("", shell.must("promtool check metrics 2>&1 < " .. quote(folder .. "/metrics")))
    assert.truthy(text:find('cueball_pool_refusals_total{pool="a \\"db\\"",reason="claim_timeout"}', 1, true))
    assert.truthy(text:find('cueball_pool_closes_total{pool="a \\"db\\"",reason="close"} 1', 1, true))
    assert.truthy(text:find('cueball_pool_deaths_total{pool="a \\"db\\"",cause="failed"} 1', 1, true))
  end)

  it("are scraped by a real Prometheus, with a token, and add up there", function()
    local port = free_port()
    with_pool({ token = TOKEN }, function(address)
      shell.write(folder .. "/prometheus.yml", CONFIG:format(root, TOKEN, address))
      local handle = start("prometheus", {
        "--config.file=" .. folder .. "/prometheus.yml", "--storage.tsdb.path=" .. folder .. "/data",
        "--web.listen-address=127.0.0.1:" .. port, "--log.level=warn",
      })
      local prometheus = http_client.to("127.0.0.1:" .. port)
      local ok, message = xpcall(function()
        until_true(function()
          local is_up, found = pcall(ask, prometheus, "up", "job")
          return is_up and found.app == 1
        end, function() return shell.read(folder .. "/output") end)
        local pool = 'a "db"'
        assert.equal(1, ask(prometheus, "cueball_pool_workers{state='running'}", "pool")[pool])
        local waits = ask(prometheus, "cueball_pool_claim_wait_seconds_bucket", "le")
        assert.equal(ask(prometheus, "cueball_pool_claims_granted_total", "pool")[pool], waits["+Inf"])
        assert.is_true(waits["0.01"] < waits["+Inf"], "a claim waited 30 ms")
        assert.equal(0, ask(prometheus, "cueball_backend_up", "backend")["10.0.0.9:1"])
        assert.equal(2, ask(prometheus, "db_client_connection_max", "db_client_connection_pool_name")[pool])
        until_true(function() return ask(prometheus, "ALERTS{alertname='CueballBackendDown'}", "alertstate").pending == 1 end)
        local typed = select(2, prometheus:get "/api/v1/metadata?metric=cueball_pool_lease_seconds")
        assert.truthy(typed:find('"type":"histogram"', 1, true), typed)
        assert.truthy(typed:find('"unit":"seconds"', 1, true), typed)
      end, debug.traceback)
      stop(handle)
      if not ok then error(message, 0) end
    end)
  end)
end)

describe("the files of docs/monitoring", function()
  it("have alert rules that fire when they should", function()
    local here = ("cd %s/docs/monitoring && "):format(quote(root))
    assert.matches("SUCCESS", shell.must(here .. "promtool check rules alerts.yml"))
    assert.matches("SUCCESS", shell.must(here .. "promtool test rules alerts_test.yml"))
  end)

  it("ask for metrics that there are", function()
    local known = {}
    for line in shell.read(root .. "/docs/monitor.md"):gmatch "[^\n]+" do
      if line:find "^| `[cd][ub]" then
        for name in line:gmatch "`([%l_]+)`" do known[name] = true end
      end
    end
    local count = 0
    for _, file in ipairs { "alerts.yml", "grafana.json" } do
      for name in shell.read(root .. "/docs/monitoring/" .. file):gmatch "%f[%w_](cueball_[%l_]+)" do
        count = count + 1
        assert.is_true(known[name:gsub("_bucket$", "")] or false, file .. ": " .. name)
      end
    end
    assert.is_true(count > 40)
  end)

  it("have every alert in the manual", function()
    local manual = shell.read(root .. "/docs/monitor.md")
    for name in shell.read(root .. "/docs/monitoring/alerts.yml"):gmatch "alert: (%w+)" do
      assert.truthy(manual:find("`" .. name .. "`", 1, true), name)
    end
  end)

  it("stand in docs/operations.md as they are", function()
    local page, count = shell.read(root .. "/docs/operations.md"), 0
    for name, rule in shell.read(root .. "/docs/monitoring/alerts.yml"):gmatch "alert: (%w+)\n(.-)labels:" do
      local span = rule:match "for: (%w+)"
      local row = ("| `%s` | `%s`%s |"):format(name, rule:match "expr: ([^\n]+)", span and " for " .. span or "")
      assert.truthy(page:find(row, 1, true), row)
      count = count + 1
    end
    assert.is_true(count > 5)
  end)

  it("have a dashboard that is JSON, with queries in order", function()
    local board = assert(dkjson.decode(shell.read(root .. "/docs/monitoring/grafana.json")))
    local expressions = {}
    for _, panel in ipairs(board.panels) do
      assert.is_true(panel.gridPos.x + panel.gridPos.w <= 24)
      for _, target in ipairs(panel.targets) do
        local expression = target.expr:gsub("%$__rate_interval", "1m"):gsub("%$%l+", ".*")
        expressions[#expressions + 1] = ("      - { record: 'r%d', expr: '%s' }"):format(#expressions, (expression:gsub("'", "''")))
      end
    end
    local path = shell.must "mktemp"
    shell.write(path, "groups:\n  - name: queries\n    rules:\n" .. table.concat(expressions, "\n") .. "\n")
    assert.matches(#expressions .. " rules found", shell.must("promtool check rules " .. path))
    os.remove(path)
  end)
end)
