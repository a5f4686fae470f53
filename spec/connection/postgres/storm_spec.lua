--- Random faults at real PostgreSQL servers while claimers do random things, on libpq and over pgmoon. What must hold, whatever happens:
-- each claimer is told in time, every lease comes back, the servers never see more connections than were allowed, nothing that one claimer
-- left is found by the next, and everything works once the faults are over.
--
-- CUEBALL_STORM_SEED repeats the draws of a failure, CUEBALL_STORM_MS lets it last longer.
local client = require "cueball.connection.postgres.client"
local cueball = require "cueball"
local host = require "cueball.host.uv"
local postgres = require "spec.support.postgres"
local postgres_pgmoon = require "spec.support.postgres_pgmoon"
local random = require "cueball.random"
local until_true = require "spec.support.until_true"
local uv = require "luv"
local with = require "spec.support.with"

local LASTS_MS = tonumber(os.getenv "CUEBALL_STORM_MS") or 6000
local CAP, CLAIMERS = 6, 30
local CLAIM_MS, QUERY_MS = 1500, 400
-- The longest that a claimer may be without an answer: claim, queries and their cancels, and a machine that is busy.
local TOLD_MS = 25000
local SAMPLE_MS = 200
local COUNTING = "select count(*) as answer from pg_stat_activity where usename = 'app'"
local OVER_CAP_MS = 2000 -- a server hears of a close a little later than of the connect that follows; a busy one later still

-- ------------------------------------------------------------- claimers --

-- A task that is killed in the middle of anything.
local function killed(pool, draw)
  local task = host.spawn(function()
    pool:with(function(conn) conn:query("select pg_sleep($1)", draw()) end)
  end)
  host.sleep(draw() * 50)
  host.kill(task)
  return true
end

-- What a claimer does with a connection; each returns something, or nil and a message.
local DEEDS = {
  function(conn) return conn:query "select 1 as one" end,
  function(conn, draw) return conn:query("select pg_sleep($1)", draw() * 0.1) end,
  function(conn) return conn:query "select pg_sleep(10)" end, -- beyond its time limit
  function(conn) return conn:query "nonsense" end,
  function(conn) conn:query "begin" return conn:query "select 1 as one" end, -- left in a transaction
  function(conn) conn:query "begin" return conn:query "nonsense" end,
  function(conn)
    return conn:transaction(function(tx) return tx:query "select count(*) as one from pg_class" end, { retry = 2 })
  end,
  function(conn)
    local statement, message = conn:prepare "select $1::int as one"
    if not statement then return nil, message end
    return statement:query(1)
  end,
  function(conn) return conn:query "select repeat('x', 300000) as x from generate_series(1, 3)" end,
  function(conn, draw)
    conn:query "listen news"
    return conn:wait_notification(draw() * 30)
  end,
  function() error("a claimer that throws", 0) end,
  function(conn) return conn:query "select pg_terminate_backend(pg_backend_pid())" end,
}

-- What the claimer before left would show here.
local function look_for_remains(conn, faults)
  local row = conn:query "select pg_current_xact_id_if_assigned() is null and now() = statement_timestamp() as is_clean, 7 as seven"
  if row and (row[1].seven ~= 7 or not row[1].is_clean) then faults[#faults + 1] = "a claimer found what another had left" end
end

local function claim_once(storm, draw)
  local deed = DEEDS[1 + math.floor(draw() * (#DEEDS + 1))]
  if not deed then return killed(storm.pool, draw) end
  pcall(storm.pool.with, storm.pool, function(conn)
    look_for_remains(conn, storm.faults)
    storm.reached = storm.reached + 1
    return deed(conn, draw)
  end)
end

local function claimer(storm, number)
  local draw = random.from(storm.seed + number * 101)
  while not storm.is_over do
    storm.busy_since[number] = host.now()
    claim_once(storm, draw)
    local took_ms = (host.now() - storm.busy_since[number]) / 1e6
    storm.busy_since[number] = nil
    if took_ms > TOLD_MS then storm.faults[#storm.faults + 1] = ("a claimer was told after %.0f ms"):format(took_ms) end
    host.sleep(draw() * 20)
  end
  storm.left = storm.left - 1
end

-- ------------------------------------------------------------------ faults --

-- Asks a server over a connection of its own, without a process that would have to be started. → what the column "answer" is, or nil
local function ask(server, sql)
  local conn = client.connect(host, {
    hostaddr = "127.0.0.1", port = server.port, user = "postgres", dbname = "postgres", sslmode = "disable", gssencmode = "disable",
  }, { connect_ms = 2000, query_ms = 5000 })
  if not conn then return nil end
  local result = conn:query(sql)
  conn:close()
  return result and result[1] and result[1].answer
end

local TO_ANY = "select %s(pid) from pg_stat_activity where usename = 'app' order by random() limit %d"

local FAULTS = {
  function(server) ask(server, TO_ANY:format("pg_terminate_backend", 2)) end,
  function(server) ask(server, TO_ANY:format("pg_cancel_backend", 3)) end,
  function(server) ask(server, "notify news, 'hello'") end,
  function(server)
    server:kill()
    host.sleep(200)
    server:start()
  end,
  function(server) server:restart "fast" end,
  function(server, draw)
    server:freeze()
    host.sleep(draw() * 1500)
    server:thaw()
  end,
}

local function faults_at(storm, server, number)
  local draw = random.from(storm.seed + number * 7919)
  while not storm.is_over do
    server.is_troubled = true
    FAULTS[1 + math.floor(draw() * #FAULTS)](server, draw)
    server.is_troubled = false
    host.sleep(200 + draw() * 800)
  end
  storm.left = storm.left - 1
end

-- How many connections the servers see, again and again while all of them answer.
local function watch_cap(storm)
  local over_since
  while not storm.is_over do
    local seen, is_known = 0, true
    for _, server in ipairs(storm.servers) do
      local count = not server.is_troubled and ask(server, COUNTING)
      if count then seen = seen + count else is_known = false end
    end
    over_since = is_known and seen > CAP and (over_since or host.now()) or nil
    if over_since and host.now() - over_since > OVER_CAP_MS * 1e6 then
      storm.faults[#storm.faults + 1] = ("the servers see %d connections, %d are allowed"):format(seen, CAP)
    end
    host.sleep(SAMPLE_MS)
  end
  storm.left = storm.left - 1
end

-- ------------------------------------------------------------------ a storm --

local function calm(storm)
  storm.is_over = true
  until_true(function() return storm.left == 0 end, function() return storm.left .. " tasks wait still" end)
  -- Everything works again.
  until_true(function()
    return storm.pool:with(function(conn) return conn:query "select 1" end) ~= nil
  end, function() return storm.pool:last_error() end)
  until_true(function() -- all in a row: one alone may take too long where others have the processor
    for _ = 1, 3 * CAP do
      if not storm.pool:with(function(conn) return conn:query "select 1 as one" end) then return false end
    end
    return true
  end, function() return storm.pool:last_error() end)
  until_true(function() return storm.pool:stats().busy == 0 end, function() return storm.pool:stats().busy .. " leases are not back" end)
  local function seen()
    local total = 0
    for _, server in ipairs(storm.servers) do total = total + server:connections "usename = 'app'" end
    return total
  end
  until_true(function() return seen() <= CAP end, seen)
  storm.pool:stop()
  until_true(function() return seen() == 0 end, seen)
end

local function rage(servers, options, seed)
  local storm = {
    servers = servers, seed = seed, faults = {}, busy_since = {}, reached = 0, is_over = false, left = CLAIMERS + #servers + 1,
  }
  local backends = {}
  for index, server in ipairs(servers) do backends[index] = server.backend end
  storm.pool = cueball.pool {
    host = host, resolver = cueball.resolver.static(backends), max_connections = CAP, claim_timeout_ms = CLAIM_MS, check_timeout_ms = 1000,
    recovery = { default = { attempts = 3, timeout_ms = 1000, delay_ms = 20, max_delay_ms = 100 } }, check_interval_ms = 500,
    connect = cueball.connection.postgres(with({
      user = "app", dbname = "postgres", query_timeout_ms = QUERY_MS, cancel_timeout_ms = 500, sslmode = "disable",
      options = "-c client_connection_check_interval=200",
    }, options)),
  }
  for number = 1, CLAIMERS do host.spawn(claimer, storm, number) end
  for number, server in ipairs(servers) do host.spawn(faults_at, storm, server, number) end
  host.spawn(watch_cap, storm)
  host.sleep(LASTS_MS)
  calm(storm)
  return storm
end

describe("a storm", function()
  local remove

  setup(function()
    host.log_to(function() end)
    remove = postgres_pgmoon.install()
  end)
  teardown(function()
    remove()
    host.log_to()
  end)
  after_each(postgres.remove_all)

  for _, driver in ipairs { "libpq", "pgmoon" } do
    for _, reset in ipairs { "rollback", "discard" } do
      it(("of faults leaves nothing wrong: %s, reset = %q"):format(driver, reset), function()
        local seed = tonumber(os.getenv "CUEBALL_STORM_SEED") or uv.hrtime() % 2147483647
        local servers = {}
        for index = 1, 2 do servers[index] = postgres.start { settings = { max_connections = 40 }, sql = "create role app login" } end
        local storm
        local ok, message = pcall(host.run, function() storm = rage(servers, { driver = driver, reset = reset }, seed) end)
        if not ok then error(("CUEBALL_STORM_SEED=%.0f: %s"):format(seed, tostring(message)), 0) end
        assert.equal("", table.concat(storm.faults, "\n"), ("CUEBALL_STORM_SEED=%.0f"):format(seed))
        assert.is_true(storm.reached > CAP)
      end)
    end
  end
end)
