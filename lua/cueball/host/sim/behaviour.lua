--- How a fake server behaves, and which faults the whole network has: checked by
-- name and range, because a fault misspelt is a test that tests nothing.
--
-- A time is as cueball.host.sim.duration has it.
-- A probability is a number from 0 to 1, false or true.
local misuse = require "cueball.misuse"
local duration = require "cueball.host.sim.duration"

local behaviour = {}

local function is_probability(value)
  return type(value) == "boolean" or type(value) == "number" and value >= 0 and value <= 1
end

local function is_hook(value)
  return value == false or type(value) == "function"
end

local function is_count(value)
  return value == false or type(value) == "number" and value >= 0 and value % 1 == 0
end

local function is_frame(value)
  return is_hook(value) or value == "line" or type(value) == "number" and value >= 1 and value % 1 == 0
end

local function is_time_or_none(value)
  return value == false or duration.read(value) ~= nil
end

-- TLS is loaded where a server has it.
local function tls_of(given)
  if given == false then return false end
  local server_tls = require "cueball.host.sim.tls"
  local how = server_tls.read(given)
  return { begin = function(connection) return server_tls.new(connection, how) end }
end

local function is_tls(value)
  return value == false or type(value) == "table"
end

local FULL = { refuse = true, close = true, hang = true }

local function same(value) return value end

-- Each: what is fit, what would be, and how it is kept.
local TIME = { function(value) return duration.read(value) ~= nil end, duration.EXPECTED, duration.read }
local TIME_OR_NONE = { is_time_or_none, duration.EXPECTED .. ", or false", function(value) return value and duration.read(value) end }
local PROBABILITY = { is_probability, "a probability from 0 to 1, false or true", same }
local HOOK = { is_hook, "a function or false", same }
local BYTES = { function(value) return value == false or type(value) == "string" end, "a string or false", same }
local COUNT = { is_count, "a whole number from 0, or false", same }
local FRAME = { is_frame, '"line", a number of bytes, a function or false', same }
local WHEN_FULL = { function(value) return FULL[value] ~= nil end, '"refuse", "close" or "hang"', same }

local TLS = { is_tls, "a table of options, or false", tls_of }

local SERVER = {
  connect_delay = TIME, latency = TIME, reply_delay = TIME, close_after = TIME, slow_ms = TIME, join_ms = TIME,
  idle_timeout = TIME_OR_NONE,
  refuse = PROBABILITY, hang = PROBABILITY, reset = PROBABILITY, accept_then_close = PROBABILITY,
  slow = PROBABILITY, cut = PROBABILITY, join = PROBABILITY,
  reply = HOOK, on_connect = HOOK, on_close = HOOK,
  banner = BYTES, full_text = BYTES, request = FRAME,
  max_connections = COUNT, window = COUNT, when_full = WHEN_FULL,
  tls = TLS,
}

local FAULTS = {
  refuse = PROBABILITY, hang = PROBABILITY, reset = PROBABILITY, slow = PROBABILITY, cut = PROBABILITY, join = PROBABILITY,
  slow_ms = TIME,
}

local function echo(data) return data end

local DEFAULTS = {
  connect_delay = 0.1,       -- from the call of connect to its answer
  latency = 0.05,            -- one way; what travels one way arrives in order
  reply_delay = 0,           -- from a request's arrival until the answer leaves
  slow = false,              -- of a reply: it leaves later, by
  slow_ms = 100,
  refuse = false,            -- of a connect: "connection refused"
  hang = false,              -- … no answer at all, ever
  accept_then_close = false, -- … it is accepted, and closed by the server after
  close_after = 0,
  max_connections = false,   -- so many at most; with more, when_full:
  when_full = "refuse",      -- "connection refused"; "close": accepted, sent full_text, closed; "hang": no answer
  full_text = false,
  idle_timeout = false,      -- the server closes a connection on which nothing came for so long
  reset = false,             -- of each piece of data that arrives: the connection is reset
  cut = false,               -- of each piece that is sent, either way: it arrives in several pieces
  join = false,              -- … it is held back, and arrives with the next one, or alone after
  join_ms = 1,
  window = 1048576,          -- bytes that may lie unread at the server before a send blocks; false: any number
  request = false,           -- what reply is called with: "line", so many bytes, function(data) → length or nil; false: each piece
  reply = echo,              -- function(data, connection) → string or nil
  on_connect = false,        -- function(connection)
  on_close = false,          -- function(connection): the client has closed
  banner = false,            -- sent when a connection was accepted
  tls = false,               -- { cert =, key = …}: the server speaks TLS, see cueball.host.sim.tls
}

local NO_FAULTS = { refuse = false, hang = false, reset = false, cut = false, join = false, slow = false, slow_ms = 100 }

local function merge(who, base, fields, given)
  if type(given) ~= "table" then
    misuse.raise(("%s: expected a table, got %s"):format(who, type(given)))
  end
  local merged = {}
  for name, value in pairs(base) do merged[name] = value end
  for name, value in pairs(given) do
    local field = fields[name]
    if not field then misuse.raise(("%s: unknown field %s"):format(who, tostring(name))) end
    if not field[1](value) then
      misuse.raise(("%s: %s: expected %s, got %s"):format(who, name, field[2], tostring(value)))
    end
    merged[name] = field[3](value)
  end
  return merged
end

--- @param base the behaviour so far; nil: the defaults
function behaviour.of_server(base, given)
  return merge("server", base or DEFAULTS, SERVER, given)
end

--- @param given fields refuse, hang, reset, cut, join, slow, slow_ms; false: no faults at all
function behaviour.of_faults(given)
  return merge("faults", NO_FAULTS, FAULTS, given or {})
end

return behaviour
