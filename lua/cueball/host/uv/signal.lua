--- Signals on the libuv host: host.on_signal, as docs/hosts.md has it.
local signal = {}

-- The signals that ask a process to end, or to read its configuration again.
local NAMES = { int = "sigint", term = "sigterm", hup = "sighup" }

--- Fills in host.on_signal.
-- @param host the host table, with its scheduler as host.tasks
-- @param uv   the luv module
function signal.install(host, uv)
  --- From now on fn() is called, outside of any task, when the process gets the signal, which then does not end it.
  -- Until it is ended it keeps the loop alive: something waits for the signal.
  -- @param name "int", "term" or "hup"
  -- @return a function that ends it, harmless to call again; or nil, message
  function host.on_signal(name, fn)
    if not NAMES[name] then error(("on_signal: expected \"int\", \"term\" or \"hup\", got %s"):format(tostring(name)), 2) end
    if type(fn) ~= "function" then error("on_signal: expected a function, got " .. type(fn), 2) end
    local handle, message = uv.new_signal()
    if not handle then return nil, message end
    local ok
    ok, message = handle:start(NAMES[name], function() host.tasks:call(fn) end)
    if not ok then
      handle:close()
      return nil, message
    end
    return function()
      if not handle:is_closing() then handle:close() end
    end
  end
end

return signal
