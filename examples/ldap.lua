-- LDAP: a pool of bound connections over two servers, of which one is killed on the way.
--   examples/run examples/ldap.lua                 needs slapd and libldap: apt install slapd
-- How to connect is in examples/support/ldap.lua: a connection factory for a protocol with a library of its own.
local cueball = require "cueball"
local ldap = require "examples.support.ldap"
local slapd = require "examples.support.slapd"

local SEARCHES = 200

local function mail_of(name)
  return function(directory)
    local found, message = directory:search { base = "dc=example", where = { uid = name, objectClass = "person" }, attributes = { "mail" } }
    if not found then return nil, message end
    return found[1] and found[1].mail[1] or "nobody"
  end
end

-- Without what differs from run to run.
local function plain(message) return (message:gsub("127%.0%.0%.1:%d+", "HOST"):gsub("; for %d+ ms", "")) end

local function show(servers)
  local backends = {}
  for index, server in ipairs(servers) do backends[index] = server.address end
  local pool = cueball.pool {
    name = "directory", max_connections = 4, claim_timeout_ms = 10000, check_interval_ms = 1000,
    resolver = cueball.resolver.static(backends),
    connect = ldap { dn = "uid=app,dc=example", password = function() return "the application's" end, timeout_ms = 5000 },
  }
  print(pool:with(mail_of "ann"))
  print(pool:with(function(directory) return directory:whoami() end))

  -- Somebody logs in: the password is tried on a connection of the pool's, which is bound as before afterwards.
  for _, password in ipairs { "her password", "a wrong one" } do
    print(pool:with(function(directory) return directory:verify("uid=ann,dc=example", password) end))
  end
  print(("%d dead, %d connections were lost"):format(pool:stats().dead_backends, pool:stats().lost))

  local answered, told = 0, 0
  for number = 1, SEARCHES do
    if number == SEARCHES / 2 then servers[1]:kill() end
    local mail, message = pool:with(mail_of "bob")
    if mail == "bob@example.org" then answered = answered + 1 elseif message then told = told + 1 end
  end
  print(("%d of %d searches were answered or told why not, though one server was killed"):format(answered + told, SEARCHES))
  pool:stop()
end

-- A pool whose own password is wrong gets no connection, and its claimers are told why.
local function show_wrong_password(server)
  local pool = cueball.pool {
    name = "stranger", resolver = cueball.resolver.static { server.address }, claim_timeout_ms = 10000,
    connect = ldap { dn = "uid=app,dc=example", password = "guessed" }, recovery = { default = { attempts = 1, timeout_ms = 10000 } },
  }
  local _, message = pool:claim()
  print(plain(message))
  pool:stop()
end

local function main()
  local servers, users = {}, { ann = "her password", bob = "his password", app = "the application's" }
  local ok, message = pcall(function()
    for index = 1, 2 do servers[index] = slapd.start { users = users } end
    show(servers)
    show_wrong_password(servers[2])
  end)
  for _, server in ipairs(servers) do server:stop() end
  if not ok then error(message, 0) end
end

cueball.run(main)
