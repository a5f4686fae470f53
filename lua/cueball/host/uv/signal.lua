--- Signals on the libuv host: host.on_signal, as docs/hosts.md has it.
local ffi = require "ffi"

local signal = {}

-- The signals that ask a process to end, or to read its configuration again.
local NAMES = { int = "sigint", term = "sigterm", hup = "sighup" }
local NUMBERS = { sighup = 1, sigint = 2, sigterm = 15 }   -- POSIX has these three

ffi.cdef [[
  void *cueball_once_signal(int number, void *handler) __asm__("signal");
  void *cueball_once_sysv_signal(int number, void *handler) __asm__("__sysv_signal");
]]

-- From the next signal on the system has it do what it does by default, before anybody is called: glibc's signal of System V is like that.
-- Elsewhere that is so only once the loop has heard of it. One that comes in between is not lost: it does what it does by default, too.
local function reset_when_heard(number)
  local SIG_DFL = nil
  local heard_by = ffi.C.cueball_once_signal(number, SIG_DFL)
  if not pcall(function() ffi.C.cueball_once_sysv_signal(number, heard_by) end) then ffi.C.cueball_once_signal(number, heard_by) end
end

-- fn() is called, outside of any task, for each signal of libuv's name, or for the first one.
-- @return a function that ends it; or nil, message
local function hear(host, uv, name, fn, is_once)
  local handle, message = uv.new_signal()
  if not handle then return nil, message end
  local function forget()
    if not handle:is_closing() then handle:close() end
  end
  local ok
  ok, message = handle:start(name, function()
    if is_once then forget() end
    host.tasks:call(fn)
  end)
  if not ok then
    handle:close()
    return nil, message
  end
  if is_once then reset_when_heard(NUMBERS[name]) end
  return forget
end

local function is_options(given)
  return given == nil or type(given) == "table" and (given.once == nil or type(given.once) == "boolean")
end

--- Fills in host.on_signal.
-- @param host the host table, with its scheduler as host.tasks
-- @param uv   the luv module
function signal.install(host, uv)
  --- From now on fn() is called, outside of any task, when the process gets the signal, which then does not end it.
  -- Until it is ended it keeps the loop alive: something waits for the signal.
  -- @param name "int", "term" or "hup"
  -- @param options nil, or { once = true }: only the first one; the next does what it does by default
  -- @return a function that ends it, harmless to call again; or nil, message
  function host.on_signal(name, fn, options)
    if not NAMES[name] then error(("on_signal: expected \"int\", \"term\" or \"hup\", got %s"):format(tostring(name)), 2) end
    if type(fn) ~= "function" then error("on_signal: expected a function, got " .. type(fn), 2) end
    if not is_options(options) then error("on_signal: expected { once = true } or nothing, got " .. tostring(options), 2) end
    return hear(host, uv, NAMES[name], fn, options and options.once)
  end
end

return signal
