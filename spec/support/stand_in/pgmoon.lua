--- Stands for pgmoon (github.com/leafo/pgmoon, MIT), which Debian does not have: as much of it as cueball.connection.postgres.pgmoon needs,
-- which is a login in clear text or by md5. Written for the specs; they run with pgmoon itself where CUEBALL_PGMOON names a folder that has
-- pgmoon/init.lua.
--
-- As pgmoon it is loaded with an `ngx` in sight, and makes a socket of its own, which cueball replaces.
local pgmoon = { VERSION = "a stand-in" }

local Postgres = {}
Postgres.__index = Postgres

function pgmoon.new(config)
  return setmetatable({ config = config, sock = ngx.socket.tcp(), sock_type = "nginx" }, Postgres)
end

local function int32(number)
  return string.char(0, 0, math.floor(number / 256) % 256, number % 256)
end

local function send_password(self, password)
  return self.sock:send { "p", int32(#password + 5), password, "\0" }
end

local AUTH = {}

AUTH["\3"] = function(self)
  return send_password(self, assert(self.config.password, "the server asks for a password"))
end

AUTH["\5"] = function(self, body)
  local config = self.config
  assert(config.password, "the server asks for a password")
  return send_password(self, "md5" .. ngx.md5(ngx.md5(config.password .. config.user) .. body:sub(5, 8)))
end

-- "luaossl" is what pgmoon's message has, too.
AUTH["\10"] = function() error "neither luaossl nor resty.openssl is here" end

function Postgres:auth()
  while true do
    local letter, body = self:receive_message()
    if not letter then return nil, body end
    if letter == "E" then return nil, "refused" end
    assert(letter == "R", "unexpected message during auth")
    local kind = body:sub(4, 4)
    if kind == "\0" then return true end
    local ok, message = AUTH[kind](self, body)
    if not ok then return nil, message end
  end
end

function Postgres:wait_until_ready()
  while true do
    local letter, body = self:receive_message()
    if not letter then return nil, body end
    if letter == "E" then return nil, "refused" end
    if letter == "Z" then return true end
  end
end

function Postgres:connect()
  local ok, message = self.sock:connect(self.config.host, self.config.port)
  if ok and self.sock:getreusedtimes() == 0 then
    if self.config.ssl then ok, message = self:send_ssl_message() end
    if ok then ok, message = self:send_startup_message() end
    if ok then ok, message = self:auth() end
    if ok then ok, message = self:wait_until_ready() end
  end
  if not ok then return nil, message end
  return true
end

return pgmoon
