--- The options of consoles, and what every console of a program has.
local json = require "cueball.monitor.json"
local misuse = require "cueball.misuse"
local monitor = require "cueball.monitor"
local options = require "cueball.options"

local settings = {}

local TOKEN_MIN = 16
local BUDGET_MS = 50

--- How many may be attached at once, where nothing else is said.
settings.CONNECTIONS_MAX = 16
local FOREVER_MS = 0x7fffffff

--- The rules of the options that all ways to offer a console have.
settings.RULES = {
  host = options.of_type("table", "a host"),
  allow = { check = function(value) return value == "read" or value == "write" end, range = '"read" or "write"' },
  token = {
    check = function(value) return type(value) == "string" and #value >= TOKEN_MIN and #value <= 1024 and not value:find "%c" end,
    range = ("a string of %d to 1024 bytes without control characters"):format(TOKEN_MIN), is_secret = true,
  },
  budget_ms = options.number(1, 60000, "milliseconds"),
  connections_max = options.whole(1, 1000),
  name = options.NAME,
  values = options.of_type("table", "a table of globals by name"),
}

-- Who may wait for ever: the socket says how.
local function forever(stream)
  if rawget(stream, "read_timeout_ms") ~= nil then
    stream.read_timeout_ms = false
  else
    stream:settimeouts(5000, 5000, FOREVER_MS)
  end
end

--- What a connection is served with.
-- @param what  who asks, for messages
-- @param given options, checked
function settings.of(what, given, host)
  if given.values and given.allow ~= "write" then
    misuse.raise(what .. ": option 'values' is for a console with allow = \"write\": who may only look gets nothing of the program's")
  end
  return {
    host = host, token = given.token, allow = given.allow or "read", budget_ms = given.budget_ms or BUDGET_MS, values = given.values,
    name = given.name, connections_max = given.connections_max or settings.CONNECTIONS_MAX,
    forever = forever, list = json.list, beside = host.http and host.http.beside or host.spawn,
    process = function()
      local workers = host.workers
      return { pid = workers.pid(), worker = workers.number(), age_s = workers.age_s and workers.age_s() or nil }
    end,
    reach = function(number) return nil, ("there is no worker %d: this program has no workers"):format(number) end,
    snapshot = function() return monitor.snapshot { detail = true, host = host } end,
  }
end

return settings
