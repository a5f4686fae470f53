--- The connection factory of examples/support/ldap.lua in a real nginx, where connections are parked, against a real LDAP server.
local shell = require "spec.support.shell"
local certificates = require "spec.support.certificates"
local nginx = require "spec.support.nginx"
local slapd = require "examples.support.slapd"
local free_port = require("spec.support.port").free
local until_true = require "spec.support.until_true"

local POOLS = [[
local cueball = require "cueball"
local ldap = require "ldap"
password = "SESAMEAPP"
passwords = { new = "SESAMENEW", wrong = "SESAMEWRONG" }
return { directory = cueball.pool {
  name = "directory", max_connections = 2, claim_timeout_ms = 15000, resolver = cueball.resolver.static { %s },
  recovery = { default = { attempts = 2, timeout_ms = 15000, delay_ms = 20, max_delay_ms = 40 } },
  connect = ldap { dn = "uid=app,dc=example", password = function() ngx.sleep(0.001) return password end, timeout_ms = 15000 %s },
} }
]]

local SERVER = [[
location = /mail { content_by_lua_block {
  local mail, message = pools.directory:with(function(directory)
    local found, message = directory:search { base = "dc=example", where = { uid = ngx.var.arg_uid }, attributes = { "mail" } }
    if not found then return nil, message end
    return found[1] and found[1].mail[1] or "nobody"
  end)
  ngx.print(mail or message)
} }
location = /whoami { content_by_lua_block {
  local who, message = pools.directory:with(function(directory) return directory:whoami() end)
  ngx.print(who or message)
} }
location = /login { content_by_lua_block {
  local ok, message = pools.directory:with(function(directory)
    return directory:verify("uid=" .. ngx.var.arg_uid .. ",dc=example", ngx.var.arg_password)
  end)
  ngx.print(tostring(ok), " ", tostring(message))
} }
location = /renew { content_by_lua_block {
  password = passwords[ngx.var.arg_to]
  pools.directory:renew { over_ms = 0 }
  ngx.print "renewed"
} }
location = /numbers { content_by_lua_block {
  local stats = pools.directory:stats()
  ngx.print(stats.opened, " opened, ", stats.dead_backends, " dead, ", stats.idle, " idle, ", tostring(pools.directory:last_error()))
} }
location = /status { content_by_lua_block { require("cueball.monitor").serve() } }
]]

describe("an LDAP connection in nginx", function()
  local one, directory

  before_each(function()
    directory = slapd.start { port = free_port(), users = { app = "SESAMEAPP", ann = "secret", bob = "hisown" } }
  end)
  after_each(function()
    if one then one:stop() one = nil end
    directory:stop()
  end)

  local function start(backends, more)
    for index, backend in ipairs(backends) do backends[index] = ("%q"):format(backend) end
    one = nginx.start {
      files = {
        ["my_pools.lua"] = POOLS:format(table.concat(backends, ", "), more or ""), ["ldap.lua"] = shell.text_of "examples/support/ldap.lua",
      },
      log_level = "debug", server = SERVER, http = "lua_shared_dict cueball 1m;\ninit_worker_by_lua_block { pools = require 'my_pools' }\n"
        .. ("lua_ssl_trusted_certificate %s;\n"):format(certificates.ca.cert),
    }
  end

  local function until_numbers(text)
    until_true(function() return one:ask "/numbers":find(text, 1, true) end, function() return one:ask "/numbers" end)
  end

  for how, address in pairs { ["over TCP"] = "address", ["over a UNIX socket"] = "socket" } do
    it("is bound once, and used by request after request, " .. how, function()
      start { directory[address] }
      until_numbers "2 idle"
      nginx.many(50, 4, function(index)
        local uid = index % 2 == 0 and "ann" or "bob"
        assert.equal(uid .. "@example.org", one:ask("/mail?uid=" .. uid))
      end)
      assert.equal("true nil", one:ask "/login?uid=ann&password=secret")
      assert.equal("false bind: invalidCredentials (49)", one:ask "/login?uid=ann&password=guessed")
      assert.equal("dn:uid=app,dc=example", one:ask "/whoami")
      assert.equal("2 opened, 0 dead, 2 idle, nil", one:ask "/numbers")
    end)
  end

  for how, options in pairs { ldaps = "tls = true", StartTLS = "starttls = true" } do
    it("speaks TLS, and is parked: " .. how, function()
      directory:stop()
      directory = slapd.start {
        port = free_port(), tls_port = free_port(), users = { app = "SESAMEAPP", ann = "secret" },
        tls = { certificate = certificates.good.cert, key = certificates.good.key, ca = certificates.ca.cert },
      }
      start({ how == "ldaps" and "127.0.0.1:" .. directory.tls_port or directory.address }, ", " .. options)
      until_numbers "2 idle"
      for _ = 1, 10 do assert.equal("ann@example.org", one:ask "/mail?uid=ann") end
      assert.equal("2 opened, 0 dead, 2 idle, nil", one:ask "/numbers")
    end)
  end

  it("is opened anew where the server was started again, and tells of one that is away", function()
    start { directory.address }
    assert.equal("ann@example.org", one:ask "/mail?uid=ann")
    directory:kill()
    directory:start_again()
    assert.equal("ann@example.org", one:ask "/mail?uid=ann")
    directory:kill()
    until_true(function() return one:ask "/mail?uid=ann":find "has failed: dead: " end)
    assert.matches("connection refused", one:ask "/numbers")
    directory:start_again()
    until_true(function() return one:ask "/mail?uid=ann" == "ann@example.org" end)
  end)

  it("follows a password that was changed, and shows none", function()
    start { directory.socket }
    until_numbers "2 opened"
    local command = ("ldappasswd -x -H ldap://%s -D '%s' -w '%s' -s '%s' '%s'"):format(directory.address, slapd.ADMINISTRATOR.dn,
      slapd.ADMINISTRATOR.password, "SESAMENEW", "uid=app,dc=example")
    assert.equal(0, os.execute(command))
    one:ask "/renew?to=new"
    until_numbers "4 opened, 0 dead, 2 idle, nil"
    assert.equal("dn:uid=app,dc=example", one:ask "/whoami")
    one:ask "/renew?to=wrong"
    until_numbers "bind: invalidCredentials (49)"
    local shown = one:log() .. one:ask "/status" .. one:ask "/status?format=openmetrics" .. one:ask "/numbers" .. one:ask "/whoami"
    assert.is_truthy(shown:find("invalidCredentials", 1, true))
    assert.is_nil(shown:find("SESAME", 1, true), shown)
  end)
end)
