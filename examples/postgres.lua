-- PostgreSQL: a primary and a standby in one pool. The primary is killed while eight tasks write, the standby is promoted, and they go on.
--   examples/run examples/postgres.lua         needs PostgreSQL and libpq: apt install postgresql libpq5
local cueball = require "cueball"
local postgresql = require "examples.support.postgresql"

local WRITERS, WRITES = 8, 300

local function check(...)
  if not (...) then error((select(2, ...)), 0) end
  return ...
end

-- A pool on both servers that uses those of one role.
local function open(name, role, servers)
  return cueball.pool {
    name = name, max_connections = 4, claim_timeout_ms = 20000, check_interval_ms = 1000,
    resolver = cueball.resolver.static { servers[1].address, servers[2].address },
    connect = cueball.connection.postgres { user = "postgres", dbname = "postgres", role = role, query_timeout_ms = 10000 },
  }
end

local function show_queries(pool)
  pool:with(function(conn)
    check(conn:query "create table goods (id int primary key, name text not null)")
    check(conn:query("insert into goods values ($1, $2), ($3, $4)", 1, "chalk", 2, "cue"))
    print(conn:query("select name from goods where id = $1", 2)[1].name)
    local _, message, sqlstate = conn:query "insert into goods values (1, 'twice')"
    print(sqlstate, message)
  end)
end

local function show_transactions(pool)
  pool:with(function(conn)
    print(conn:transaction(function(tx)
      check(tx:query "insert into goods values (3, 'ball')")
      -- A transaction within is a savepoint: what it did is undone alone.
      tx:transaction(function() return tx:query "insert into goods values (1, 'twice')" end)
      return tx:query("select count(*) as number from goods")[1].number
    end, { isolation = "serializable", retry = 5 }))
    check(conn:query "begin")
    check(conn:query "delete from goods")
  end) -- it comes back in a transaction, which is rolled back
  print(pool:with(function(conn) return conn:query("select count(*) as number from goods")[1].number, conn:status() end))
end

-- Each writes its numbers, one after the other, until the server has taken them.
local function write(pool, writer, told)
  for number = writer * WRITES + 1, (writer + 1) * WRITES do
    repeat
      local done, message = pool:with(function(conn)
        return conn:query("insert into numbers values ($1) on conflict do nothing", number)
      end)
      if not done then
        told[#told + 1] = message
        cueball.sleep(20)
      end
    until done
  end
end

local function show_failover(pool, servers)
  check(pool:with(function(conn) return conn:query "create table numbers (number int primary key)" end))
  local told, left = {}, WRITERS
  for writer = 0, WRITERS - 1 do
    cueball.spawn(function()
      write(pool, writer, told)
      left = left - 1
    end)
  end
  cueball.sleep(100)
  servers[1]:kill()
  local standbys = open("standbys", "standby", servers)
  check(standbys:with(function(conn) return conn:query "select pg_promote(true, 60)" end))
  standbys:stop()
  while left > 0 do cueball.sleep(10) end
  print(("%d numbers are there"):format(pool:with(function(conn) return conn:query("select count(*) as n from numbers")[1].n end)))
  io.stderr:write(("%d queries were told: %s\n"):format(#told, told[1] or "nothing"))
end

local function main()
  if not postgresql.is_there() then return print "PostgreSQL is not installed: apt install postgresql" end
  local servers = { postgresql.start() }
  servers[2] = postgresql.standby_of(servers[1])
  local pool = open("shop", "primary", servers)
  show_queries(pool)
  show_transactions(pool)
  show_failover(pool, servers)
  pool:stop()
end

local ok, message = pcall(cueball.run, main)
postgresql.end_all()
if not ok then error(message, 0) end
