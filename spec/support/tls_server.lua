--- `openssl s_server` in a process of its own, for specs of TLS.
--
--   local one = require("spec.support.tls_server").start { "-rev", "-tls1_3" }      arguments for s_server
--   one.port;  one.pid;  one:write "Q\n"        to its stdin, where -quiet is not given: commands of s_server, else what is sent
--   one:log()                         what it wrote so far
--   one:stop()                        ended by its pid
-- cert = false in the table: no -cert and -key of certificates.good; unix = path: it listens there.
local uv = require "luv"
local host = require "cueball.host.uv"
local certificates = require "spec.support.certificates"
local free_port = require("spec.support.port").free
local shell = require "spec.support.shell"
local until_true = require "spec.support.until_true"

local tls_server = {}

local Server = {}
Server.__index = Server

function Server:log()
  local ok, text = pcall(shell.read, self.path)
  return ok and text or ""
end

function Server:write(text)
  self.stdin:write(text)
end

function Server:stop()
  if not self.has_exited then
    self.handle:kill "sigkill"
    until_true(function() return self.has_exited end)
  end
  if not self.stdin:is_closing() then self.stdin:close() end
  os.remove(self.path)
  -- luv before 1.45 crashes at exit if a handle is closing still; inside of host.run its end sees to that.
  if not host.current() then uv.run "nowait" end
end

function tls_server.start(arguments)
  local good = certificates.good
  local self = setmetatable({
    port = free_port(), has_exited = false, stdin = uv.new_pipe(false), path = os.tmpname(),
  }, Server)
  local words = { "s_server", "-naccept", "100000", unpack(arguments.unix and { "-unix", arguments.unix }
    or { "-accept", "127.0.0.1:" .. self.port }) }
  if arguments.cert ~= false then
    local count = #words
    words[count + 1], words[count + 2], words[count + 3], words[count + 4] = "-cert", good.cert, "-key", good.key
  end
  for _, word in ipairs(arguments) do words[#words + 1] = word end
  -- To a file: whoever writes to a pipe stands still when nobody reads, as while a spec waits for a command.
  local out = assert(uv.fs_open(self.path, "w", 384))
  -- A sanitizer's library is for LuaJIT alone.
  self.handle, self.pid = uv.spawn("sh", {
    args = { "-c", 'unset LD_PRELOAD; exec openssl "$@"', "sh", unpack(words) }, stdio = { self.stdin, out, out },
  }, function()
    self.has_exited = true
    self.handle:close()
  end)
  uv.fs_close(out)
  assert(self.handle, self.pid)
  local ok, why = pcall(until_true, function()
    if self.has_exited then error("s_server ended: " .. self:log(), 0) end
    return self:log():find "ACCEPT"
  end, function() return self:log() end)
  if not ok then
    self:stop()
    error(why, 0)
  end
  return self
end

return tls_server
