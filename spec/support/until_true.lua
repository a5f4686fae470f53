--- Waits for what another process does: until_true(fn, say) calls fn() again and again until it is true, for two minutes, which
-- a machine that is only slow does not need. If it does not come true it raises, with what `say` returns.
-- In a task it waits as tasks do; elsewhere it lets the loop run.
local host = require "cueball.host.uv"

local LIMIT_MS, PAUSE_MS = 120000, 20

return function(fn, say)
  local give_up = host.now() + LIMIT_MS * 1e6
  while not fn() do
    if host.now() > give_up then
      error(("it did not come true in %d s%s"):format(LIMIT_MS / 1000, say and ": " .. tostring(say()) or ""), 2)
    end
    host.run(host.sleep, PAUSE_MS)
  end
end
