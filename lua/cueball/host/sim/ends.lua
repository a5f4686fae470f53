--- How a world ends: what is left in it, whether all went well, and its close.
local members = require "cueball.host.sim.members"

local ends = {}

local function add_leaks(world, state)
  function world.leaks()
    local leaks = {}
    for _, transport in ipairs(state.network.transports:list()) do
      leaks[#leaks + 1] = "socket to " .. transport.peer
    end
    for _, question in ipairs(state.dns.leaks()) do leaks[#leaks + 1] = question end
    for _, alarm in ipairs(state.alarms:list()) do leaks[#leaks + 1] = alarm.event.what end
    for _, one in ipairs(state.living_tasks()) do
      if one.task ~= world.current() then leaks[#leaks + 1] = one.site end
    end
    return leaks
  end
end

local function check_options(given)
  if given == nil then return {} end
  if type(given) ~= "table" then error("check: expected a table of options, got " .. type(given), 3) end
  for name, value in pairs(given) do
    if name ~= "errors" then error("check: unknown option " .. tostring(name), 3) end
    if type(value) ~= "string" then error("check: errors: expected a pattern, got " .. tostring(value), 3) end
  end
  return given
end

local function add_check(world, state)
  --- Raises an error unless nothing is left and nothing went wrong.
  -- @param given nil, or { errors = a pattern of those in the log that are all right }
  -- @return true
  function world.check(given)
    local expected = check_options(given).errors
    if not world.current() then state.settle() end
    local wrong = {}
    for _, line in ipairs(world.logs) do
      local message = tostring(line.message)
      if line.level == "error" and not (expected and message:find(expected)) then
        wrong[#wrong + 1] = ("an error was logged at %.3f ms: %s"):format(line.time_ms, message)
      end
    end
    for _, leak in ipairs(world.leaks()) do wrong[#wrong + 1] = "left: " .. leak end
    for _, event in ipairs(state.awaited:list()) do wrong[#wrong + 1] = "has not come: " .. event.what end
    if #wrong > 0 then error("check: " .. table.concat(wrong, "\n"), 2) end
    return true
  end
end

--- Gives a world leaks, check and close.
-- @param state what the parts of the world share
function ends.install(world, state)
  add_leaks(world, state)
  add_check(world, state)
  world.close = state.driver("close", function()
    for _, one in ipairs(state.living_tasks()) do world.kill(one.task) end
    for _, transport in ipairs(state.network.transports:list()) do transport:close() end
    for _, alarm in ipairs(state.alarms:list()) do alarm:close() end
    state.dns.close()
    state.clock:forget()
    state.awaited, state.failure = members.new(), nil
  end)
end

return ends
