--- Pools as OpenMetrics text, which Prometheus and others read: under cueball's own names, and under those that OpenTelemetry has for
-- pools of connections (https://opentelemetry.io/docs/specs/semconv/database/database-metrics/), as Prometheus writes these.
local exposition = require "cueball.monitor.exposition"
local measured = require "cueball.pool.counts"
local numbers = require "cueball.monitor.numbers"
local writers = require "cueball.monitor.writer"
local label = exposition.label
local INDEX = numbers.index

local openmetrics = { content_types = exposition.content_types }

local COUNTERS = {
  { "claims", "claims", "Claims made." },
  { "claims_granted", "granted", "Claims answered with a connection." },
  { "claims_granted_at_once", "granted_at_once", "Claims that found an idle connection." },
  { "claims_timed_out", "claim_timeouts", "Claims refused at their time limit." },
  { "claims_refused", "claims_refused", "Claims refused for another reason." },
  { "claims_cancelled", "claims_cancelled", "Claims whose claimer left." },
  { "leases_released", "released", "Leases released." },
  { "leases_closed", "leases_closed", "Leases whose connection the claimer closed." },
  { "leases_failed", "leases_failed", "Leases that failed in the claimer's hands." },
  { "leases_revoked", "leases_revoked", "Leases taken back by the pool." },
  { "connects", "attempts", "Attempts to open a connection." },
  { "connects_failed", "open_failures", "Attempts that failed." },
  { "connects_timed_out", "open_timeouts", "Attempts given up at their time limit." },
  { "connections_opened", "opened", "Connections opened." },
  { "connections_lost", "lost", "Connections that broke once open." },
  { "connections_closed", "closed", "Connections closed." },
  { "checks", "checks", "Checks of idle connections." },
  { "checks_failed", "checks_failed", "Checks that found a connection unfit." },
  { "backend_deaths", "backend_deaths", "Times that a backend was found dead." },
  { "backend_ejections", "ejections", "Times that a backend was ejected as an outlier." },
}

-- Counters by their reason: of a pool's counts, what begins so.
local REASONED = {
  { "refusals", "refused_by_", "reason", "Claims refused, those at their time limit among them, by the name of the error." },
  { "closes", "closed_by_", "reason", "Connections closed, by why." },
  { "deaths", "died_of_", "cause", "Times that a backend was found dead, by what the last attempt came to." },
}

local HISTOGRAMS = {
  { "claim_wait", "wait", "How long granted claims waited." },
  { "lease", "lease", "How long leases lasted." },
  { "create", "create", "How long attempts took that opened a connection." },
}

local CONNECTION_STATES = { "idle", "busy", "connecting", "backing_off", "checking", "closing" }
local BACKEND_CONNECTION_STATES = { "idle", "busy", "connecting" }
local BACKEND_STATES = { "up", "standby", "dead", "ejected", "drained", "removed" }
local POOL_STATES = { "starting", "running", "failed", "stopping", "stopped" }
local QUANTILES = { { "p50", "0.5" }, { "p90", "0.9" }, { "p99", "0.99" }, { "p999", "0.999" } }

-- Their samples: { the index of the number, its label }, by name.
for _, one in ipairs(REASONED) do
  one.samples = {}
  for _, name in ipairs(measured.names) do
    if name:sub(1, #one[2]) == one[2] then
      table.insert(one.samples, { index = INDEX[name], more = exposition.more(label(one[3], name:sub(#one[2] + 1))), name = name })
    end
  end
  table.sort(one.samples, function(first, second) return first.name < second.name end)
end

-- The upper bounds of histograms, in seconds; and the indexes of their buckets.
local bounds_s, BUCKETS = {}, {}
for index, ms in ipairs(measured.bounds_ms) do bounds_s[index] = exposition.number(ms / 1000) end
local BOUNDS = exposition.bounds(bounds_s)
for _, measure in ipairs(measured.measures) do
  local indexes = { sum = INDEX[measure .. "_sum_ms"] }
  for index = 1, #bounds_s do indexes[index] = INDEX[("%s_le_%d"):format(measure, index)] end
  indexes[#indexes + 1] = INDEX[measure .. "_above"]
  BUCKETS[measure] = indexes
end

-- Labels of all states, made once.
local function states_of(names, label_name)
  local made = {}
  for index, name in ipairs(names) do made[index] = { name, exposition.more(label(label_name or "state", name)), index = INDEX[name] } end
  return made
end

local CONNECTIONS, BACKEND_CONNECTIONS = states_of(CONNECTION_STATES), states_of(BACKEND_CONNECTION_STATES)
local BACKENDS, POOLS = states_of(BACKEND_STATES), states_of(POOL_STATES)

local function family(text, name, kind, help, unit)
  text:family("cueball_" .. name, kind, help, unit)
end

-- -------------------------------------------------------------------------- pools --

-- A number; 0 where there is none.
local function number_of(room, index)
  local value = room[index]
  return value == value and value or 0
end

local function write_numbers(text, pools, index)
  for _, pool in ipairs(pools) do text:sample(pool.label, number_of(pool.numbers, index)) end
end

local function write_counters(text, pools)
  for _, counter in ipairs(COUNTERS) do
    family(text, "pool_" .. counter[1], "counter", counter[3])
    write_numbers(text, pools, INDEX[counter[2]])
  end
end

local function write_reasons(text, pools)
  for _, one in ipairs(REASONED) do
    family(text, "pool_" .. one[1], "counter", one[4])
    for _, pool in ipairs(pools) do
      local room = pool.numbers
      for _, sample in ipairs(one.samples) do
        local value = room[sample.index]
        if value == value then text:sample(pool.label, value, sample.more) end
      end
    end
  end
end

local function write_histogram(text, pools, measure, label_of)
  local indexes = BUCKETS[measure]
  for _, pool in ipairs(pools) do
    local room = pool.numbers
    text:histogram(pool[label_of], BOUNDS, room, indexes, number_of(room, indexes.sum) / 1000)
  end
end

local function write_histograms(text, pools)
  for _, one in ipairs(HISTOGRAMS) do
    family(text, "pool_" .. one[1] .. "_seconds", "histogram", one[3], "seconds")
    write_histogram(text, pools, one[2], "label")
  end
end

-- A family with one sample for each pool.
local function write_gauge(text, pools, name, help, value_of, unit)
  family(text, "pool_" .. name, "gauge", help, unit)
  for _, pool in ipairs(pools) do text:sample(pool.label, value_of(pool)) end
end

-- A family with one sample for each pool, a number.
local function write_number(text, pools, name, help, of, unit)
  family(text, "pool_" .. name, "gauge", help, unit)
  write_numbers(text, pools, INDEX[of])
end

local function write_gauges(text, pools)
  family(text, "pool_connections", "gauge", "Slots for connections, by state.")
  for _, pool in ipairs(pools) do
    for _, state in ipairs(CONNECTIONS) do text:sample(pool.label, number_of(pool.numbers, state.index), state[2]) end
  end
  write_gauge(text, pools, "connections_max", "The ceiling on connections.", function(pool) return pool.max_connections end)
  write_number(text, pools, "connections_wanted", "Connections that the last plan asks for.", "target")
  write_number(text, pools, "claims_waiting", "Claims in the queue.", "waiting")
  write_number(text, pools, "claims_waiting_max", "The most claims that ever waited at once, in one worker.", "waiting_max")
  write_number(text, pools, "overloaded", "Workers in which overload lasts.", "overloaded")
  write_number(text, pools, "paused", "Workers in which the pool is paused.", "paused")
  write_number(text, pools, "memory_bytes", "Memory of the pool's core.", "memory_bytes", "bytes")
  write_number(text, pools, "backends", "Backends known, dead ones included.", "backends")
  write_number(text, pools, "backends_dead", "Backends that are dead, in the worker that sees most.", "dead_backends")
  write_gauge(text, pools, "resolver_up", "Whether no worker's resolver is failing.",
    function(pool) return pool.resolver.is_failing and 0 or 1 end)
  write_gauge(text, pools, "resolver_failing_seconds", "How long the resolver has failed, in the worker where it is longest.",
    function(pool) return (pool.resolver.since_ms or 0) / 1000 end, "seconds")
  family(text, "pool_workers", "gauge", "Workers that have the pool, by its state there.")
  for _, pool in ipairs(pools) do
    for _, state in ipairs(POOLS) do text:sample(pool.label, pool.states[state[1]] or 0, state[2]) end
  end
end

-- ----------------------------------------------------------------------- backends --

local function each_backend(pools, fn)
  for _, pool in ipairs(pools) do
    for index, backend in ipairs(pool.backends) do fn(pool, backend, pool.backend_labels[index]) end
  end
end

local function write_backends(text, pools)
  family(text, "backend_up", "gauge", "Whether a worker at least can use the backend.")
  each_backend(pools, function(_, backend, labels)
    text:sample(labels, (backend.states.up or backend.states.standby) and 1 or 0)
  end)
  family(text, "backend_workers", "gauge", "Workers that see the backend in this state.")
  each_backend(pools, function(_, backend, labels)
    for _, state in ipairs(BACKENDS) do
      local count = backend.states[state[1]]
      if count then text:sample(labels, count, state[2]) end
    end
  end)
  family(text, "backend_connections", "gauge", "Connections to the backend, by state.")
  each_backend(pools, function(_, backend, labels)
    for _, state in ipairs(BACKEND_CONNECTIONS) do text:sample(labels, backend[state[1]], state[2]) end
  end)
  family(text, "backend_connections_taken", "gauge", "Connections that the backend takes, where the pool wants more.")
  each_backend(pools, function(_, backend, labels)
    if backend.takes then text:sample(labels, backend.takes) end
  end)
  family(text, "backend_connections_max", "gauge", "The most connections to the backend at once, added up over the workers.")
  each_backend(pools, function(_, backend, labels) text:sample(labels, backend.total_max) end)
  family(text, "backend_state_seconds", "gauge", "How long no worker has seen the backend change its state.", "seconds")
  each_backend(pools, function(_, backend, labels) text:sample(labels, backend.since_ms / 1000) end)
end

-- The labels of a worker's quantiles, behind that of the pool.
local function quantiles_of(worker_number)
  local made = {}
  for index, one in ipairs(QUANTILES) do
    made[index] = {
      more = exposition.more(label("worker", worker_number) .. "," .. label("quantile", one[2])),
      wait = INDEX["wait_ms_" .. one[1]], lease = INDEX["lease_ms_" .. one[1]],
    }
  end
  return made
end

-- Quantiles of several workers cannot be made into one: each has its own.  An old worker leaves its label to the new one.
local function write_quantiles(text, workers, labels, name, measure, help)
  family(text, name, "summary", help, "seconds")
  local seen = {}
  for _, worker in ipairs(workers) do
    local number = tostring(worker.id or worker.pid or 0)
    if not worker.is_exiting and not seen[number] then
      seen[number] = true
      local quantiles = quantiles_of(number)
      for _, pool in ipairs(worker.pools) do
        local room = numbers.ensure(pool)
        local own = labels[pool.name] or label("pool", pool.name)
        for _, one in ipairs(quantiles) do text:sample(own, number_of(room, one[measure]) / 1000, one.more) end
      end
    end
  end
end

-- ------------------------------------------------------------------- OpenTelemetry --

local OTEL = "db_client_connection_"

local OTEL_HISTOGRAMS = {
  { "create_time", "create", "The time it took to create a new connection." },
  { "wait_time", "wait", "The time it took to obtain an open connection from the pool." },
  { "use_time", "lease", "The time between borrowing a connection and returning it to the pool." },
}

local OTEL_IDLE = exposition.more(label("db_client_connection_state", "idle"))
local OTEL_USED = exposition.more(label("db_client_connection_state", "used"))

local function otel_gauge(text, pools, name, help, value_of)
  text:family(OTEL .. name, "gauge", help)
  for _, pool in ipairs(pools) do
    local value = value_of(pool)
    if value then text:sample(pool.otel_label, value) end
  end
end

local function write_otel(text, pools)
  text:family(OTEL .. "count", "gauge", "The number of connections that are currently in state described by the state attribute.")
  for _, pool in ipairs(pools) do
    text:sample(pool.otel_label, number_of(pool.numbers, INDEX.idle), OTEL_IDLE)
    text:sample(pool.otel_label, number_of(pool.numbers, INDEX.busy), OTEL_USED)
  end
  otel_gauge(text, pools, "max", "The maximum number of open connections allowed.", function(pool) return pool.max_connections end)
  otel_gauge(text, pools, "idle_min", "The minimum number of idle open connections allowed.", function(pool) return pool.options.spares end)
  otel_gauge(text, pools, "pending_requests", "The number of current pending requests for an open connection.",
    function(pool) return number_of(pool.numbers, INDEX.waiting) end)
  text:family(OTEL .. "timeouts", "counter",
    "The number of connection timeouts that have occurred trying to obtain a connection from the pool.")
  for _, pool in ipairs(pools) do text:sample(pool.otel_label, number_of(pool.numbers, INDEX.claim_timeouts)) end
  for _, one in ipairs(OTEL_HISTOGRAMS) do
    text:family(OTEL .. one[1] .. "_seconds", "histogram", one[3], "seconds")
    write_histogram(text, pools, one[2], "otel_label")
  end
end

-- -------------------------------------------------------------------------- whole --

--- Whose names there are.
openmetrics.names = { both = true, cueball = true, opentelemetry = true }

-- What the writers want of a pool, beside what it is.
-- @return a list of that; the labels of pools, by name
local function labelled(pools, pause)
  local made, labels = {}, {}
  for index, pool in ipairs(pools) do
    local own, backend_labels = label("pool", pool.name), {}
    labels[pool.name] = own
    for at, backend in ipairs(pool.backends) do backend_labels[at] = own .. "," .. label("backend", backend.key) end
    made[index] = {
      label = own, otel_label = label("db_client_connection_pool_name", pool.name), backend_labels = backend_labels,
      numbers = numbers.ensure(pool), backends = pool.backends, max_connections = pool.max_connections, resolver = pool.resolver,
      states = pool.states, options = pool.options,
    }
    if pause then pause() end
  end
  return made, labels
end

--- The format that a client wants.
-- @param accept its Accept header, or nil
function openmetrics.format_for(accept)
  return (accept or ""):find("application/openmetrics-text", 1, true) and "openmetrics" or "prometheus"
end

--- Writes the text.
-- @param writer of cueball.monitor.writer
-- @param view { version, workers, pools } of Board:view or snapshot.view
-- @param pause nil, or of cueball.monitor.slices
-- @param given nil, or { names = "both" (the default), "cueball" or "opentelemetry"; format = "openmetrics" (the default) or "prometheus" }
function openmetrics.write(writer, view, pause, given)
  local names = given and given.names or "both"
  local text = exposition.new(writer, pause, given and given.format or "openmetrics")
  local pools, labels = labelled(view.pools, pause)
  if names ~= "opentelemetry" then
    family(text, "build", "info", "Which cueball this is.")
    text:sample(label("version", view.version), 1)
    family(text, "workers", "gauge", "Workers whose pools are shown here.")
    text:sample("", #view.workers)
    write_gauges(text, pools)
    write_counters(text, pools)
    write_reasons(text, pools)
    write_histograms(text, pools)
    write_quantiles(text, view.workers, labels, "worker_claim_wait_seconds", "wait", "How long granted claims waited, in one worker.")
    write_quantiles(text, view.workers, labels, "worker_lease_seconds", "lease", "How long leases lasted, in one worker.")
    write_backends(text, pools)
  end
  if names ~= "cueball" then write_otel(text, pools) end
  text:finish()
end

--- The same as one text.
function openmetrics.text(view, pause, given)
  local writer, whole = writers.kept()
  openmetrics.write(writer, view, pause, given)
  return whole()
end

return openmetrics
