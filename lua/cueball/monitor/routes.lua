--- What the monitor's server answers, by path.  GET changes nothing: there is no path by which anything is changed.
local dashboard = require "cueball.monitor.dashboard"
local detail = require "cueball.monitor.detail"
local json = require "cueball.monitor.json"
local openmetrics = require "cueball.monitor.openmetrics"
local page = require "cueball.monitor.page"
local plan = require "cueball.monitor.plan"
local slices = require "cueball.monitor.slices"
local snapshot = require "cueball.monitor.snapshot"
local text = require "cueball.text"
local writers = require "cueball.monitor.writer"

local routes = {}

routes.LIMIT = detail.LIMIT
local KEPT_MAX = 16    -- texts: who asks for a thousand different ones has them made, not kept
local MAKING_MS = 10000 -- for a text to be made
local FRESH_NS = 250e6 -- several who ask for the same within this time are given the same text

-- What every answer with data has: it is nobody's to keep, to show in a frame, or to take for something else.
routes.headers = {
  { "Cache-Control", "no-store" },
  { "X-Content-Type-Options", "nosniff" },
  { "Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'" },
  { "Cross-Origin-Resource-Policy", "same-origin" },
  { "Referrer-Policy", "no-referrer" },
}

local function with(own, rest)
  local all = { unpack(own) }
  for _, header in ipairs(rest) do all[#all + 1] = header end
  return all
end

--- Answers with an error: { "error": "in words", "name": "short_name" }.
-- @param headers nil, or more headers
function routes.fail(response, status, message, name, headers)
  local all = with({ { "Content-Type", "application/json" } }, routes.headers)
  return response:answer(status, with(headers or {}, all), json.encode { error = text.message(message), name = name } .. "\n")
end

local function give(response, content_type, body)
  return response:answer(200, with({ { "Content-Type", content_type } }, routes.headers), body)
end

local KEPT_SIZE = 1048576 -- bytes: what is larger is for those who ask while it is made, and not kept

local function size_of(made)
  if type(made) == "string" then return #made end
  local size = 0
  for _, piece in ipairs(made) do size = size + #piece end
  return size
end

-- Makes a text, or a list of its pieces, unless one was made a moment ago.  Who asks while it is made waits for that one: many who ask at
-- once cost what one does.  The request of the one who makes it may have ended in the middle, so that is not waited for without an end.
local function fresh(server, key, make)
  local kept = server.kept[key]
  local now = server.host.now()
  if kept and kept.text and now - kept.at < FRESH_NS then return kept.text end
  if kept and kept.waiting and now - kept.at < MAKING_MS * 1e6 then
    local waiter = server.host.waiter()
    kept.waiting[#kept.waiting + 1] = waiter
    return waiter:wait(MAKING_MS) or fresh(server, key, make)
  end
  kept = { at = now, text = nil, waiting = {} }
  if not server.kept[key] then server.kept_count = server.kept_count + 1 end
  if server.kept_count > KEPT_MAX then server.kept, server.kept_count = {}, 1 end
  server.kept[key] = kept
  local ok, made = xpcall(make, text.traced)
  local waiting = kept.waiting
  kept.text, kept.at, kept.waiting = ok and made or nil, server.host.now(), nil
  if server.kept[key] == kept and not (ok and size_of(made) <= KEPT_SIZE) then
    server.kept[key], server.kept_count = nil, server.kept_count - 1
  end
  for _, waiter in ipairs(waiting) do waiter:wake(kept.text) end
  if not ok then error(made, 0) end
  return made
end

local function wanted_of(server, pools)
  local list = json.list {}
  for _, pool in ipairs(pools) do
    if server.is_wanted(pool.name) then list[#list + 1] = pool end
  end
  return list
end

-- All workers, or this process where it knows no others.
local function view_of_all(server, pause)
  local view = server.view and server.view(pause)
  if not view then return snapshot.view(pause, { is_wanted = server.is_wanted }) end
  for _, worker in ipairs(view.workers) do worker.pools = wanted_of(server, worker.pools) end
  view.pools = wanted_of(server, view.pools)
  return view
end

local function metrics(server, request, response)
  local names = request.arguments:get "names" or "both"
  local format = request.arguments:get "format" or openmetrics.format_for(request.headers.accept)
  local content_type = openmetrics.content_types[format]
  if not openmetrics.names[names] then return routes.fail(response, 400, "names is both, cueball or opentelemetry", "invalid") end
  if not content_type then return routes.fail(response, 400, "format is openmetrics or prometheus", "invalid") end
  give(response, content_type, fresh(server, ("metrics\0%s\0%s"):format(names, format), function()
    local pause = slices.of(server.host)
    local view = view_of_all(server, pause)
    local pieces = {}
    local writer = writers.new(function(piece) pieces[#pieces + 1] = piece end)
    openmetrics.write(writer, view, pause, { names = names, format = format })
    writer:flush()
    return pieces
  end))
end

--- The JSON of /snapshot.
-- @param given { pool =, where =, limit =, focus = }
function routes.snapshot_text(server, given)
  local key = ("%s\0%s\0%d\0%s"):format(given.pool or "", tostring(given.where), given.limit, given.focus or "")
  return fresh(server, key, function()
    local pause = slices.of(server.host)
    return page.snapshot(detail.snapshot(server.host, {
      detail = true, pool = given.pool, where = given.where, limit = given.limit, focus = given.focus, is_wanted = server.is_wanted,
    }, pause), pause)
  end)
end

-- Why there is no pool of that name to be shown; nil: there is.
local function pool_of(server, name)
  for _, one in ipairs(snapshot.named()) do
    if one.name == name and server.is_wanted(name, one.pool) then return one.pool end
  end
  return nil, "there is no pool of the name " .. text.show(name)
end

local function show_snapshot(server, request, response)
  local arguments = request.arguments
  local limit = arguments:get "limit"
  local given = {
    pool = arguments:get "pool", focus = arguments:get "focus", where = arguments:get "where" == "1",
    limit = limit and tonumber(limit) or detail.LIMIT,
  }
  if given.limit % 1 ~= 0 or given.limit < 1 or given.limit > 1000000 then
    return routes.fail(response, 400, "limit must be a whole number from 1 to 1000000", "invalid")
  end
  if given.pool then
    local pool, message = pool_of(server, given.pool)
    if not pool then return routes.fail(response, 404, message, "not_found") end
  end
  give(response, "application/json", routes.snapshot_text(server, given))
end

local function show_plan(server, request, response)
  local name = request.arguments:get "pool"
  if not name then return routes.fail(response, 400, "the argument pool says of which pool", "invalid") end
  local pool, message = pool_of(server, name)
  if not pool then return routes.fail(response, 404, message, "not_found") end
  local made, why, kind = plan.of(pool, request.arguments)
  if not made then return routes.fail(response, 400, why, kind or "invalid") end
  give(response, "application/json", json.encode(made, text.clean_lines)) -- its text has lines: JSON escapes their ends
end

local function show_events(server, request, response, connection)
  if server.stream:answer(request, response, connection, routes.headers) then return end
  routes.fail(response, 503, "too many read the events already", "too_many", { { "Retry-After", "2" } })
end

local BY_PATH = { ["/metrics"] = metrics, ["/snapshot"] = show_snapshot, ["/plan"] = show_plan, ["/events"] = show_events }

--- Whether what is at a path tells nothing of pools.
function routes.is_public(path)
  return dashboard.find(path) ~= nil
end

local function show_page(request, response, found)
  local headers = with({ { "Content-Type", found.type }, { "ETag", found.etag } }, dashboard.headers)
  if request.headers["if-none-match"] == found.etag then return response:answer(304, headers) end
  response:answer(200, headers, found.body)
end

--- Answers a request that may be answered.
function routes.answer(server, request, response, connection)
  local found = dashboard.find(request.path)
  if found then return show_page(request, response, found) end
  local show = BY_PATH[request.path]
  if show then return show(server, request, response, connection) end
  routes.fail(response, 404, "there is nothing at this path; there are /, /metrics, /snapshot, /events and /plan", "not_found")
end

return routes
