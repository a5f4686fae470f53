--- The real nginx of Debian, in a temporary directory and on a free port, for specs.
--
--   local nginx = require "spec.support.nginx"
--   local one = nginx.start {
--     http = "init_worker_by_lua_block { pools = require 'my_pools' }",   into http { }
--     server = "location /x { … }",                                       into server { }
--     main = "", events = "worker_connections 512;", workers = 1,
--     files = { ["my_pools.lua"] = "return …" },                          beside nginx.conf, found by require
--   }
--   under = { "valgrind", … }: what runs nginx
--   conf = "…" instead of http, server, main and events: a whole nginx.conf, with %(port) and the like as in CONF below
--   one.port, one.prefix, one.pid
--   one:get(path) → status, body        HTTP/1.0; waits in a task, or runs the loop until it is here
--   one:ask(path) → body                the same; raises if the status is not 200
--   one:signal "HUP"                    to the master; one:workers() → list of their pids
--   one:log() → text of error.log
--   one:stop()                          TERM, and waits; the directory is removed
--   nginx.many(count, width, fn), nginx.under_load(width, request, fn), nginx.until_true(fn, say): see there
--
-- Needs Debian's packages libnginx-mod-http-lua and lua-resty-core. Nothing runs in the background: what was started is stopped by its pid.
local uv = require "luv"
local host = require "cueball.host.uv"
local free_port = require("spec.support.port").free
local shell = require "spec.support.shell"
local until_true = require "spec.support.until_true"

local nginx = {}

local ROOT = uv.fs_realpath(os.getenv "CUEBALL_ROOT" or ".")
local BUILD = os.getenv "CUEBALL_BUILD" and uv.fs_realpath(os.getenv "CUEBALL_BUILD") or ROOT .. "/build"
local MODULES = "/usr/lib/nginx/modules/"
local LIMIT_MS = 60000

local CONF = [[
daemon off;
%(user)
worker_processes %(workers);
pid %(prefix)/nginx.pid;
error_log %(prefix)/error.log %(log_level);
load_module ]] .. MODULES .. [[ndk_http_module.so;
load_module ]] .. MODULES .. [[ngx_http_lua_module.so;
%(main)
events { %(events) }
http {
  access_log off;
  client_body_temp_path %(prefix)/temp; proxy_temp_path %(prefix)/temp; fastcgi_temp_path %(prefix)/temp;
  uwsgi_temp_path %(prefix)/temp; scgi_temp_path %(prefix)/temp;
  lua_package_path "%(prefix)/?.lua;%(root)/lua/?.lua;%(root)/lua/?/init.lua;%(build)/lua/?.lua;;";
  lua_package_cpath "%(build)/?.so;;";
  lua_socket_log_errors off;
  %(http)
  server {
    listen 127.0.0.1:%(port) backlog=4096;
    location = /ready { return 200 "ready"; }
    %(server)
  }
}
]]

-- What is there of a file that may not be there yet, or not any more.
local function read(path)
  local ok, text = pcall(shell.read, path)
  return ok and text or ""
end

nginx.until_true = until_true

local function fetch(port, path, headers)
  local socket = host.tcp()
  socket:settimeouts(LIMIT_MS, LIMIT_MS, LIMIT_MS)
  local ok, message = socket:connect("127.0.0.1", port)
  if not ok then return nil, message end
  socket:send(("GET %s HTTP/1.0\r\nHost: localhost\r\n%s\r\n"):format(path, headers or ""))
  local answer
  answer, message = socket:receive "*a"
  socket:close()
  if not answer then return nil, message end
  local status, body = answer:match "^HTTP/%S+ (%d+).-\r\n\r\n(.*)$"
  if not status then return nil, "no HTTP: " .. answer end
  return tonumber(status), body
end

local Nginx = {}
Nginx.__index = Nginx

--- → status, body; or nil, message
function Nginx:get(path, headers)
  return host.run(fetch, self.port, path, headers)
end

function Nginx:ask(path)
  local status, body = self:get(path)
  if status ~= 200 then error(("%s: %s %s\n%s"):format(path, tostring(status), tostring(body), self:log():sub(-4000)), 2) end
  return body
end

--- Opens a connection, asks, and leaves after `ms` without an answer.
function Nginx:ask_and_leave(path, ms)
  host.run(function()
    local socket = host.tcp()
    if not socket:connect("127.0.0.1", self.port) then return end
    socket:send(("GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n"):format(path))
    host.sleep(ms)
    socket:close()
  end)
end

function Nginx:log()
  return read(self.prefix .. "/error.log")
end

function Nginx:signal(name)
  uv.kill(self.pid, "sig" .. name:lower())
end

--- The master's children.
function Nginx:workers()
  local list = {}
  for pid in read(("/proc/%d/task/%d/children"):format(self.pid, self.pid)):gmatch "%d+" do list[#list + 1] = tonumber(pid) end
  return list
end

--- Waits for the end of the master.
function Nginx:wait_for_exit()
  until_true(function() return self.has_exited end, function() return self:log():sub(-4000) end)
end

function Nginx:stop()
  if not self.has_exited then
    self:signal "TERM"
    self:wait_for_exit()
  end
  os.execute("rm -rf '" .. self.prefix .. "'")
end

local function is_ready(self)
  if self.has_exited then error("nginx ended:\n" .. self:log() .. read(self.prefix .. "/stderr"), 0) end
  return (self:get "/ready") == 200
end

--- Runs fn(index) for each index from 1 to count, `width` at a time, each in a task. What fn raises first ends it, and is raised here.
function nginx.many(count, width, fn)
  local next_index, running, failure = 1, math.min(width, count), nil
  host.run(function()
    local done = host.waiter()
    local function worker()
      while next_index <= count and not failure do
        local index = next_index
        next_index = index + 1
        local ok, message = pcall(fn, index)
        if not ok then failure = failure or message end
      end
      running = running - 1
      if running == 0 then done:wake() end
    end
    for _ = 1, running do host.spawn(worker) end
    done:wait()
  end)
  if failure then error(failure, 0) end
end

--- Calls request() again and again, in `width` tasks, until fn() is done, which is a task too.
function nginx.under_load(width, request, fn)
  local is_over = false
  nginx.many(width + 1, width + 1, function(index)
    if index == 1 then
      local ok, message = pcall(fn)
      is_over = true
      if not ok then error(message, 0) end
    else
      while not is_over do request() end
    end
  end)
end

--- Is it installed? Else specs that need it are pending.
function nginx.is_there()
  local file = io.open(MODULES .. "ngx_http_lua_module.so", "rb")
  return file ~= nil and file:close()
end

function nginx.start(given)
  local prefix = assert(uv.fs_mkdtemp "/tmp/cueball-nginx-XXXXXX")
  assert(uv.fs_mkdir(prefix .. "/temp", 448))
  for name, text in pairs(given.files or {}) do shell.write(prefix .. "/" .. name, text) end
  local self = setmetatable({ prefix = prefix, port = free_port(), has_exited = false }, Nginx)
  local words = {
    user = uv.getuid() == 0 and "user root;" or "", workers = given.workers or 1, prefix = prefix, root = ROOT, build = BUILD,
    main = given.main or "", events = given.events or "worker_connections 1024;", http = given.http or "", server = given.server or "",
    port = self.port, log_level = given.log_level or "info",
  }
  shell.write(prefix .. "/nginx.conf", ((given.conf or CONF):gsub("%%%(([%w_]+)%)", function(name) return tostring(words[name]) end)))
  local out = assert(uv.fs_open(prefix .. "/stderr", "w", 420))
  local words_of = { "nginx", "-p", prefix, "-e", prefix .. "/error.log", "-c", prefix .. "/nginx.conf" }
  for index, word in ipairs(given.under or {}) do table.insert(words_of, index, word) end
  self.handle, self.pid = uv.spawn(table.remove(words_of, 1), { args = words_of, stdio = { nil, out, out } }, function()
    self.has_exited = true
    self.handle:close()
  end)
  uv.fs_close(out)
  assert(self.handle, self.pid)
  self.handle:unref()
  local ok, message = pcall(until_true, function() return is_ready(self) end,
    function() return self:log() .. read(prefix .. "/stderr") end)
  if not ok then
    self:stop()
    error(message, 0)
  end
  return self
end

return nginx
