--- Real LDAP servers (OpenLDAP's slapd; Debian: apt install slapd), each a process in a folder of its own, which goes with it.
--
--   local slapd = require "examples.support.slapd"
--   local one = slapd.start()        waits until it listens, in a task or outside of any
--     users    = { ann = "her password" }    uid=ann,dc=example with mail ann@example.org; the administrator is slapd.ADMINISTRATOR
--     tls      = { certificate =, key =, ca = }  files: it has StartTLS then, and listens for ldaps:// at one.tls_port
--     settings = more lines of slapd.conf, of the database
--     port, tls_port                         by default any that are free
--   one.address ("127.0.0.1:PORT"), one.port, one.socket ("unix:/…/ldapi"), one.pid
--   one:kill(), one:pause(), one:go_on()     SIGKILL and wait, SIGSTOP, SIGCONT
--   one:start_again()                        at the same addresses, with the same data
--   one:stop()                               SIGKILL, and its folder is removed
--   slapd.is_there()                         is it installed?
--
-- A server ends with the program that started it, however that ends, and its folder goes: the shell around it sees the end of its stdin.
local cueball = require "cueball"
local free_port = require "examples.support.port"
local uv = require "luv"
local unpack = unpack

local slapd = {}

slapd.ADMINISTRATOR = { dn = "cn=admin,dc=example", password = "administrator" }

local PROGRAMS = { "/usr/sbin/slapd", "/usr/local/libexec/slapd", "/usr/libexec/slapd" }
local SCHEMAS = { "/etc/ldap/schema", "/usr/local/etc/openldap/schema", "/etc/openldap/schema" }
local LIMIT_MS = 60000

local CONF = [[
include %(schema)/core.schema
include %(schema)/cosine.schema
include %(schema)/inetorgperson.schema
pidfile %(folder)/slapd.pid
%(tls)
database ldif
suffix dc=example
rootdn %(dn)
rootpw %(password)
directory %(folder)/entries
access to attrs=userPassword by anonymous auth by self write
access to * by users read by anonymous read
%(settings)
]]

local GUARD = [[
exec 3<&0
"$@" & pid=$!
echo $pid
{ read -r _ <&3; : > "$0/over"; kill -9 $pid; } 2>/dev/null &
wait $pid
[ ! -e "$0/over" ] || rm -rf "$0"
kill -9 $! 2>/dev/null
]]

local Server = {}
Server.__index = Server

local function first_of(paths, mode)
  for _, path in ipairs(paths) do
    if uv.fs_access(path, mode) then return path end
  end
  return nil
end

local function program() return first_of(PROGRAMS, "x") end

function slapd.is_there()
  return program() ~= nil
end

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  assert(file:write(text))
  file:close()
end

-- Calls fn again and again until it returns something.
local function until_true(what, fn)
  local host = cueball.host()
  local give_up = host.now() + LIMIT_MS * 1e6
  while true do
    local result = fn()
    if result then return result end
    if host.now() > give_up then error(("slapd: it did not come true in %d s: %s"):format(LIMIT_MS / 1000, what), 0) end
    host.run(host.sleep, 10)
  end
end

local function is_listening(port)
  local host = cueball.host()
  return host.run(function()
    local socket = host.tcp()
    local ok = socket:connect("127.0.0.1", port)
    socket:close()
    return ok
  end)
end

local function ldif_of(users)
  local parts = { "dn: dc=example\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: example\n" }
  for name, password in pairs(users) do
    parts[#parts + 1] = ("dn: uid=%s,dc=example\nobjectClass: inetOrgPerson\nuid: %s\ncn: %s\nsn: %s\nmail: %s@example.org\n")
      :format(name, name, name, name, name) .. ("userPassword: %s\n"):format(password)
  end
  return table.concat(parts, "\n")
end

local function launch(self)
  local urls = { ("ldap://127.0.0.1:%d/"):format(self.port), "ldapi://" .. self.path:gsub("/", "%%2F") }
  if self.tls_port then urls[#urls + 1] = ("ldaps://127.0.0.1:%d/"):format(self.tls_port) end
  local stdin, stdout, text = uv.new_pipe(false), uv.new_pipe(false), ""
  local errors = assert(uv.fs_open(self.folder .. "/stderr", "w", 384))
  self.has_exited = false
  local words = { "-c", GUARD, self.folder, program(), "-d", "0", "-f", self.folder .. "/slapd.conf", "-h", table.concat(urls, " ") }
  local handle, message
  handle, message = uv.spawn("/bin/sh", { args = words, stdio = { stdin, stdout, errors }, detached = true }, function()
    self.has_exited = true
    for _, one in ipairs { handle, stdin, stdout } do
      if not one:is_closing() then one:close() end
    end
  end)
  uv.fs_close(errors)
  assert(handle, message)
  stdout:read_start(function(_, data) text = text .. (data or "") end)
  for _, one in ipairs { handle, stdin, stdout } do one:unref() end
  self.pid = until_true("it has started", function() return tonumber(text:match "^(%d+)\n") end)
  until_true("it listens", function()
    if self.has_exited then error("slapd ended at once: " .. assert(io.open(self.folder .. "/stderr")):read "*a", 0) end
    return is_listening(self.port)
  end)
end

local function wait_for_exit(self)
  until_true("it has ended", function() return self.has_exited end)
end

function Server:kill()
  if self.has_exited then return end
  uv.kill(self.pid, "sigkill")
  wait_for_exit(self)
end

function Server:pause() uv.kill(self.pid, "sigstop") end
function Server:go_on() uv.kill(self.pid, "sigcont") end

--- On the same ports; somebody else may hold them for a moment.
function Server:start_again()
  launch(self)
end

function Server:stop()
  self:kill()
  os.execute("rm -rf '" .. self.folder .. "'")
end

local function run(...)
  local code
  local handle, message = uv.spawn((...), { args = { select(2, ...) }, stdio = { nil, nil, 2 } }, function(status) code = status end)
  assert(handle, message)
  until_true((...) .. " is done", function() return code end)
  handle:close()
  assert(code == 0, (...) .. " failed")
end

--- @param given nil, or a table, see above
function slapd.start(given)
  given = given or {}
  local path = program() or error("slapd is not installed: apt install slapd", 0)
  local folder = assert(uv.fs_mkdtemp "/tmp/slapd-XXXXXX")
  local port = given.port or free_port()
  local self = setmetatable({
    folder = folder, port = port, address = "127.0.0.1:" .. port, path = folder .. "/ldapi", socket = "unix:" .. folder .. "/ldapi",
    tls_port = given.tls and (given.tls_port or free_port()) or nil,
  }, Server)
  assert(uv.fs_mkdir(folder .. "/entries", 448))
  local tls = given.tls and ("TLSCertificateFile %s\nTLSCertificateKeyFile %s\nTLSCACertificateFile %s\n")
    :format(given.tls.certificate, given.tls.key, given.tls.ca)
  local words = {
    folder = folder, schema = first_of(SCHEMAS, "r") or SCHEMAS[1], tls = tls or "", settings = given.settings or "",
    dn = slapd.ADMINISTRATOR.dn, password = slapd.ADMINISTRATOR.password,
  }
  write(folder .. "/slapd.conf", (CONF:gsub("%%%((%w+)%)", words)))
  write(folder .. "/entries.ldif", ldif_of(given.users or { ann = "her password" }))
  run(unpack { path, "-Ta", "-f", folder .. "/slapd.conf", "-l", folder .. "/entries.ldif" })
  launch(self)
  return self
end

return slapd
