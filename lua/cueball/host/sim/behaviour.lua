--- How a fake server behaves, and which faults the whole network has: checked by
-- name and range, because a fault misspelt is a test that tests nothing.
--
-- A time is in ms: a number from 0, or { min, max } to draw from each time.
-- A probability is a number from 0 to 1, false or true.
local behaviour = {}

local function is_amount(value)
  return type(value) == "number" and value >= 0 and value < math.huge
end

local function is_time(value)
  if type(value) ~= "table" then return is_amount(value) end
  return #value == 2 and is_amount(value[1]) and is_amount(value[2]) and value[1] <= value[2]
end

local function is_probability(value)
  return type(value) == "boolean" or is_amount(value) and value <= 1
end

local function is_hook(value)
  return value == false or type(value) == "function"
end

local TIME = { is_time, "a time in ms from 0, or {min, max}" }
local PROBABILITY = { is_probability, "a probability from 0 to 1, false or true" }
local HOOK = { is_hook, "a function or false" }
local BYTES = { function(value) return value == false or type(value) == "string" end, "a string or false" }

local SERVER = {
  connect_delay = TIME, latency = TIME, reply_delay = TIME, close_after = TIME,
  refuse = PROBABILITY, hang = PROBABILITY, reset = PROBABILITY, accept_then_close = PROBABILITY,
  reply = HOOK, on_connect = HOOK, on_close = HOOK,
  banner = BYTES,
}

local FAULTS = {
  refuse = PROBABILITY, hang = PROBABILITY, reset = PROBABILITY, slow = PROBABILITY,
  slow_ms = TIME,
}

local function echo(data) return data end

local DEFAULTS = {
  connect_delay = 0.1,       -- from the call of connect to its answer
  latency = 0.05,            -- one way; what travels one way arrives in order
  reply_delay = 0,           -- from a request's arrival until the answer leaves
  refuse = false,            -- of a connect: "connection refused"
  hang = false,              -- … no answer at all, ever
  accept_then_close = false, -- … it is accepted, and closed by the server after
  close_after = 0,
  reset = false,             -- of each piece of data that arrives: the connection is reset
  reply = echo,              -- function(data, connection) → string or nil
  on_connect = false,        -- function(connection)
  on_close = false,          -- function(connection): the client has closed
  banner = false,            -- sent when a connection was accepted
}

local NO_FAULTS = { refuse = false, hang = false, reset = false, slow = false, slow_ms = 100 }

local function merge(who, base, fields, given, level)
  if type(given) ~= "table" then
    error(("%s: expected a table, got %s"):format(who, type(given)), level + 1)
  end
  local merged = {}
  for name, value in pairs(base) do merged[name] = value end
  for name, value in pairs(given) do
    local field = fields[name]
    if not field then error(("%s: unknown field %s"):format(who, tostring(name)), level + 1) end
    if not field[1](value) then
      error(("%s: %s: expected %s, got %s"):format(who, name, field[2], tostring(value)), level + 1)
    end
    merged[name] = value
  end
  return merged
end

--- @param base the behaviour so far; nil: the defaults
-- @param level of the caller to blame, as for error()
function behaviour.of_server(base, given, level)
  return merge("server", base or DEFAULTS, SERVER, given, level + 1)
end

--- @param given fields refuse, hang, reset, slow, slow_ms; false: no faults at all
function behaviour.of_faults(given, level)
  return merge("faults", NO_FAULTS, FAULTS, given or {}, level + 1)
end

return behaviour
