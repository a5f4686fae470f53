--- Shows pools: as JSON, and as OpenMetrics text for Prometheus and its like.
--
--   location = /status { content_by_lua_block { require("cueball.monitor").serve() } }     all workers of an nginx
--   require("cueball.monitor").openmetrics()                                               this process, anywhere
--
-- docs/monitor.md says what is in it.
local misuse = require "cueball.misuse"
local hosts = require "cueball.host"
local location = require "cueball.monitor.location"
local detail = require "cueball.monitor.detail"
local openmetrics = require "cueball.monitor.openmetrics"
local options = require "cueball.options"
local page = require "cueball.monitor.page"
local server = require "cueball.monitor.server"
local slices = require "cueball.monitor.slices"
local snapshot = require "cueball.monitor.snapshot"
local writers = require "cueball.monitor.writer"

local monitor = {}

local WHAT = "cueball.monitor.serve"

local SNAPSHOT_OPTIONS = {
  detail = options.of_type "boolean",
  pool = options.NAME,
  where = options.of_type "boolean",
  limit = options.whole(1, 1000000),
  host = options.of_type("table", "a host"),
}

--- The pools of this process, as plain tables.
-- @param given nil, or a table:
--   detail  with all that is for people: signals, each connection, who holds them, who waits
--   pool    the name of the only one that is wanted
--   where   the tracebacks of those that hold or wait, too
--   limit   entries of each list of details, 1,000 by default
-- @return { version, time_s, process, pools = { { name, state, stats, options, backends, resolver, last_error }, … } }
function monitor.snapshot(given)
  given = options.check("cueball.monitor.snapshot", given, SNAPSHOT_OPTIONS)
  return detail.snapshot(hosts.of("cueball.monitor.snapshot", given.host), given)
end

--- The same as OpenMetrics text.
function monitor.openmetrics()
  return openmetrics.text(snapshot.view(slices.none))
end

--- The same as JSON, in the form of serve().
function monitor.json()
  local writer, whole = writers.kept()
  page.json(writer, snapshot.view(slices.none, { has_lines = true }), slices.none)
  return whole()
end

local FORMATS = { json = true, openmetrics = true, prometheus = true }

-- ?format= comes first; then what the client says it takes; JSON by default.
local function format_of(http, given)
  local format = given.format or http.argument "format"
  if format then return format end
  local accept = http.header "Accept" or ""
  return accept:find("application/openmetrics-text", 1, true) and "openmetrics" or "json"
end

local OPTIONS = options.merge(server.OPTIONS, {
  at = {
    check = function(value) return type(value) == "string" and value:find "^/.*/$" ~= nil or value == "/" end,
    range = 'the path of a location: "/", or one that begins and ends with "/"',
  },
  format = { check = function(value) return FORMATS[value] ~= nil end, range = '"json", "openmetrics" or "prometheus"' },
  host = options.of_type("table", "a host"),
})

options.note("cueball.monitor.snapshot", SNAPSHOT_OPTIONS)
options.note(WHAT, OPTIONS)

local LISTEN = "127.0.0.1:9190"
local OF_LOCATION, OF_SERVER = { "at", "format" }, { "listen", "tls", "mode", "connections_max" }

-- Answers for the dashboard, and all that it asks for.
local function serve_location(host, http, given)
  for _, name in ipairs(OF_SERVER) do
    if given[name] then
      misuse.raise(("%s: option '%s' is for a server of its own; nginx's own configuration has the like"):format(WHAT, name))
    end
  end
  location.answer(host, http, given, function(pause)
    local all = host.board()
    return all and all:view(pause) or nil
  end)
end

-- Serves by itself, where no request is being answered.
local function listen(host, given)
  for _, name in ipairs(OF_LOCATION) do
    if given[name] then misuse.raise(("%s: option '%s' is for a location of nginx"):format(WHAT, name)) end
  end
  given.listen = given.listen or LISTEN
  return server.start(WHAT, host, given)
end

-- The pools of the worker that answers, in detail.
local function answer_detail(host, http)
  local pause = slices.of(host)
  local taken = detail.snapshot(host, { detail = true, pool = http.argument "pool", where = http.argument "where" == "1" }, pause)
  http.answer(200, "application/json", page.snapshot(taken, pause))
end

--- Serves the pools.
--
-- On libuv it listens: at `listen`, 127.0.0.1:9190 by default.
-- In nginx it answers the request that is being served (content_by_lua) with all pools of all workers.
-- Without a lua_shared_dict "cueball" it shows those of this worker, and says so.
-- @param given nil, or a table. On libuv:
--   listen  "127.0.0.1:9190", "[::1]:0" (any port that is free), "unix:/path"
--   token   who asks has to send it; without one the address must be this machine's own
--   tls     options of cueball.tls.server: cert_file, key_file …
--   hosts   names that the server is known by, beside "localhost" and numbers
--   pools   names of the pools that are shown; all by default
--   mode    of the path of a UNIX socket
--   connections_max, streams_max   how many at once; readers of /events
-- In nginx:
--   at      the path of the location that has the dashboard, and below it /metrics, /snapshot, /events, /plan; token, hosts, pools,
--           streams_max are as on libuv
--   format  "json", "openmetrics" or "prometheus": whatever the client asks for
-- @return on libuv: the server: .address, :close(); or nil, message, name
function monitor.serve(given)
  given = options.merge(options.check(WHAT, given, OPTIONS), {})
  local host = hosts.of(WHAT, given.host)
  local http = host.http
  if not http then return listen(host, given) end
  if given.at then return serve_location(host, http, given) end
  local format = format_of(http, given)
  if not FORMATS[format] then
    return http.answer(400, "text/plain; charset=utf-8", ("unknown format %q; there are json, openmetrics, prometheus\n"):format(format))
  end
  if http.argument "detail" == "1" and format == "json" then return answer_detail(host, http) end
  local all, problem = host.board()
  local pause = slices.of(host)
  local has_lines = format == "json"
  local view = all and all:view(pause, has_lines) or snapshot.view(pause, { has_lines = has_lines })
  view.problem = problem
  local names = http.argument "names"
  if format ~= "json" and names and not openmetrics.names[names] then
    return http.answer(400, "text/plain; charset=utf-8", ("unknown names %q; there are both, cueball, opentelemetry\n"):format(names))
  end
  local writer = writers.new(http.begin(200, { { "Content-Type", openmetrics.content_types[format] or "application/json" } }))
  if format == "json" then
    page.json(writer, view, pause)
  else
    openmetrics.write(writer, view, pause, { names = names, format = format })
  end
  writer:flush()
end

return monitor
