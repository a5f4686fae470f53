--- PostgreSQL in nginx, over pgmoon, against a real server: connections that are parked between requests. With pgmoon itself where
-- CUEBALL_PGMOON names its folder, else with a stand-in for its login. On libuv: spec/connection/postgres/pgmoon_spec.lua.
local certificates = require "spec.support.certificates"
local nginx = require "spec.support.nginx"
local postgres = require "spec.support.postgres"
local until_true = require "spec.support.until_true"

local FOLDER = require("spec.support.postgres_pgmoon").folder

local POOLS = [[
local cueball = require "cueball"
return { db = cueball.pool {
  name = "db", max_connections = 2, claim_timeout_ms = 15000, resolver = cueball.resolver.static { "%s" },
  connect = cueball.connection.postgres {
    user = "ann", password = function() asked = (asked or 0) + 1 return "%s" end, dbname = "postgres", sslmode = "%s",
    query_timeout_ms = 15000, cancel_timeout_ms = 15000,
    options = "-c client_connection_check_interval=100", -- of a client that is gone the server would not know before it has answered
  },
} }
]]

local HTTP = [[
lua_ssl_trusted_certificate %s;
lua_ssl_verify_depth 3;
init_by_lua_block { package.path = '%s/?.lua;%s/?/init.lua;' .. package.path }
init_worker_by_lua_block { pools = require 'my_pools' }
]]

local ROLE = "set password_encryption = 'scram-sha-256'; create role ann login password 'secret'; grant pg_monitor to ann"

-- A query that is to be cancelled has 1.5 s: a cancel that comes before the server has begun it finds nothing.
describe("PostgreSQL in nginx", function()
  local one, server

  setup(function()
    server = postgres.start {
      hba = { "host all all 127.0.0.1/32 scram-sha-256" }, sql = ROLE,
      ssl = { cert_file = certificates.good.cert, key_file = certificates.good.key },
    }
  end)
  teardown(postgres.remove_all)
  after_each(function()
    if one then one:stop() one = nil end
  end)

  local function start(code, password, sslmode)
    one = nginx.start {
      files = { ["my_pools.lua"] = POOLS:format(server.backend, password or "secret", sslmode or "disable") },
      http = HTTP:format(certificates.ca.cert, FOLDER, FOLDER),
      server = [[
        location = /pid { content_by_lua_block { pools.db:with(function(conn)
          assert(conn:query("select pg_backend_pid() as pid")[1].pid == conn:pid())
          ngx.print(conn:pid())
        end) } }
        location = /opened { content_by_lua_block { ngx.print(pools.db:stats().opened) } }
        location = /asked { content_by_lua_block { ngx.print(asked) } }
        location = /error { content_by_lua_block { ngx.print(tostring(pools.db:last_error())) } }
        location = /use { content_by_lua_block {
          local made, message, name = pools.db:with(function(conn) ]] .. (code or "return true") .. [[ end)
          ngx.print(tostring(made), " ", tostring(message), " ", tostring(name))
        } }]],
    }
  end

  it("keeps connections between requests, and what is known of them", function()
    start [[
      assert(conn:parameter "server_version")
      local add = assert(conn:prepare "select $1::int + 1 as v")
      local row = assert(conn:query("select current_setting('application_name') as a, count(*) as c from pg_prepared_statements"))[1]
      return row.a, row.c, add:query(41)[1].v]]
    nginx.many(60, 10, function() assert.matches("^db %d+ 1 42$", one:ask "/use") end)
    assert.equal("2", one:ask "/opened")
    assert.equal("2", one:ask "/asked")
    assert.equal(2, server:connections "usename = 'ann'")
  end)

  it("speaks TLS, is sure of the server, and parks that too", function()
    start("return conn:query('select ssl from pg_stat_ssl where pid = pg_backend_pid()')[1].ssl", nil, "verify-full")
    nginx.many(30, 5, function() assert.equal("true nil nil", one:ask "/use") end)
    assert.equal("2", one:ask "/opened")
  end)

  it("cancels over TLS", function()
    start("conn:settimeout(1500) local _, _, name = conn:query 'select pg_sleep(3600)' return name, conn:is_fit()", nil, "require")
    for _ = 1, 3 do assert.equal("timeout true nil", one:ask "/use") end
    assert.equal("2", one:ask "/opened")
  end)

  it("says why it could not log in", function()
    start(nil, "wrong")
    until_true(function() return one:ask "/error" ~= "nil" end)
    assert.equal(server.backend .. ': password authentication failed for user "ann"', one:ask "/error")
  end)

  it("says how to install pgmoon where it is not there", function()
    local folder = FOLDER
    FOLDER = "/nowhere"
    start()
    FOLDER = folder
    until_true(function() return one:ask "/error" ~= "nil" end)
    assert.matches("pgmoon was not found: install it with 'luarocks install pgmoon' or 'opm get leafo/pgmoon'", one:ask "/error", 1, true)
  end)

  it("cancels what takes too long, and goes on with the connection", function()
    start "conn:settimeout(1500) return conn:query 'select pg_sleep(3600)'"
    assert.equal("nil the query took longer than 1500 ms, and was cancelled timeout", one:ask "/use")
    assert.equal(0, server:connections "query like '%pg_sleep%' and state = 'active'")
    for _ = 1, 10 do one:ask "/pid" end
    assert.equal("2", one:ask "/opened")
  end)

  it("rolls back what is left open before the connection is parked", function()
    start "assert(conn:query 'begin') return conn:status()"
    for _ = 1, 5 do assert.equal("in_transaction nil nil", one:ask "/use") end
    assert.equal(0, server:connections "usename = 'ann' and state <> 'idle'")
    assert.equal("2", one:ask "/opened")
  end)

  it("waits for notifications, and the connection stays fit when none comes", function()
    start [[
      assert(conn:query 'listen news')
      local _, _, name = conn:wait_notification(30)
      conn:query 'unlisten *'
      return name, conn:is_fit()]]
    for _ = 1, 5 do assert.equal("timeout true nil", one:ask "/use") end
    assert.equal("2", one:ask "/opened")
  end)

  it("does not notice that parked connections were ended by the server", function()
    start()
    nginx.many(20, 4, function() one:ask "/pid" end)
    for _ = 1, 3 do
      server:terminate "usename = 'ann'"
      nginx.many(10, 4, function() assert.matches("^%d+$", one:ask "/pid") end)
    end
    until_true(function() return server:connections "usename = 'ann'" == 2 end)
  end)

  it("tells the claimer whose query was ended by the server, and nobody else", function()
    start "return conn:query('select pg_terminate_backend($1)', conn:pid())"
    for _ = 1, 3 do
      assert.equal("nil terminating connection due to administrator command 57P01", one:ask "/use")
      assert.matches("^%d+$", one:ask "/pid")
    end
  end)

  it("closes what a request leaves in the middle of a query", function()
    start "ngx.thread.spawn(function() conn:query 'select pg_sleep(3600)' end) ngx.sleep(0.05) ngx.exit(204)"
    for _ = 1, 3 do assert.equal(204, (one:get "/use")) end
    for _ = 1, 10 do assert.matches("^%d+$", one:ask "/pid") end
    until_true(function() return server:connections "usename = 'ann'" == 2 end)
  end)
end)
