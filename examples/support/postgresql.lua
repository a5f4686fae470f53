--- Real PostgreSQL servers for examples, each with data of its own (Debian: apt install postgresql). They end, and their data go, with the
-- program that started them, however that ends.
--
--   local postgresql = require "examples.support.postgresql"
--   postgresql.is_there()                is it installed?
--   local one = postgresql.start()       empty; user postgres needs no password
--   local two = postgresql.standby_of(one)   streams from it; what is committed on `one` is on `two` by then
--   one.address ("127.0.0.1:PORT"), one:kill()
local free_port = require "examples.support.port"
local uv = require "luv"

local postgresql = {}

local folder, janitor, programs -- of all servers; what removes the folder; where PostgreSQL's programs are
local count = 0

-- The server refuses to run as root.
local AS_USER = uv.getuid() == 0 and "setpriv --reuid postgres --regid postgres --init-groups " or ""

local JANITOR = [[exec >/dev/null 2>&1; trap '' INT TERM HUP; cat; cd /
for file in %s/*/data/postmaster.pid; do kill -9 $(head -n 1 "$file"); done; sleep 0.3; rm -rf %s]]

local function line_of(command)
  local pipe = assert(io.popen(command))
  local line = pipe:read "*l"
  pipe:close()
  return line
end

function postgresql.is_there()
  programs = programs or line_of "ls -d /usr/lib/postgresql/*/bin /usr/local/pgsql/bin 2>/dev/null | sort -V | tail -n 1"
  return programs ~= nil and uv.fs_access(programs .. "/postgres", "x") or false
end

-- With none of this program's environment: PGPORT and others would be obeyed, and a sanitizer's library be loaded into all of them.
local function run(command)
  local status = os.execute(("cd %s && %senv -i LC_ALL=C PATH=/usr/bin:/bin %s/%s >%s/output 2>&1"):format(
    folder, AS_USER, programs, command, folder))
  if status == 0 or status == true then return end
  local file = assert(io.open(folder .. "/output"))
  local output = file:read "*a"
  file:close()
  error(("%s: %s"):format(command:match "^%S+", output), 0)
end

local function prepare()
  if folder then return end
  assert(postgresql.is_there(), "PostgreSQL is not installed: apt install postgresql")
  folder = assert(uv.fs_mkdtemp "/tmp/cueball-example-XXXXXX")
  if AS_USER ~= "" then os.execute("chown postgres:postgres " .. folder) end
  janitor = assert(io.popen(JANITOR:format(folder, folder), "we")) -- its stdin ends with this program; "e": no server inherits it
end

local Server = {}
Server.__index = Server

local function new()
  prepare()
  count = count + 1
  local home, port = ("%s/%d"):format(folder, count), free_port()
  assert(os.execute(("%smkdir -m 700 %s"):format(AS_USER, home)))
  return setmetatable({ home = home, data = home .. "/data", port = port, address = "127.0.0.1:" .. port }, Server)
end

local function pid_of(self)
  return tonumber(line_of(("head -n 1 %s/postmaster.pid"):format(self.data)))
end

local function launch(self, settings)
  run(([[pg_ctl -D %s -l %s/log -w -o "-p %d -k %s -c listen_addresses=127.0.0.1 -c fsync=off %s" start]])
    :format(self.data, self.home, self.port, self.home, settings))
  self.pid = pid_of(self)
  return self
end

function postgresql.start()
  local self = new()
  run(("initdb -D %s -U postgres -A trust -E UTF8 --locale=C --no-sync"):format(self.data))
  return launch(self, "")
end

function postgresql.standby_of(primary)
  local self = new()
  run(("pg_basebackup -D %s -R -X stream -c fast --no-sync -h %s -p %d -U postgres"):format(self.data, primary.home, primary.port))
  launch(self, "-c wal_retrieve_retry_interval=100ms")
  -- From now on a commit waits for the standby: what was acknowledged is not lost with the primary. After a reload it would do so some
  -- time later.
  run(([[psql -X -q -h %s -p %d -U postgres -c "alter system set synchronous_standby_names = '*'"]]):format(primary.home, primary.port))
  run(("pg_ctl -D %s -l %s/log -m fast -w restart"):format(primary.data, primary.home))
  primary.pid = pid_of(primary)
  return self
end

--- SIGKILL, to all its processes.
function Server:kill()
  local pids = line_of(("cat /proc/%d/task/%d/children"):format(self.pid, self.pid)) or ""
  uv.kill(self.pid, "sigkill")
  for pid in pids:gmatch "%d+" do uv.kill(tonumber(pid), "sigkill") end
end

--- Ends all servers, and removes their data.
function postgresql.end_all()
  if janitor then janitor:close() end
  folder, janitor = nil, nil
end

return postgresql
