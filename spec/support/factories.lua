--- Connection factories, each with a real server, for specs that try them all, on libuv and in nginx: spec/connection/secrecy_spec.lua,
-- spec/connection/unix_spec.lua and those of the same names in spec/nginx/. Every secret has SESAME in it.
--
--   local case = require("spec.support.factories").all().redis
--     local server = case.start()       backend ("127.0.0.1:PORT"), socket ("unix:/PATH"), stop(); kill(), start_again()
--     case.factory                      a Lua text: function(options) → a factory
--     case.right, case.wrong            Lua texts: its options, with secrets that the server takes, or does not; wrong: nil, if it has none
--     case.use                          a Lua text: function(connection) → what it says, without any SESAME
--     case.answer                       what that is
--     case.refusal                      what the error says of a wrong secret
--     case.options                      a Lua text: function(password) → its options
--     case.change(server, password)     gives the user of case.right another password; both nil, if it has none
--     case.secret_options               options that are secrets, for mistakes in them; nil: the factory checks none
local uv = require "luv"
local host = require "cueball.host.uv"
local postgres = require "spec.support.postgres"
local redis = require "spec.support.redis"
local shell = require "spec.support.shell"
local slapd = require "examples.support.slapd"
local free_port = require("spec.support.port").free
local until_true = require "spec.support.until_true"

local factories, cases = {}, {}

local PGMOON = os.getenv "CUEBALL_PGMOON" or shell.root .. "/spec/support/stand_in"

cases.redis = {
  start = function()
    local folder = assert(uv.fs_mkdtemp "/tmp/cueball-redis-XXXXXX")
    local one = redis.start { "--unixsocket " .. folder .. "/socket", password = "SESAMEROOT" }
    local kill, start_again = one.stop, one.start_again
    local function add_user()
      one:call("ACL", "SETUSER", "SESAMEUSER", "on", ">SESAMERIGHT", "~*", "+@all")
    end
    one.socket, one.kill = "unix:" .. folder .. "/socket", kill
    function one.start_again(self)
      start_again(self)
      add_user()
    end
    function one.stop(self)
      kill(self)
      os.execute("rm -rf " .. folder)
    end
    add_user()
    return one
  end,
  factory = [[require("cueball").connection.redis]],
  right = [[{ username = "SESAMEUSER", password = function() return "SESAMERIGHT" end }]],
  wrong = [[{ username = function() return "SESAMEUSER" end, password = "SESAMEWRONG" }]],
  options = [[function(password) return { username = "SESAMEUSER", password = password } end]],
  change = function(server, password) server:call("ACL", "SETUSER", "SESAMEUSER", "resetpass", ">" .. password) end,
  use = [[function(red) return red:ping() end]],
  answer = "PONG",
  refusal = "auth: WRONGPASS",
  secret_options = { "username", "password" },
}

cases.ldap = {
  start = function()
    local one = slapd.start { port = free_port(), users = { app = "SESAMERIGHT" } }
    one.backend = one.address
    return one
  end,
  factory = [[require "examples.support.ldap"]],
  right = [[{ dn = "uid=app,dc=example", password = "SESAMERIGHT", timeout_ms = 20000 }]],
  wrong = [[{ dn = "uid=app,dc=example", password = function() return "SESAMEWRONG" end }]],
  options = [[function(password) return { dn = "uid=app,dc=example", password = password, timeout_ms = 20000 } end]],
  change = function(server, password)
    shell.must(("ldappasswd -x -H ldap://%s -D '%s' -w '%s' -s '%s' uid=app,dc=example"):format(server.address, slapd.ADMINISTRATOR.dn,
      slapd.ADMINISTRATOR.password, password))
  end,
  use = [[function(directory) return directory:whoami() end]],
  answer = "dn:uid=app,dc=example",
  refusal = "bind: invalidCredentials",
}

-- memcached listens either at a port or at a path: two processes.
local Memcached = {}
Memcached.__index = Memcached

function Memcached:launch(name, ...)
  local words, record = { ... }, { is_over = false, pid = nil }
  if uv.getuid() == 0 then words[#words + 1] = "-uroot" end
  local handle, pid
  handle, pid = uv.spawn("memcached", { args = words, stdio = { nil, nil, 2 } }, function()
    record.is_over = true
    handle:close()
  end)
  assert(handle, pid)
  handle:unref()
  record.pid = pid
  self[name] = record
end

local function answers(...)
  local socket = host.tcp()
  local ok = socket:connect(...)
  socket:close()
  return ok
end

function Memcached:start_again()
  self:launch("at_port", "-l", "127.0.0.1", "-p", tostring(self.port), "-U0")
  self:launch("at_path", "-s", self.folder .. "/socket")
  until_true(function()
    return host.run(function() return answers("127.0.0.1", self.port) and answers(self.socket) end)
  end)
end

function Memcached:kill()
  for _, record in ipairs { self.at_port, self.at_path } do
    if not record.is_over then uv.kill(record.pid, "sigkill") end
    until_true(function() return record.is_over end)
  end
end

function Memcached:stop()
  self:kill()
  os.execute("rm -rf '" .. self.folder .. "'")
end

cases.tcp = {
  start = function()
    local folder = assert(uv.fs_mkdtemp "/tmp/cueball s\195\182cket-XXXXXX") -- a blank, and a letter that is no ASCII
    local port = free_port()
    local one = setmetatable({ folder = folder, port = port, backend = "127.0.0.1:" .. port }, Memcached)
    one.socket = "unix:" .. folder .. "/socket"
    one:start_again()
    return one
  end,
  factory = [[require("cueball").connection.tcp]],
  right = [[{ read_timeout_ms = 20000 }]],
  use = [[function(socket)
    local ok, message = socket:send "verbosity 0\r\n"
    if not ok then return nil, message end
    return socket:receive "*l"
  end]],
  answer = "OK",
}

cases.resty = {
  start = cases.tcp.start,
  factory = [[require("cueball").connection.resty]],
  right = [[{ module = "resty.memcached" }]],
  use = [[function(client)
    local ok, message = client:set("key", "value")
    if not ok then return nil, message end
    return (client:get "key")
  end]],
  answer = "value",
}

-- The login of a library's client, in `setup`.
local SETUP = [[{ module = "resty.redis", setup = function(client, _, context)
  local password, message = context.secret("password", %s)
  if not password then return nil, message end
  return client:auth("SESAMEUSER", password)
end }]]

cases.setup = {
  start = cases.redis.start,
  factory = cases.resty.factory,
  right = SETUP:format [["SESAMERIGHT"]],
  wrong = SETUP:format [[function() return "SESAMEWRONG" end]],
  use = cases.redis.use,
  answer = cases.redis.answer,
  refusal = "WRONGPASS",
}

local function start_postgres(method, sql)
  local one = postgres.start { hba = { "local all all " .. method, "host all all 127.0.0.1/32 " .. method }, sql = sql }
  one.path, one.start_again, one.stop = one.socket, one.start, one.remove
  one.socket = "unix:" .. one.path
  return one
end

cases.postgres = {
  is_of_libuv = true,
  start = function() return start_postgres("scram-sha-256", "create role app login password 'SESAMERIGHT'") end,
  factory = [[require("cueball").connection.postgres]],
  right = [[{ user = "app", password = "SESAMERIGHT", dbname = "postgres" }]],
  wrong = [[{ user = "app", password = function() return "SESAMEWRONG" end, dbname = "postgres" }]],
  options = [[function(password) return { user = "app", password = password, dbname = "postgres" } end]],
  change = function(server, password) server:sql(("alter role app password '%s'"):format(password)) end,
  use = [[function(conn)
    local rows, message = conn:query("select $1::text as word", "hello")
    if not rows then return nil, message end
    return rows[1].word
  end]],
  answer = "hello",
  refusal = 'password authentication failed for user "app"',
  secret_options = { "password", "sslpassword" },
}

-- The same in nginx, over pgmoon or what stands in for its login.
cases.pgmoon = {
  is_of_nginx = true,
  start = function()
    return start_postgres("md5", "set password_encryption = md5; create role app login password 'SESAMERIGHT'")
  end,
  factory = cases.postgres.factory,
  right = [[{ user = "app", password = "SESAMERIGHT", dbname = "postgres", sslmode = "disable" }]],
  wrong = [[{ user = "app", password = function() return "SESAMEWRONG" end, dbname = "postgres", sslmode = "disable" }]],
  use = cases.postgres.use,
  answer = cases.postgres.answer,
  refusal = cases.postgres.refusal,
}

-- What keeps no secret of its own, and is none of the above: a key that is no key.
cases.key = {
  is_of_libuv = true, -- in nginx the key is nginx.conf's
  start = cases.tcp.start,
  factory = cases.tcp.factory,
  wrong = [[{ tls = { verify = false, cert = "-----BEGIN CERTIFICATE-----\nSESAME\n-----END CERTIFICATE-----\n", key = function()
    return "-----BEGIN PRIVATE KEY-----\nSESAMEKEY\n-----END PRIVATE KEY-----\n"
  end } }]],
  refusal = "TLS: ",
  secret_options = { "tls" },
}

local function those_with(field, in_nginx)
  local list = {}
  for name, case in pairs(cases) do
    local is_there = not (in_nginx and case.is_of_libuv or not in_nginx and case.is_of_nginx)
    if case[field] and is_there then list[name] = case end
  end
  return list
end

--- Where else Lua modules are for factories in nginx: for package.path.
factories.PATHS = (";%s/?.lua;%s/?.lua;%s/?/init.lua"):format(shell.root, PGMOON, PGMOON)

--- Those that serve, by name.
-- @param in_nginx those that do in nginx
function factories.all(in_nginx)
  return those_with("right", in_nginx)
end

--- Those that have secrets.
function factories.with_secrets(in_nginx)
  return those_with("wrong", in_nginx)
end

return factories
