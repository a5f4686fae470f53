--- Real memcached servers for specs, each on a free port of loopback.
--
--   local memcached = require "spec.support.memcached"
--   local one = memcached.start { "--max-item-size=1m" }
--   one.port, one.backend ("127.0.0.1:PORT")
--   one:clients()   how many connections it has, not counting the one that asks
--   one:stop()      SIGKILL and wait; one:start_again(), on the same port
--   one:pause()     SIGSTOP, until it stands still; one:go_on(): SIGCONT
local uv = require "luv"
local host = require "cueball.host.uv"
local free_port = require("spec.support.port").free
local stand_still = require "spec.support.stand_still"
local until_true = require "spec.support.until_true"

local memcached = {}

local Memcached = {}
Memcached.__index = Memcached

-- What the server says to a line, up to its last one; nil: it does not answer.
local function ask(port, line, last)
  local socket = host.tcp()
  socket:settimeout(20000)
  if not socket:connect("127.0.0.1", port) then return nil end
  socket:send(line .. "\r\n")
  local answer = socket:receiveuntil(last)()
  socket:close()
  return answer
end

function Memcached:clients()
  local stats = host.run(ask, self.port, "stats", "END\r\n") or ""
  return tonumber(stats:match "curr_connections (%d+)") - 1 - self.idle_connections
end

local function launch(self)
  self.has_exited = false
  local arguments = { "-l", "127.0.0.1", "-p", tostring(self.port), "-U", "0", "-t", "1" }
  if uv.getuid() == 0 then
    arguments[#arguments + 1] = "-u"
    arguments[#arguments + 1] = "nobody"
  end
  for _, word in ipairs(self.arguments) do arguments[#arguments + 1] = word end
  self.handle, self.pid = uv.spawn("memcached", { args = arguments }, function()
    self.has_exited = true
    self.handle:close()
  end)
  assert(self.handle, self.pid)
  self.handle:unref()
  until_true(function()
    if self.has_exited then error("memcached ended: " .. table.concat(arguments, " "), 0) end
    return host.run(ask, self.port, "version", "\r\n") ~= nil
  end)
  self.idle_connections = 0
  self.idle_connections = self:clients() -- those that it counts and nobody made
end

function Memcached:start_again()
  launch(self)
end

function Memcached:pause() stand_still { self.pid } end
function Memcached:go_on() uv.kill(self.pid, "sigcont") end

function Memcached:stop()
  if self.has_exited then return end
  uv.kill(self.pid, "sigkill")
  until_true(function() return self.has_exited end)
end

function memcached.start(arguments)
  local self = setmetatable({ port = free_port(), arguments = arguments or {} }, Memcached)
  self.backend = "127.0.0.1:" .. self.port
  launch(self)
  return self
end

return memcached
