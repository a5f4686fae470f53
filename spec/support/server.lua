--- Real TCP and UNIX servers for specs: in this process on luv's loop, or as a process that can be killed.
--
--   local server = require "spec.support.server"
--   local one = server.listen(function(client) … end)     client: the accepted luv handle
--   local one = server.echo()                             sends back what comes, closes when the peer does
--   one.port, one.clients, one:close()                    closes the clients too
--   local path = server.listen_unix(path, on_client)
--   local other = server.process()                        an echo server in another process: port, pid, kill(signal)
--   server.open_handles()                                 luv handles that are active or open, counted by kind
--   server.left_open(before)                              kinds of which there are more than then, in a text; fewer there may be: what
--                                                         an earlier spec left as garbage is closed when it is collected
--
-- Run as a script ("luajit spec/support/server.lua") it is that other process: it writes its port and echoes.
local uv = require "luv"

local server = {}

-- Inside of a task the loop runs already, and must not be run again.
local function host_is_running()
  local host = package.loaded["cueball.host.uv"]
  return host and host.current() ~= nil
end

local Server = {}
Server.__index = Server

function Server:close()
  for _, client in ipairs(self.clients) do
    if not client:is_closing() then client:close() end
  end
  if not self.handle:is_closing() then self.handle:close() end
  -- luv before 1.45 crashes at exit if a handle is closing still; inside of host.run its end sees to that.
  if not host_is_running() then uv.run "nowait" end
end

local function start(handle, make, on_client)
  local self = setmetatable({ handle = handle, clients = {} }, Server)
  assert(handle:listen(128, function(err)
    if err then return end
    local client = make()
    handle:accept(client)
    self.clients[#self.clients + 1] = client
    on_client(client)
  end))
  return self
end

function server.listen(on_client)
  local handle = uv.new_tcp()
  assert(handle:bind("127.0.0.1", 0))
  local self = start(handle, uv.new_tcp, on_client)
  self.port = handle:getsockname().port
  return self
end

function server.listen_unix(path, on_client)
  local handle = uv.new_pipe(false)
  assert(handle:bind(path))
  return start(handle, function() return uv.new_pipe(false) end, on_client)
end

function server.echo_client(client)
  client:read_start(function(_, data)
    if client:is_closing() then return end
    if data then client:write(data) else client:close() end
  end)
end

function server.echo()
  return server.listen(server.echo_client)
end

--- An echo server in a process of its own.
function server.process()
  local out = uv.new_pipe(false)
  local self = {}
  local process
  process, self.pid = assert(uv.spawn("luajit", {
    args = { "spec/support/server.lua" }, stdio = { nil, out, 2 },
  }, function()
    self.is_over = true
    process:close()
  end))
  out:read_start(function(_, data)
    if data then self.port = self.port or tonumber(data) end
  end)
  while not self.port and not self.is_over do uv.run "once" end
  out:close()
  assert(self.port, "the server process did not start")
  function self.kill(signal)
    process:kill(signal or "sigkill")
  end
  return self
end

--- Handles that somebody should have closed, after the loop had time for what is closing.
function server.open_handles()
  uv.run "nowait"
  local counts = {}
  uv.walk(function(handle)
    if handle:is_closing() then return end
    local kind = handle:get_type()
    counts[kind] = (counts[kind] or 0) + 1
  end)
  return counts
end

function server.left_open(before)
  local more = {}
  for kind, count in pairs(server.open_handles()) do
    if count > (before[kind] or 0) then more[#more + 1] = kind end
  end
  table.sort(more)
  return table.concat(more, " ")
end

if arg and arg[0] and arg[0]:find("support/server.lua", 1, true) and not package.loaded["spec.support.server"] and ... == nil then
  local one = server.echo()
  io.stdout:write(one.port, "\n")
  io.stdout:flush()
  uv.run()
end

return server
