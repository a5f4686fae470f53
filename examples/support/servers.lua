--- Echo servers as processes of their own, which can be killed and started again.
--
--   local servers = require "examples.support.servers"
--   local one = servers.start()      in a task: waits until it listens
--   one.port, one.address            "127.0.0.1:12345"
--   one:kill()                       SIGKILL
--   one:restart()                    in a task: on the same port
--   servers.kill_all()               by their process ids; also done when the program ends by SIGINT, SIGTERM or SIGHUP
local cueball = require "cueball"
local uv = require "luv"

local servers = {}

local Server = {}
Server.__index = Server

local SCRIPT = debug.getinfo(1, "S").source:match "^@(.*/)[^/]*$" .. "echo_server.lua"
local START_TIME_LIMIT_MS = 60000

local all, signals = {}, {}

local function launch(self)
  local waiter, text = cueball.host().waiter(), ""
  local stdin, stdout = uv.new_pipe(false), uv.new_pipe(false)
  local process, pid
  process, pid = uv.spawn("luajit", {
    args = self.port and { SCRIPT, tostring(self.port) } or { SCRIPT },
    stdio = { stdin, stdout, 2 },
    detached = true, -- the terminal's Ctrl-C is for us: we end them
  }, function()
    process:close()
    for _, pipe in ipairs { stdin, stdout } do
      if not pipe:is_closing() then pipe:close() end
    end
    if self.process == process then self.process = nil end
    waiter:wake(nil, "it ended before it listened")
  end)
  if not process then error("cannot start luajit: " .. pid, 0) end
  self.process, self.pid = process, pid
  process:unref() -- neither the process nor its pipes keep the loop alive
  stdin:unref()
  stdout:read_start(function(_, data)
    text = text .. (data or "")
    local port = text:match "^(%d+)\n"
    if port then waiter:wake(tonumber(port)) end
  end)
  local port, message = waiter:wait(START_TIME_LIMIT_MS)
  if not stdout:is_closing() then stdout:unref() end
  return port, message
end

-- While a server was down somebody else may hold its port for a moment.
local function listen(self)
  local port, message
  for _ = 1, self.port and 50 or 1 do
    port, message = launch(self)
    if port then break end
    cueball.sleep(100)
  end
  if not port then error("an echo server did not start: " .. message, 0) end
  self.port, self.address = port, "127.0.0.1:" .. port
end

local NUMBERS = { sigint = 2, sigterm = 15, sighup = 1 }

local function watch_signals()
  for name, number in pairs(NUMBERS) do
    signals[name] = signals[name] or uv.new_signal()
    signals[name]:start(name, function()
      servers.kill_all()
      os.exit(128 + number)
    end)
    signals[name]:unref()
  end
end

function servers.start()
  watch_signals()
  local self = setmetatable({}, Server)
  all[#all + 1] = self
  listen(self)
  return self
end

function Server:kill()
  if self.process then uv.kill(self.pid, "sigkill") end
  self.process = nil
end

function Server:restart()
  if not self.process then listen(self) end
end

--- Ends them all; signals do again what they do by default.
function servers.kill_all()
  for _, server in ipairs(all) do server:kill() end
  -- Stopped, not closed: programs call this when their loop has ended, and luv crashes over handles that are closing when the process ends.
  for _, signal in pairs(signals) do signal:stop() end
end

return servers
