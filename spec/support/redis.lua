--- Real redis-servers for specs, each on a free port of loopback, without files.
--
--   local redis = require "spec.support.redis"
--   local one = redis.start { "--requirepass secret" }
--   one.port, one.backend ("127.0.0.1:PORT")
--   one:call("CLIENT", "LIST") → what redis-cli prints
--   one.secure      "127.0.0.1:PORT" of TLS, where it was started with `tls`, see there
--   one:clients() → how many connections it has, not counting the one that asks
--   redis.replica_of(one); one:follow(other), one:lead()
--   one:stop()      SIGKILL and wait; one:start_again(), on the same port; one:pause(), one:go_on(): SIGSTOP and wait, SIGCONT
local uv = require "luv"
local free_port = require("spec.support.port").free
local quote = require("spec.support.shell").quote
local stand_still = require "spec.support.stand_still"
local until_true = require "spec.support.until_true"

local redis = {}

local Redis = {}
Redis.__index = Redis

function Redis:call(...)
  local words = { "redis-cli", "-p", self.port }
  if self.password then words[#words + 1] = "--no-auth-warning -a " .. quote(self.password) end
  for index = 1, select("#", ...) do words[#words + 1] = quote((select(index, ...))) end
  local pipe = assert(io.popen(table.concat(words, " ") .. " 2>&1"))
  local text = pipe:read "*a"
  pipe:close()
  return (text:gsub("\n$", ""))
end

function Redis:clients()
  local count = -1
  for line in (self:call("CLIENT", "LIST") .. "\n"):gmatch "(.-)\n" do
    if line:find "^id=" then count = count + 1 end
  end
  return count
end

local function launch(self)
  self.has_exited = false
  local arguments = { "--port", tostring(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "/tmp",
    "--repl-diskless-sync-delay", "0" }
  if self.tls then
    local ca = self.tls.client_ca
    for _, words in ipairs { "--tls-port", tostring(self.tls_port), "--tls-cert-file", self.tls.certificate.cert, "--tls-key-file",
      self.tls.certificate.key, "--tls-ca-cert-file", ca or self.tls.certificate.cert, "--tls-auth-clients", ca and "yes" or "no" } do
      arguments[#arguments + 1] = words
    end
  end
  for _, words in ipairs(self.arguments) do
    for word in words:gmatch "%S+" do arguments[#arguments + 1] = word end
  end
  self.handle, self.pid = uv.spawn("redis-server", { args = arguments }, function()
    self.has_exited = true
    self.handle:close()
  end)
  assert(self.handle, self.pid)
  self.handle:unref()
  -- Before other programs, where that is allowed: on a busy machine a server that hears of a close too late refuses the connection that was
  -- opened in its place, and it is counted how many the server refuses.
  uv.os_setpriority(self.pid, -15)
  until_true(function()
    if self.has_exited then error("redis-server ended at once", 0) end
    return self:call("PING") == "PONG"
  end, function() return "redis-server does not answer" end)
end

function Redis:stop()
  if self.has_exited then return end
  uv.kill(self.pid, "sigkill")
  until_true(function() return self.has_exited end, function() return "redis-server does not end" end)
end

function Redis:start_again()
  launch(self)
end

--- Makes it a replica of another server, and waits until it has its data; :lead() makes it a primary again.
function Redis:follow(primary)
  self:call("REPLICAOF", "127.0.0.1", primary.port)
  until_true(function() return self:call("INFO", "replication"):find "master_link_status:up" end, function()
    return self:call("INFO", "replication")
  end)
end

function Redis:lead()
  assert(self:call("REPLICAOF", "NO", "ONE") == "OK")
end

function Redis:pause() stand_still { self.pid } end
function Redis:go_on() uv.kill(self.pid, "sigcont") end

--- @param arguments nil, or a list of further arguments; and password, if it is to have one; and tls = { certificate =, client_ca = a path,
--   if clients have to prove who they are }: then self.secure is the backend of its TLS port
function redis.start(arguments)
  arguments = arguments or {}
  local port = free_port()
  local self = setmetatable({ port = port, backend = "127.0.0.1:" .. port, arguments = {}, password = arguments.password }, Redis)
  for index, words in ipairs(arguments) do self.arguments[index] = words end
  if arguments.tls then
    self.tls, self.tls_port = arguments.tls, free_port()
    self.secure = "127.0.0.1:" .. self.tls_port
  end
  if self.password then table.insert(self.arguments, "--requirepass " .. self.password) end
  launch(self)
  return self
end

--- A replica of a server, whose data it has when this returns.
-- @param arguments as for redis.start
function redis.replica_of(primary, arguments)
  local replica = redis.start(arguments)
  replica:follow(primary)
  return replica
end

--- The backends of these servers, as resolver.static takes them.
function redis.backends(servers)
  local list = {}
  for index, server in ipairs(servers) do list[index] = server.backend end
  return list
end

return redis
