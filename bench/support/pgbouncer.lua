--- A pgbouncer in front of a PostgreSQL server, for benches (Debian: apt install pgbouncer).
--
--   local pgbouncer = require "bench.support.pgbouncer"
--   pgbouncer.is_there()
--   local one = pgbouncer.start(server, "transaction", 10)    of spec.support.postgres; pool_mode; connections to the server
--   one.port, one.pid; one.user, as whom it logs in; one:stop()
local uv = require "luv"
local free_port = require("spec.support.port").free
local shell = require "spec.support.shell"
local until_true = require "spec.support.until_true"

local pgbouncer = {}

local CONF = [[
[databases]
postgres = host=127.0.0.1 port=%d dbname=postgres user=bouncer_%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = %s
default_pool_size = %d
max_client_conn = 2000
log_connections = 0
log_disconnections = 0
ignore_startup_parameters = extra_float_digits
]]

function pgbouncer.is_there()
  return uv.fs_stat "/usr/sbin/pgbouncer" ~= nil
end

local Bouncer = {}
Bouncer.__index = Bouncer

function Bouncer:stop()
  if not self.has_exited then uv.kill(self.pid, "sigkill") end
  until_true(function() return self.has_exited end)
  shell.must("rm -rf " .. shell.quote(self.folder))
end

local function answers(port)
  local _, status = shell.run(("psql -X -h 127.0.0.1 -p %d -U postgres -c 'select 1' postgres"):format(port))
  return status == 0
end

function pgbouncer.start(server, mode, size)
  server:sql(("create role bouncer_%s login superuser"):format(mode))
  local folder = assert(uv.fs_mkdtemp "/tmp/cueball-bouncer-XXXXXX")
  uv.fs_chmod(folder, 493)
  local self = setmetatable({ folder = folder, port = free_port(), user = "bouncer_" .. mode, has_exited = false }, Bouncer)
  shell.write(folder .. "/pgbouncer.ini", CONF:format(server.port, mode, self.port, mode, size))
  -- It refuses to run as root.
  local command = uv.getuid() == 0 and { "setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups" } or {}
  command[#command + 1], command[#command + 2], command[#command + 3] = "/usr/sbin/pgbouncer", "-q", folder .. "/pgbouncer.ini"
  self.handle, self.pid = uv.spawn(table.remove(command, 1), { args = command }, function()
    self.has_exited = true
    self.handle:close()
  end)
  assert(self.handle, self.pid)
  self.handle:unref()
  until_true(function() return self.has_exited or answers(self.port) end)
  assert(not self.has_exited, "pgbouncer ended at once")
  return self
end

return pgbouncer
