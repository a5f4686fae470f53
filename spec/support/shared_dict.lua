--- A lua_shared_dict in virtual time, and workers of a simulated nginx that share it.
--
--   local dict = shared_dict.new(world)           as ngx.shared.DICT, as far as cueball uses it; a second argument: how many bytes fit
--   local host = shared_dict.worker(world, dict, 7)   the world as the host of the worker with that pid; host.is_exiting may be set
local process = require "cueball.host.process"
local workers = require "cueball.nginx.workers"

local shared_dict = {}

function shared_dict.new(world, room)
  local made = { entries = {}, room = room or math.huge }

  local function live(key)
    local entry = made.entries[key]
    if entry and entry.ends and entry.ends <= world.now() then made.entries[key], entry = nil, nil end
    return entry
  end

  function made:get(key)
    local entry = live(key)
    return entry and entry.value
  end

  function made:ttl(key)
    if live(key) then return 0 end
    return nil, "not found"
  end

  function made:delete(key) made.entries[key] = nil end

  -- In one step, as all of nginx's: nobody comes between looking and writing.
  local function put(key, value, ttl_s)
    made.entries[key] = nil
    local used = #tostring(value)
    for _, entry in pairs(made.entries) do used = used + #tostring(entry.value) end
    if used > made.room then return nil, "no memory" end
    made.entries[key] = { value = value, ends = ttl_s and world.now() + ttl_s * 1e9 }
    return true
  end
  function made:safe_set(key, value, ttl_s) return put(key, value, ttl_s) end
  made.set = made.safe_set

  function made:incr(key, by, first)
    local entry = live(key)
    local value = (entry and entry.value or first) + by
    made.entries[key] = { value = value, ends = entry and entry.ends }
    return value
  end

  function made:safe_add(key, value, ttl_s)
    if live(key) then return false, "exists" end
    return put(key, value, ttl_s)
  end

  return made
end

function shared_dict.worker(world, dict, pid)
  local host = { is_exiting = false }
  host.workers = {
    is_shared = true,
    dict = function(name)
      if name == "cueball" then return dict end
      return nil, "there is no lua_shared_dict " .. name
    end,
    open = workers.open,
    name = function() return pid .. ".0" end,
    is_name = process.is_name,
    is_alive = function() return nil end, -- nobody can tell
    pid = function() return pid end,
    number = function() return pid end,
    is_exiting = function() return host.is_exiting end,
    time_s = function() return world.now() / 1e9 end,
  }
  return setmetatable(host, { __index = world })
end

return shared_dict
