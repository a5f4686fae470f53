--- The connection factory of examples/support/ldap.lua: against real LDAP servers on libuv, and in virtual time against servers that
-- misbehave as no real one can be made to. In nginx: spec/nginx/ldap_spec.lua.
local cueball = require "cueball"
local host = require "cueball.host.uv"
local ldap = require "examples.support.ldap"
local slapd = require "examples.support.slapd"
local certificates = require "spec.support.certificates"
local free_port = require("spec.support.port").free
local run_pool = require "spec.support.run_pool"
local server = require "spec.support.server"
local sim_pool = require "spec.support.sim_pool"
local until_true = require "spec.support.until_true"
local with = require "spec.support.with"

local APP = { dn = "uid=app,dc=example", password = "the application's" }
local USERS = { app = APP.password, ann = "her password", ["b*b"] = "(his)" }
local RECOVERY = { default = { attempts = 2, timeout_ms = 15000, delay_ms = 20, max_delay_ms = 40 } }

local servers

local function start(given)
  servers[#servers + 1] = slapd.start(with({ users = USERS, port = free_port() }, given))
  return servers[#servers]
end

before_each(function() servers = {} end)
after_each(function()
  for _, one in ipairs(servers) do one:stop() end
end)

-- Runs fn(pool) with a pool over these backends.
local function with_pool(backends, settings, fn, more)
  run_pool(with({
    host = host, max_connections = 2, claim_timeout_ms = 15000, recovery = RECOVERY,
    resolver = cueball.resolver.static(backends), connect = ldap(with(APP, settings)),
  }, more), fn)
end

local function whoami(directory) return directory:whoami() end

local function mail_of(name)
  return function(directory)
    local found, message = directory:search { base = "dc=example", where = { uid = name }, attributes = { "mail" } }
    if not found then return nil, message end
    return found[1] and found[1].mail[1] or "nobody"
  end
end

describe("an LDAP connection to a real server", function()
  it("is open once it is bound, over TCP and over a UNIX socket", function()
    local one = start()
    for _, backend in ipairs { one.address, one.socket } do
      with_pool({ backend }, nil, function(pool)
        assert.equal("dn:uid=app,dc=example", pool:with(whoami))
        assert(pool:ready { connections = 2 })
      end)
    end
  end)

  it("finds what is asked for", function()
    local one = start()
    with_pool({ one.socket }, nil, function(pool)
      local function search(given)
        return pool:with(function(directory) return directory:search(with({ base = "dc=example" }, given)) end)
      end
      local function names(given)
        local list = {}
        for _, entry in ipairs(assert(search(given))) do list[#list + 1] = entry.dn end
        table.sort(list)
        return table.concat(list, " ")
      end
      assert.same({ { dn = "uid=ann,dc=example", mail = { "ann@example.org" }, cn = { "ann" } } },
        search { where = { uid = "ann" }, attributes = { "mail", "cn" } })
      assert.equal("uid=b*b,dc=example", names { where = { uid = "b*b" } }) -- no wildcard, and no injection
      assert.equal("", names { where = { uid = "*" } })
      assert.equal("", names { where = { uid = "ann)(uid=*" } })
      assert.equal("uid=ann,dc=example uid=app,dc=example uid=b*b,dc=example", names { where = { uid = true }, scope = "one" })
      assert.equal("dc=example", names { scope = "base" })
      assert.equal("", names { where = { uid = "ann", objectClass = "organization" } })
      local root = assert(pool:with(function(directory) return directory:search { scope = "base", attributes = { "namingContexts" } } end))
      assert.same({ { dn = "", namingContexts = { "dc=example" } } }, root)
      assert.equal(2, #search { limit = 2 })
      local all = search { attributes = { "objectClass" } }
      assert.equal(4, #all)
      local nothing, message, name = search { base = "dc=elsewhere" }
      assert.same({ nil, "search: noSuchObject (32)", "noSuchObject" }, { nothing, message, name })
      nothing, message, name = search { base = "no dn" }
      assert.same({ nil, "search: invalidDNSyntax (34): invalid DN", "invalidDNSyntax" }, { nothing, message, name })
      assert.same({ 0, 0 }, { pool:stats().lost, pool:stats().closed })
      assert.has_error(function() search { scope = "two" } end)
    end)
  end)

  it("tells a wrong password of somebody's, which is nothing against the server, and is bound as before", function()
    local one = start()
    with_pool({ one.address }, nil, function(pool)
      local function verify(dn, password)
        return pool:with(function(directory) return directory:verify(dn, password) end)
      end
      assert.is_true(verify("uid=ann,dc=example", "her password"))
      for _, case in ipairs {
        { "uid=ann,dc=example", "wrong", "bind: invalidCredentials (49)" },
        { "uid=eve,dc=example", "wrong", "bind: invalidCredentials (49)" },
        { "uid=ann,dc=example", "", "verify: an empty password proves nothing" },
      } do
        local ok, message = verify(case[1], case[2])
        assert.same({ false, case[3] }, { ok, message })
        assert.equal("dn:uid=app,dc=example", pool:with(whoami))
      end
      local ok, message, name = verify("nobody", "x")
      assert.same({ nil, "bind: invalidDNSyntax (34): invalid DN", "invalidDNSyntax" }, { ok, message, name })
      local stats = pool:stats()
      assert.same({ 1, 0, 0, 0, 0 }, { stats.opened, stats.lost, stats.closed, stats.dead_backends, stats.open_failures })
    end, { max_connections = 1 })
  end)

  it("of a pool whose own password is wrong says so to its claimers, and does not show it", function()
    local one = start()
    for _, password in ipairs { "SESAMEWRONG", function() return "SESAMEWRONG" end } do
      with_pool({ one.address }, { password = password }, function(pool)
        local lease, message, name = pool:claim()
        assert.same({ nil, "pool_failed" }, { lease, name })
        assert.is_truthy(message:find(("dead: %s (bind: invalidCredentials (49)"):format(one.address), 1, true), message)
        assert.is_nil(message:find("SESAME", 1, true))
      end)
    end
  end)

  it("follows a password that was changed, without an error, once the pool is told", function()
    local one, password = start(), APP.password
    with_pool({ one.socket }, { password = function() return password end, timeout_ms = 20000 }, function(pool)
      local answered, is_over = 0, false
      host.spawn(function()
        while not is_over do
          assert(pool:with(whoami))
          answered = answered + 1
        end
      end)
      until_true(function() return answered > 10 end)
      password = "another"
      local command = ("ldappasswd -x -H ldap://%s -D '%s' -w '%s' -s '%s' '%s'"):format(one.address, slapd.ADMINISTRATOR.dn,
        slapd.ADMINISTRATOR.password, password, APP.dn)
      assert.equal(0, os.execute(command))
      pool:renew { over_ms = 0 }
      until_true(function() return pool:stats().opened == 4 end)
      local before = answered
      until_true(function() return answered > before + 10 end)
      is_over = true
      assert.is_nil(pool:last_error())
      assert.is_true(pool:with(function(directory) return directory:verify(APP.dn, "another") end))
    end)
  end)

  it("is replaced when its server dies, hangs or is started again; claims go on with another one", function()
    local one, other = start(), start()
    with_pool({ one.address, other.socket }, { timeout_ms = 3000 }, function(pool)
      assert(pool:ready { connections = 4 })
      local function serves(count)
        local answered = 0
        for _ = 1, count do answered = answered + (pool:with(mail_of "ann") == "ann@example.org" and 1 or 0) end
        return answered
      end
      assert.equal(20, serves(20))
      one:kill()
      assert.is_true(serves(40) >= 38) -- at most those that were at rest there, and not known to be lost yet
      until_true(function() return pool:stats().dead_backends == 1 end)
      one:start_again()
      until_true(function() return pool:stats().dead_backends == 0 and pool:stats().idle == 4 end)
      one:pause()
      assert.is_true(serves(20) >= 18) -- those that it hears of are told after 3 s; then its connections are not lent
      one:go_on()
      until_true(function() return pool:stats().idle == 4 and serves(20) == 20 end)
    end, { max_connections = 4, check_interval_ms = 100, check_timeout_ms = 15000 })
  end)

  for how, options in pairs { ldaps = { tls = true }, StartTLS = { starttls = true } } do
    it("speaks TLS: " .. how, function()
      local files = { certificate = certificates.good.cert, key = certificates.good.key, ca = certificates.ca.cert }
      local one = start { tls = files, tls_port = free_port() }
      local address = options.tls and "127.0.0.1:" .. one.tls_port or one.address
      local function answer(more)
        local who, message
        with_pool({ address }, with(options, { tls = more }), function(pool) who, message = pool:with(whoami) end)
        return who, message
      end
      assert.equal("dn:uid=app,dc=example", (answer { ca_file = certificates.ca.cert }))
      local who, message = answer { ca_file = certificates.stranger.cert }
      assert.is_nil(who)
      assert.is_truthy(message:find("TLS: ", 1, true), message)
      who, message = answer { ca_file = certificates.ca.cert, server_name = "other.example" }
      assert.is_nil(who)
      assert.is_truthy(message:find("TLS: ", 1, true), message)
    end)
  end

  it("tells that a server has no StartTLS", function()
    local one = start()
    with_pool({ one.address }, { starttls = true }, function(pool)
      pool:claim()
      assert.is_truthy(pool:last_error():find("StartTLS: protocolError (2): unsupported extended operation", 1, true), pool:last_error())
    end)
  end)

  it("leaves nothing behind", function()
    local one = start()
    local before = server.open_handles()
    for _ = 1, 5 do
      with_pool({ one.address, one.socket }, nil, function(pool) assert(pool:with(mail_of "ann")) end)
    end
    assert.equal("", server.left_open(before))
  end)
end)

describe("an LDAP connection to a server that misbehaves", function()
  local char = string.char
  local town, count

  local function element(tag, body) return char(tag, #body) .. body end
  local function message(id, operation) return element(0x30, element(2, char(id)) .. operation) end
  local function result(tag, code, text, rest)
    return element(tag, element(10, char(code)) .. element(4, "") .. element(4, text or "") .. (rest or ""))
  end
  local BIND, SEARCH, WHOAMI = 0x60, 0x63, 0x77

  -- A server that answers as answers[tag of the request] says: a function(id), or a code.
  local function open(answers, more)
    town = sim_pool.new { reply = function(data)
      local id, tag = data:byte(5), data:byte(6)
      count = count + 1
      local answer = answers[tag]
      if type(answer) == "function" then return answer(id, data) end
      if tag == 0x42 then return nil end -- unbind
      local value = tag == WHOAMI and element(0x8b, "dn:" .. APP.dn) or nil
      return message(id, result(tag == SEARCH and 0x65 or tag + 1, answer or 0, answer and "so it is", value))
    end }
    count = 0
    return town:open({
      max_connections = 2, connect = ldap(with(APP, { timeout_ms = 100 })), recovery = RECOVERY, claim_timeout_ms = 500,
    }, more)
  end

  -- What a search is told, and then the pool's numbers: connections lost, checks, and its last error.
  local function search(pool)
    local seen
    town:advance(50)
    town:run(function()
      local _, why, name = pool:with(function(directory) return directory:search { base = "dc=example" } end)
      seen = { why, name }
    end)
    town:advance(1)
    seen[3], seen[4], seen[5] = pool:stats().lost, pool:stats().checks, pool:last_error()
    return seen
  end

  after_each(function()
    town:stop()
  end)

  for code, name in pairs { [51] = "busy", [52] = "unavailable" } do
    it("is evidence against it: " .. name, function()
      local pool = open { [SEARCH] = code }
      local text = ("search: %s (%d): so it is"):format(name, code)
      assert.same({ text, name, 1, 1, "db1: " .. text }, search(pool)) -- its other connection is checked
    end)

    it("fails the attempt: " .. name, function()
      local pool = open { [BIND] = code }
      town:advance(100)
      assert.equal(("db1: bind: %s (%d): so it is"):format(name, code), pool:last_error())
      assert.equal(1, pool:stats().dead_backends)
    end)
  end

  it("is none where the server refuses what was asked", function()
    local pool = open { [SEARCH] = 50 }
    assert.same({ "search: insufficientAccessRights (50): so it is", "insufficientAccessRights", 0, 0 }, search(pool))
  end)

  local NOTICE = message(0, result(0x78, 52, "going down", element(0x8a, "1.3.6.1.4.1.1466.20036")))

  it("ends with a notice of disconnection, in a request and at rest", function()
    local pool = open { [SEARCH] = function() return NOTICE end }
    local text = "notice of disconnection: unavailable (going down)"
    assert.same({ "search: " .. text, "closed", 1, 1, "db1: " .. text }, search(pool))
    town:advance(50)
    for _, connection in ipairs(town.servers[1]:list()) do connection:send(NOTICE) end
    town:advance(10)
    assert.equal(3, pool:stats().closed)
  end)

  it("is not lent again after an answer that is none", function()
    for what, case in pairs {
      ["HTTP"] = { function() return "HTTP/1.1 400 Bad Request\r\n\r\n" end, "it speaks no LDAP" },
      ["an endless length"] = { function() return "0\132\255\255\255\255" end, "its answer has 4294967295 bytes" },
      ["an indefinite length"] = { function() return "0\128\2\1\1" end, "it speaks no LDAP" },
      ["nothing"] = { function() return "0\0" end, "it speaks no LDAP" },
      ["no number"] = { function() return element(0x30, "\2\9a") end, "its answer is no message" },
      ["a number of nobody's"] = { function(id) return message(id + 1, result(0x65, 0)) end, "it answered another request" },
      ["another operation"] = { function(id) return message(id, result(0x61, 0)) end, "it answered something else" },
      ["half a result"] = { function(id) return message(id, element(0x65, element(10, "\0"))) end, "its answer is no result" },
      ["half an entry"] = { function(id) return message(id, element(0x64, "\4\200a")) end, "its answer is no entry" },
      ["what nobody asked for"] = { function() return message(0, result(0x65, 0)) end, "it sent what nobody asked for" },
    } do
      local pool = open { [SEARCH] = case[1] }
      local seen = search(pool)
      assert.equal("search: " .. case[2], seen[1], what)
      assert.equal("closed", seen[2])
      assert.is_true(pool:stats().closed >= 1, what)
      town:stop()
    end
  end)

  it("is not lent again after a time-out, though the answer comes then", function()
    local pool = open({ [SEARCH] = function() return nil end }, { max_connections = 1 })
    town:advance(50)
    town:run(function()
      local _, why, name = pool:with(function(directory)
        town.world.at(town.world.time_ms() + 150, function() town.servers[1]:list()[1]:send(message(2, result(0x65, 0))) end)
        local list, why, name = directory:search { base = "dc=example" }
        town.world.sleep(100)
        return list, why, name
      end)
      assert.same({ "search: timeout", "timeout" }, { why, name })
    end)
    assert.equal(1, pool:stats().closed_timeout)
  end)

  it("reads bytes at random without harm", function()
    local random = 12345
    local function draw(n)
      random = random * 16807 % 2147483647
      return random % n
    end
    local attribute = element(0x30, element(4, "cn") .. element(0x31, element(4, "a")))
    local whole = message(2, element(0x64, element(4, "dc=x") .. element(0x30, attribute)))
    local pool = open({ [SEARCH] = function()
      local bytes = { whole:byte(1, -1) }
      for _ = 0, draw(4) do bytes[draw(#bytes) + 1] = draw(256) end
      return char(unpack(bytes))
    end }, { max_connections = 1 })
    town:run(function()
      for _ = 1, 1000 do
        pool:with(function(directory) return directory:search { base = "dc=example" } end)
        town.world.sleep(20)
      end
    end)
    assert.is_true(count > 1000, count)
  end)

  it("is unfit if it is left bound as another", function()
    local binds = 0
    local pool = open({ [BIND] = function(id)
      binds = binds + 1
      return message(id, result(0x61, binds == 3 and 80 or 0)) -- the one that should bind it as before
    end }, { max_connections = 1 })
    town:advance(50)
    town:run(function()
      assert.is_true(pool:with(function(directory) return directory:verify("uid=ann,dc=example", "x") end))
    end)
    town:advance(50)
    assert.same({ 0, 1, 2 }, { pool:stats().lost, pool:stats().closed, pool:stats().opened })
  end)
end)
