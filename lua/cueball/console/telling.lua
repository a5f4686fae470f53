--- Commands that tell how a pool does: :look, :why, :explain, :plan.
local commands = require "cueball.console.commands"
local state_of = require("cueball.monitor.snapshot").state_of
local target = require "cueball.console.target"
local text = require "cueball.text"

local rows = {}

local function add(row) rows[#rows + 1] = row end

local span = commands.duration_text
local BACKENDS_MAX = 50

-- -------------------------------------------------------------------- :look --

local COLUMNS = { "backend", "state", "total", "idle", "busy", "connecting", "error" }

-- What went wrong last; and when, where all is well again.
local function error_of(backend)
  if backend.error or not backend.last_error then return backend.error or "" end
  return ("%s ago: %s"):format(span(backend.last_error_ago_ms), backend.last_error)
end

local function cells_of(backend)
  return { backend.key, state_of(backend), tostring(backend.total), tostring(backend.idle), tostring(backend.busy),
    tostring(backend.connecting), error_of(backend) }
end

-- Rows of cells as aligned lines.
local function aligned(lines)
  local widths = {}
  for _, cells in ipairs(lines) do
    for index, cell in ipairs(cells) do widths[index] = math.max(widths[index] or 0, #cell) end
  end
  local made = {}
  for _, cells in ipairs(lines) do
    local padded = {}
    for index, cell in ipairs(cells) do padded[index] = cell .. (" "):rep(widths[index] - #cell) end
    made[#made + 1] = text.trimmed_end(table.concat(padded, "  "))
  end
  return table.concat(made, "\n")
end

local function pool_line(pool)
  local stats = pool:stats()
  local paused = pool:is_paused() and ", paused" or ""
  return ("%s %s%s: %d of %d connections, %d busy, %d idle, %d connecting; %d claims wait, %d were granted, %d refused"):format(pool.name,
    pool:state(), paused, stats.idle + stats.busy, pool:max_connections(), stats.busy, stats.idle,
    stats.connecting + stats.backing_off, stats.waiting, stats.granted, stats.claim_timeouts + stats.claims_refused)
end

add {
  name = "look", arguments = "[POOL]", help = "a line for the pool, and one for each backend", complete = target.names,
  run = function(session, argument)
    local pool, message = target.pool(session, argument)
    if not pool then return nil, message end
    local backends, lines = pool:backends(), { COLUMNS }
    for index = 1, math.min(#backends, BACKENDS_MAX) do lines[#lines + 1] = cells_of(backends[index]) end
    local more = #backends > BACKENDS_MAX and ("\n… %d more"):format(#backends - BACKENDS_MAX) or ""
    session:print(pool_line(pool) .. (#backends > 0 and "\n" .. aligned(lines) .. more or "\nno backend is known"), "result")
    return true
  end,
}

-- --------------------------------------------------------------------- :why --

-- Whether a claim would wait now, and for what.
local function claim_sentence(pool)
  local stats, state = pool:stats(), pool:state()
  if pool:is_paused() then return "A claim would wait: the pool is paused." end
  if state == "failed" then return "A claim would be refused at once: the pool has failed. " .. (pool:last_error() or "") end
  if state == "stopping" or state == "stopped" then return "A claim would be refused: the pool is " .. state .. "." end
  if stats.waiting > 0 then return ("A claim would wait behind %d others."):format(stats.waiting) end
  if stats.idle > 0 then return ("A claim would have a connection at once: %d are idle."):format(stats.idle) end
  if stats.backends == 0 then return "A claim would wait: no backend is known. " .. (pool:resolver().message or "") end
  if stats.busy > 0 then return ("A claim would wait: all %d connections that are open are busy."):format(stats.busy) end
  return ("A claim would wait: none is open; %d attempts are under way, %d pause."):format(stats.connecting, stats.backing_off)
end

local function holder_sentence(pool)
  local leases = pool:leases { limit = 1 }
  local oldest = leases[1]
  if not oldest or pool:stats().idle > 0 then return nil end
  return ("The oldest lease is held for %s%s%s."):format(span(oldest.held_ms), oldest.task and " by " .. oldest.task or "",
    oldest.site and ", claimed at " .. oldest.site or "")
end

local function backend_sentence(backend, connections)
  local state = state_of(backend)
  if state == "up" then return nil end
  local next_ms = backend.back_in_ms
  for _, connection in ipairs(connections) do
    if connection.backend == backend.key and connection.next_attempt_ms then
      next_ms = math.min(next_ms or math.huge, connection.next_attempt_ms)
    end
  end
  return ("%s is %s%s%s."):format(backend.key, state, backend.error and ": " .. backend.error or "",
    next_ms and ("; it is tried again in " .. span(next_ms)) or "")
end

add {
  name = "why", arguments = "[POOL]", help = "why a claim would wait now, and why backends are not used", complete = target.names,
  run = function(session, argument)
    local pool, message = target.pool(session, argument)
    if not pool then return nil, message end
    local lines = { claim_sentence(pool), holder_sentence(pool) }
    local connections = pool:connections()
    for _, backend in ipairs(pool:backends()) do lines[#lines + 1] = backend_sentence(backend, connections) end
    local resolver = pool:resolver()
    if resolver.failing then
      lines[#lines + 1] = ("The resolver fails since %s: %s"):format(span(resolver.since_ms or 0), resolver.message or "")
    end
    session:print(table.concat(lines, "\n"), "result")
    return true
  end,
}

add {
  name = "explain", arguments = "[LEASE]", help = "why the claim of a lease waited; the latest :claim by default",
  takes_lua = true,
  run = function(session, argument)
    local fn, message = session:compile(argument == "" and "lease" or argument, ":explain")
    if not fn then return nil, message end
    local lease = fn()
    if type(lease) ~= "table" or type(lease.explain) ~= "function" then return nil, "that is no lease; :claim makes one" end
    local words, why = lease:explain()
    if not words then return nil, why end
    session:print(words == "" and "it had a connection at once" or words, "result")
    return true
  end,
}

-- -------------------------------------------------------------------- :plan --

add {
  name = "plan", arguments = '[POOL] { remove = { "KEY" }, add = { "ADDRESS" }, OPTION = VALUE }', takes_lua = true,
  help = "what the planner would do, without doing it",
  run = function(session, argument)
    local pool, rest = target.split(session, argument)
    if not pool then return nil, rest end
    local fn, message = session:compile(rest == "" and "{}" or rest, ":plan")
    if not fn then return nil, message end
    local plan, why = pool:plan(fn())
    if not plan then return nil, why end
    session:print(text.clean_lines(plan.text), "result")
    return true
  end,
}

return rows
