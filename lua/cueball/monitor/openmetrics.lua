--- Pools as OpenMetrics text, which Prometheus and others read.
-- The format: https://github.com/OpenObservability/OpenMetrics/blob/main/specification/OpenMetrics.md
local clean = require("cueball.text").clean

local openmetrics = {
  content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8",
}

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

local CONNECTION_STATES = { "idle", "busy", "connecting", "backing_off", "checking", "closing" }
local BACKEND_CONNECTION_STATES = { "idle", "busy", "connecting" }
local BACKEND_STATES = { "up", "standby", "dead", "ejected", "removed" }
local POOL_STATES = { "starting", "running", "failed", "stopping", "stopped" }
local QUANTILES = { { "p50", "0.5" }, { "p90", "0.9" }, { "p99", "0.99" }, { "p999", "0.999" } }

local ESCAPES = { ["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n" }

-- Labels in the order given: { "pool", "db", "state", "idle" }.
local function labels_of(pairs_of)
  local parts = {}
  for index = 1, #pairs_of, 2 do
    parts[#parts + 1] = ('%s="%s"'):format(pairs_of[index], (clean(tostring(pairs_of[index + 1])):gsub('[\\"\n]', ESCAPES)))
  end
  return #parts > 0 and "{" .. table.concat(parts, ",") .. "}" or ""
end

local Text = {}
Text.__index = Text

-- Begins a family; what follows is samples of it.
function Text:family(name, kind, help, unit)
  self.name, self.suffix = "cueball_" .. name, kind == "counter" and "_total" or kind == "info" and "_info" or ""
  self:line(("# TYPE %s %s"):format(self.name, kind))
  if unit then self:line(("# UNIT %s %s"):format(self.name, unit)) end
  self:line(("# HELP %s %s"):format(self.name, help))
end

function Text:line(text)
  self[#self + 1] = text
end

function Text:sample(labels, value)
  self:line(("%s%s%s %.17g"):format(self.name, self.suffix, labels_of(labels), value))
  if self.pause then self.pause() end
end

local function write_counters(text, pools)
  for _, counter in ipairs(COUNTERS) do
    text:family("pool_" .. counter[1], "counter", counter[3])
    for _, pool in ipairs(pools) do text:sample({ "pool", pool.name }, pool.stats[counter[2]] or 0) end
  end
end

-- A family with one sample for each pool.
local function write_gauge(text, pools, name, help, value_of, unit)
  text:family("pool_" .. name, "gauge", help, unit)
  for _, pool in ipairs(pools) do text:sample({ "pool", pool.name }, value_of(pool)) end
end

-- A family with one sample for each pool and state.
local function write_states(text, pools, name, help, states, counts_of)
  text:family("pool_" .. name, "gauge", help)
  for _, pool in ipairs(pools) do
    local counts = counts_of(pool)
    for _, state in ipairs(states) do text:sample({ "pool", pool.name, "state", state }, counts[state] or 0) end
  end
end

local function write_gauges(text, pools)
  local function stat(name) return function(pool) return pool.stats[name] or 0 end end
  write_states(text, pools, "connections", "Slots for connections, by state.", CONNECTION_STATES,
    function(pool) return pool.stats end)
  write_gauge(text, pools, "connections_max", "The ceiling on connections.", function(pool) return pool.max_connections end)
  write_gauge(text, pools, "connections_wanted", "Connections that the last plan asks for.", stat "target")
  write_gauge(text, pools, "claims_waiting", "Claims in the queue.", stat "waiting")
  write_gauge(text, pools, "claims_waiting_max", "The most claims that ever waited at once, in one worker.", stat "waiting_max")
  write_gauge(text, pools, "overloaded", "Workers in which overload lasts.", stat "overloaded")
  write_gauge(text, pools, "memory_bytes", "Memory of the pool's core.", stat "memory_bytes", "bytes")
  write_gauge(text, pools, "backends", "Backends known, dead ones included.", stat "backends")
  write_gauge(text, pools, "backends_dead", "Backends that are dead, in the worker that sees most.", stat "dead_backends")
  write_gauge(text, pools, "resolver_up", "Whether no worker's resolver is failing.",
    function(pool) return pool.resolver.is_failing and 0 or 1 end)
  write_gauge(text, pools, "resolver_failing_seconds", "How long the resolver has failed, in the worker where it is longest.",
    function(pool) return (pool.resolver.since_ms or 0) / 1000 end, "seconds")
  write_states(text, pools, "workers", "Workers that have the pool, by its state there.", POOL_STATES,
    function(pool) return pool.states end)
end

local function each_backend(pools, fn)
  for _, pool in ipairs(pools) do
    for _, backend in ipairs(pool.backends) do fn(pool, backend) end
  end
end

local function write_backends(text, pools)
  text:family("backend_up", "gauge", "Whether a worker at least can use the backend.")
  each_backend(pools, function(pool, backend)
    text:sample({ "pool", pool.name, "backend", backend.key }, (backend.states.up or backend.states.standby) and 1 or 0)
  end)
  text:family("backend_workers", "gauge", "Workers that see the backend in this state.")
  each_backend(pools, function(pool, backend)
    for _, state in ipairs(BACKEND_STATES) do
      local count = backend.states[state]
      if count then text:sample({ "pool", pool.name, "backend", backend.key, "state", state }, count) end
    end
  end)
  text:family("backend_connections", "gauge", "Connections to the backend, by state.")
  each_backend(pools, function(pool, backend)
    for _, state in ipairs(BACKEND_CONNECTION_STATES) do
      text:sample({ "pool", pool.name, "backend", backend.key, "state", state }, backend[state])
    end
  end)
end

local function write_takes(text, pools)
  text:family("backend_connections_taken", "gauge", "Connections that the backend takes, where the pool wants more.")
  each_backend(pools, function(pool, backend)
    if backend.takes then text:sample({ "pool", pool.name, "backend", backend.key }, backend.takes) end
  end)
end

-- Quantiles of several workers cannot be made into one: each has its own.  An old worker leaves its label to the new one.
local function write_quantiles(text, workers, name, prefix, help)
  text:family(name, "gauge", help, "seconds")
  local seen = {}
  for _, worker in ipairs(workers) do
    local label = tostring(worker.id or worker.pid or 0)
    if not worker.is_exiting and not seen[label] then
      seen[label] = true
      for _, pool in ipairs(worker.pools) do
        for _, quantile in ipairs(QUANTILES) do
          text:sample({ "pool", pool.name, "worker", label, "quantile", quantile[2] }, pool.stats[prefix .. quantile[1]] / 1000)
        end
      end
    end
  end
end

--- The text.
-- @param view { version, workers, pools }: workers as snapshot.take makes them, with id, pid and is_exiting; pools of snapshot.merge
-- @param pause nil, or of cueball.monitor.slices
function openmetrics.text(view, pause)
  local text = setmetatable({ pause = pause }, Text)
  text:family("build", "info", "Which cueball this is.")
  text:sample({ "version", view.version }, 1)
  text:family("workers", "gauge", "Workers whose pools are shown here.")
  text:sample({}, #view.workers)
  write_gauges(text, view.pools)
  write_counters(text, view.pools)
  write_quantiles(text, view.workers, "pool_claim_wait_seconds", "wait_ms_", "How long granted claims waited.")
  write_quantiles(text, view.workers, "pool_lease_seconds", "lease_ms_", "How long leases lasted.")
  write_backends(text, view.pools)
  write_takes(text, view.pools)
  text:line "# EOF\n"
  return table.concat(text, "\n")
end

return openmetrics
