--- Real PostgreSQL servers for specs, each with data, a port of loopback and a UNIX socket of its own, all below one temporary directory.
--
--   local postgres = require "spec.support.postgres"
--   after_each(postgres.remove_all)                 kills what was started, and forgets it
--   local one = postgres.start {                    every member may be left out
--     settings = { max_connections = 20 },          into postgresql.conf; strings are quoted
--     hba = { "host all all 127.0.0.1/32 scram-sha-256" },      pg_hba.conf; else everybody is trusted
--     ssl = { cert_file =, key_file =, ca_file =, crl_file = },  copied to where the server may read them
--     sql = "create role ann login password 'x'",   run once it is up
--   }
--   one.port, one.backend ("127.0.0.1:PORT"), one.socket_dir, one.socket (the UNIX socket's path), one.pid, one.data
--   one:sql(text, database) → what psql prints, columns separated by |; raises if it fails. As superuser postgres, over the UNIX socket
--   one:terminate(where)          its sessions for which this holds; they have ended then
--   one:connections(where) → how many clients it has, not counting those of :sql; where: more of a condition on pg_stat_activity
--   one:stop(how)           "fast", "smart" or "immediate"; waits.  one:start(), one:restart(how): on the same port
--   one:kill()              SIGKILL to all its processes; waits.    one:freeze(), one:thaw(): SIGSTOP and wait, SIGCONT
--   one:configure(settings, hba)    changes either, and reloads
--   one:promote()           a standby becomes a primary;  one:is_standby()
--   one:follow(primary)     its data are thrown away and copied anew from that server, of which it is a standby from then on
--   one:log(), one:remove()
--   local two = postgres.standby_of(one, options)   streams from it, and has what it had
--
-- The server refuses to run as root: then it runs as user postgres, whom Debian's package makes. Specs that end without stopping it, or are
-- killed, leave nothing: a shell that waits for the end of this process ends what runs in the temporary directory, and removes that.
local uv = require "luv"
local free_port = require("spec.support.port").free
local shell = require "spec.support.shell"
local stand_still = require "spec.support.stand_still"
local until_true = require "spec.support.until_true"

local postgres = {}

local quote = shell.quote
local APPLICATION = "cueball_spec"
local COMMAND_LIMIT_S = 300 -- initdb takes more than a minute on a machine that is busy

-- Without forced writes to the disk, and small.
local SETTINGS = {
  fsync = false, full_page_writes = false, shared_buffers = "16MB", autovacuum = false, jit = false, max_logical_replication_workers = 0,
  listen_addresses = "127.0.0.1", wal_keep_size = "64MB", wal_retrieve_retry_interval = "100ms", log_timezone = "UTC", timezone = "UTC",
}
local HBA = { "local all all trust", "host all all 127.0.0.1/32 trust", "host all all ::1/128 trust" }
-- These come first, so that :sql and standbys are let in whatever a spec wants of others.
local OWN_HBA = { "local all postgres trust", "local replication postgres trust" }

local SSL_FILES = { cert_file = "ssl_cert_file", key_file = "ssl_key_file", ca_file = "ssl_ca_file", crl_file = "ssl_crl_file" }

-- Where the programs are: the newest version.
local function find_programs()
  local best, best_version
  local folders = io.popen "ls -d /usr/lib/postgresql/*/bin 2>/dev/null"
  for folder in folders:lines() do
    local version = tonumber(folder:match "/(%d+)/bin$")
    if version and version > (best_version or 0) and uv.fs_stat(folder .. "/postgres") then best, best_version = folder, version end
  end
  folders:close()
  return best, best_version
end

local PROGRAMS, VERSION = find_programs()
postgres.version = VERSION

--- Is it installed? Else specs that need it are pending.
function postgres.is_there()
  return PROGRAMS ~= nil
end

-- Ends what works below the directory, and removes it, when its standard input ends: with this process.
local JANITOR = [[exec >/dev/null 2>&1; trap '' INT TERM HUP; cat; cd /
for turn in 1 2 3 4 5 6 7 8 9 10; do
  pids=$(ls -ld /proc/[0-9]*/cwd | sed -n 's,^.*/proc/\([0-9]*\)/cwd -> DIR/.*,\1,p')
  [ -z "$pids" ] || kill -KILL $pids
  rm -rf DIR && break
  sleep 0.2
done]]

-- What lasts as long as the process: busted loads this file anew for each file of specs.
local registry = debug.getregistry()
local shared = registry["cueball.spec.postgres"] or { servers = {}, count = 0 }
registry["cueball.spec.postgres"] = shared

local USER = uv.getuid() == 0 and "setpriv --reuid postgres --regid postgres --init-groups " or ""

-- Runs one of PostgreSQL's programs with none of this process's environment, as the servers' user → what it wrote.
local function run(program, arguments)
  return shell.must(("cd %s && timeout %d %senv -i LC_ALL=C PATH=/usr/bin:/bin PGAPPNAME=%s PGCONNECT_TIMEOUT=20 %s/%s %s"):format(
    shared.folder, COMMAND_LIMIT_S, USER, APPLICATION, PROGRAMS, program, arguments))
end

-- A file or folder, without what is in it. No command is run: that takes long on a busy machine, and blocks the loop.
local function give_to_server(path)
  if USER == "" then return end
  shared.uid = shared.uid or tonumber(shell.must "id -u postgres")
  shared.gid = shared.gid or tonumber(shell.must "id -g postgres")
  assert(uv.fs_chown(path, shared.uid, shared.gid))
end

-- One empty cluster for the process, of which each server gets a copy.
local function prepare()
  if shared.folder then return end
  assert(PROGRAMS, "PostgreSQL is not installed: apt install postgresql")
  local folder = assert(uv.fs_mkdtemp "/tmp/cueball-pg-XXXXXX")
  uv.fs_chmod(folder, 493)
  -- "e": closed in the programs that this process starts.
  shared.janitor = assert(io.popen((JANITOR:gsub("DIR", folder)), "we"))
  shared.folder = folder
  give_to_server(folder)
  run("initdb", ("-D %s/empty -U postgres -A trust -E UTF8 --locale=C --no-sync --no-instructions --wal-segsize=1"):format(folder))
end

local Server = {}
Server.__index = Server

local function write(self, name, text)
  local path = self.data .. "/" .. name
  shell.write(path, text)
  uv.fs_chmod(path, 384)
  give_to_server(path)
  return path
end

local function write_settings(self)
  local lines = {}
  for name, value in pairs(self.settings) do
    if value == true or value == false then value = value and "on" or "off" end
    lines[#lines + 1] = ("%s = '%s'"):format(name, tostring(value):gsub("'", "''"))
  end
  table.sort(lines)
  write(self, "postgresql.conf", table.concat(lines, "\n") .. "\n")
  write(self, "pg_hba.conf", table.concat(OWN_HBA, "\n") .. "\n" .. table.concat(self.hba, "\n") .. "\n")
end

-- The server wants its key readable for nobody else, so the files are copied.
local function take_certificates(self, ssl)
  if not ssl then return end
  self.settings.ssl = true
  for member, setting in pairs(SSL_FILES) do
    if ssl[member] then
      write(self, setting, shell.read(ssl[member]))
      self.settings[setting] = setting
    end
  end
end

function Server:log()
  local ok, text = pcall(shell.read, self.folder .. "/log")
  return ok and text or ""
end

local function log_end(self)
  return self:log():sub(-3000)
end

-- "ready", "standby" or another state, as the server writes it down for pg_ctl; nil before.
local function state_of(self)
  local ok, text = pcall(shell.read, self.data .. "/postmaster.pid")
  if not ok then return end
  local lines = {}
  for line in text:gmatch "[^\n]*" do
    if line ~= "" then lines[#lines + 1] = line end
  end
  if tonumber(lines[1]) == self.pid then return (lines[#lines]:match "^%l+") end
end

--- Starts it, again, on the same port, and waits until it takes clients.
function Server:start()
  assert(self.has_exited, "the server runs already")
  write_settings(self)
  self.has_exited = false
  local out = assert(uv.fs_open(self.folder .. "/log", "a", 420))
  local words = {}
  for word in (USER .. PROGRAMS .. "/postgres"):gmatch "%S+" do words[#words + 1] = word end
  words[#words + 1], words[#words + 2] = "-D", self.data
  self.handle, self.pid = uv.spawn(table.remove(words, 1), {
    args = words, stdio = { nil, out, out }, cwd = self.folder, env = { "LC_ALL=C", "PATH=/usr/bin:/bin" },
  }, function()
    self.has_exited = true
    self.handle:close()
  end)
  uv.fs_close(out)
  assert(self.handle, self.pid)
  self.handle:unref()
  until_true(function()
    if self.has_exited then error("PostgreSQL ended:\n" .. log_end(self), 0) end
    local state = state_of(self)
    return state == "ready" or state == "standby"
  end, function() return log_end(self) end)
end

function Server:sql(text, database)
  return run("psql", ("-X -A -t -q -v ON_ERROR_STOP=1 -h %s -p %d -U postgres -d %s -c %s"):format(
    self.socket_dir, self.port, quote(database or "postgres"), quote(text)))
end

-- The server ends a session when it next looks; what is asked for is over only then.
function Server:terminate(where)
  self:sql("select pg_terminate_backend(pid, 30000) from pg_stat_activity where backend_type = 'client backend' and " .. where)
end

function Server:connections(where)
  return tonumber(self:sql(("select count(*) from pg_stat_activity where backend_type = 'client backend' "
    .. "and application_name <> '%s' and (%s)"):format(APPLICATION, where or "true")))
end

-- The postmaster and all its processes: each of those is a child of it.
local function processes(self)
  local list = { self.pid }
  local ok, text = pcall(shell.read, ("/proc/%d/task/%d/children"):format(self.pid, self.pid))
  for pid in (ok and text or ""):gmatch "%d+" do list[#list + 1] = tonumber(pid) end
  return list
end

-- A process that nobody has waited for yet counts as ended.
local function is_running(pid)
  local ok, text = pcall(shell.read, ("/proc/%d/stat"):format(pid))
  return ok and text:match "^.*%) (%a)" ~= "Z"
end

local function wait_for_end(self, pids)
  until_true(function()
    if not self.has_exited then return false end
    for _, pid in ipairs(pids) do
      if is_running(pid) then return false end
    end
    return true
  end, function() return "PostgreSQL does not end:\n" .. log_end(self) end)
end

local function signal_all(pids, name)
  for _, pid in ipairs(pids) do uv.kill(pid, name) end
end

function Server:freeze()
  -- The postmaster first: then no process is added.
  stand_still { self.pid }
  stand_still(processes(self))
end

function Server:thaw()
  local pids = processes(self)
  for index = #pids, 1, -1 do uv.kill(pids[index], "sigcont") end
end

local SIGNALS = { fast = "sigint", smart = "sigterm", immediate = "sigquit" }

function Server:stop(how)
  if self.has_exited then return end
  local pids = processes(self)
  self:thaw()
  uv.kill(self.pid, assert(SIGNALS[how or "fast"], "fast, smart or immediate"))
  wait_for_end(self, pids)
end

function Server:kill()
  if self.has_exited then return end
  self:freeze()
  local pids = processes(self)
  signal_all(pids, "sigkill")
  wait_for_end(self, pids)
end

function Server:restart(how)
  self:stop(how)
  self:start()
end

function Server:configure(settings, hba)
  for name, value in pairs(settings or {}) do self.settings[name] = value end
  self.hba = hba or self.hba
  self.settings["cueball.generation"] = (self.settings["cueball.generation"] or 0) + 1
  write_settings(self)
  uv.kill(self.pid, "sighup")
  -- Sessions that begin once the postmaster has read it have it; this one is such a session.
  until_true(function()
    return self:sql "select current_setting('cueball.generation', true)" == tostring(self.settings["cueball.generation"])
  end, function() return log_end(self) end)
end

function Server:is_standby()
  return self:sql "select pg_is_in_recovery()" == "t"
end

function Server:promote()
  assert(self:sql "select pg_promote(true, 30)" == "t", "not promoted")
end

-- Its data become a copy of the primary's.
local function copy_from(self, primary)
  shell.must("rm -rf " .. quote(self.data))
  run("pg_basebackup", ("-D %s -R -X stream -c fast --no-sync -h %s -p %d -U postgres"):format(self.data, primary.socket_dir, primary.port))
end

local function wait_until_streaming(self, primary)
  local wanted = primary:sql "select pg_current_wal_lsn()"
  until_true(function()
    return self:sql(("select exists (select from pg_stat_wal_receiver where status = 'streaming') and "
      .. "coalesce(pg_last_wal_replay_lsn() >= '%s', false)"):format(wanted)) == "t"
  end, function() return log_end(self) end)
end

function Server:follow(primary)
  self:stop "immediate"
  copy_from(self, primary)
  self:start()
  wait_until_streaming(self, primary)
end

function Server:remove()
  self:kill()
  shell.must("rm -rf " .. quote(self.folder))
  for index, server in ipairs(shared.servers) do
    if server == self then table.remove(shared.servers, index) end
  end
end

function postgres.remove_all()
  while shared.servers[1] do shared.servers[#shared.servers]:remove() end
end

local function new_server(options)
  prepare()
  shared.count = shared.count + 1
  local port, folder = free_port(), ("%s/%d"):format(shared.folder, shared.count)
  assert(uv.fs_mkdir(folder, 493))
  give_to_server(folder)
  local self = setmetatable({
    port = port, backend = "127.0.0.1:" .. port, folder = folder, data = folder .. "/data", has_exited = true,
    socket_dir = folder, socket = ("%s/.s.PGSQL.%d"):format(folder, port), settings = {}, hba = options.hba or HBA,
  }, Server)
  for _, settings in ipairs { SETTINGS, { port = port, unix_socket_directories = folder }, options.settings or {} } do
    for name, value in pairs(settings) do self.settings[name] = value end
  end
  shared.servers[#shared.servers + 1] = self
  return self
end

function postgres.start(options)
  options = options or {}
  local self = new_server(options)
  shell.must(("cp -a %s/empty %s"):format(shared.folder, self.data))
  take_certificates(self, options.ssl)
  self:start()
  if options.sql then self:sql(options.sql) end
  return self
end

--- A standby of a running server.
-- @param options as for postgres.start, without sql; what is left out is as in the primary
function postgres.standby_of(primary, options)
  options = options or {}
  local self = new_server { hba = options.hba or primary.hba }
  for _, settings in ipairs { primary.settings, { port = self.port, unix_socket_directories = self.folder }, options.settings or {} } do
    for name, value in pairs(settings) do self.settings[name] = value end
  end
  copy_from(self, primary)
  take_certificates(self, options.ssl)
  self:start()
  wait_until_streaming(self, primary)
  return self
end

return postgres
