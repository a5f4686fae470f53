--- Stops processes, and waits until they stand still: one that runs on another processor goes on for a while.
--
--   stand_still { pid, … }      SIGSTOP; SIGCONT lets them go on
local uv = require "luv"
local until_true = require "spec.support.until_true"

-- Does a thread of it go on? One that has ended does not.
local function goes_on(pid)
  local folder = ("/proc/%d/task"):format(pid)
  local list = uv.fs_scandir(folder)
  for name in list and uv.fs_scandir_next or function() end, list do
    local file = io.open(folder .. "/" .. name .. "/stat")
    local state = file and file:read "*a":match "^%d+ %(.*%) (%a)"
    if file then file:close() end
    if state and not state:find "[TZX]" then return true end
  end
  return false
end

return function(pids)
  for _, pid in ipairs(pids) do uv.kill(pid, "sigstop") end
  until_true(function()
    for _, pid in ipairs(pids) do
      if goes_on(pid) then return false end
    end
    return true
  end, function() return "a process goes on that was stopped" end)
end
