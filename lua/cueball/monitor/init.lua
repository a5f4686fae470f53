--- Shows pools: as JSON, and as OpenMetrics text for Prometheus and its like.
--
--   location = /status { content_by_lua_block { require("cueball.monitor").serve() } }     all workers of an nginx
--   require("cueball.monitor").openmetrics()                                               this process, anywhere
--
-- docs/monitor.md says what is in it.
local misuse = require "cueball.misuse"
local hosts = require "cueball.host"
local json = require "cueball.monitor.json"
local openmetrics = require "cueball.monitor.openmetrics"
local options = require "cueball.options"
local page = require "cueball.monitor.page"
local slices = require "cueball.monitor.slices"
local snapshot = require "cueball.monitor.snapshot"

local monitor = {}

local WHAT = "cueball.monitor.serve"

-- This process alone, as if it were the only worker.
local function view_of_this(pause)
  local taken = snapshot.take(pause)
  return { version = taken.version, workers = json.list { taken }, pools = snapshot.merge({ taken }, nil, pause) }
end

--- The pools of this process, as plain tables.
-- @return { version, pools = { { name, state, stats, options, backends, resolver, last_error }, … } }
monitor.snapshot = snapshot.take

--- The same as OpenMetrics text.
function monitor.openmetrics()
  return openmetrics.text(view_of_this())
end

--- The same as JSON, in the form of serve().
function monitor.json()
  return json.encode(view_of_this())
end

local FORMATS = { json = true, openmetrics = true }

-- ?format= comes first; then what the client says it takes; JSON by default.
local function format_of(http, given)
  local format = given.format or http.argument "format"
  if format then return format end
  local accept = http.header "Accept" or ""
  return accept:find("application/openmetrics-text", 1, true) and "openmetrics" or "json"
end

local OPTIONS = {
  format = { check = function(value) return FORMATS[value] ~= nil end, range = '"json" or "openmetrics"' },
  host = options.of_type("table", "a host"),
}

--- Answers the request that is being served (content_by_lua) with all pools of all workers.
-- Without a lua_shared_dict "cueball" it shows those of this worker, and says so.
-- @param given nil, or { format = "json" or "openmetrics" }: whatever the client asks for
function monitor.serve(given)
  given = options.check(WHAT, given, OPTIONS)
  local host = hosts.of(WHAT, given.host)
  local http = host.http
  if not http then misuse.raise(WHAT .. ": this host serves no requests; see cueball.monitor.openmetrics() and .json()") end
  local format = format_of(http, given)
  if not FORMATS[format] then
    return http.answer(400, "text/plain; charset=utf-8", ("unknown format %q; there are json, openmetrics\n"):format(format))
  end
  local all, problem = host.board()
  local pause = slices.of(host)
  local view = all and all:view(pause) or view_of_this(pause)
  view.problem = problem
  if format == "json" then return http.answer(200, "application/json", page.json(view, pause)) end
  http.answer(200, openmetrics.content_type, openmetrics.text(view, pause))
end

return monitor
