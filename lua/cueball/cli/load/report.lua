--- What a run of load has shown: for people, and as JSON.
local report = {}

local QUANTILES = {
  { "p50", 0.5 }, { "p75", 0.75 }, { "p90", 0.9 }, { "p99", 0.99 }, { "p99.9", 0.999 }, { "p99.99", 0.9999 },
}
local KEYS = { "p50", "p75", "p90", "p99", "p99_9", "p99_99" }
local SPANS = { { "latency", "latency" }, { "wait", "wait" }, { "lease", "lease" } }
local POOL = { "opened", "open_failures", "lost", "claim_timeouts", "claims_refused", "waiting_max" }
local BARS_MAX, BAR_COLUMNS = 20, 40
local KEPT_SHARE, LATE_NS = 0.99, 10e6
local KEY_ORDER = {
  "seconds", "requests", "rate", "rate_asked", "is_interrupted", "outcomes", "latency_ms", "wait_ms", "lease_ms", "generator", "pool",
  "histogram", "count", "mean", "p50", "p75", "p90", "p99", "p99_9", "p99_99", "max", "kept_rate", "is_late", "late_ms", "cpu_share",
  "in_flight_max", "from_ms", "to_ms",
}

--- Every member of the objects, as a set: the manual page has them all.
report.members = {}
for _, name in ipairs(KEY_ORDER) do report.members[name] = true end
for _, name in ipairs(POOL) do report.members[name] = true end

--- "850 us", "5.1 ms", "2.04 s"
function report.span(ns)
  if not ns then return "-" end
  if ns < 1e6 then return ("%.0f us"):format(ns / 1e3) end
  if ns < 1e7 then return ("%.2f ms"):format(ns / 1e6) end
  if ns < 1e9 then return ("%.1f ms"):format(ns / 1e6) end
  return ("%.2f s"):format(ns / 1e9)
end
local span = report.span

local function total(run)
  local sum = 0
  for _, count in pairs(run.outcomes) do sum = sum + count end
  return sum
end

-- Whether the generator did as it was asked: what it measured is worth no more than that.
-- @return nil in a closed loop; whether it began as many as it should have, and whether late
local function has_kept(run)
  if not run.plan.rate then return nil end
  local begun = total(run) - (run.outcomes["not begun"] or 0)
  local expected = run.plan.rate * run.seconds
  local slack = run.plan.is_even and KEPT_SHARE or KEPT_SHARE - 4 / math.sqrt(math.max(1, expected)) -- what chance may take away
  -- Where there may be so many at a time only, the others wait because of that.
  local is_late = run.plan.concurrency == math.huge and (run.late:quantile(0.99) or 0) > LATE_NS
  return begun >= expected * slack, is_late
end

-- ------------------------------------------------------------------------- text --

local function sorted_outcomes(outcomes)
  local names = {}
  for name in pairs(outcomes) do names[#names + 1] = name end
  table.sort(names, function(a, b)
    if (a == "ok") ~= (b == "ok") then return a == "ok" end
    if outcomes[a] ~= outcomes[b] then return outcomes[a] > outcomes[b] end
    return a < b
  end)
  return names
end

local function outcome_lines(run, lines)
  local sum = total(run)
  local asked = run.plan.rate and (", asked for: %.1f a second"):format(run.plan.rate) or ", as fast as it goes"
  lines[#lines + 1] = ("Requests   %d in %.1f s: %.1f a second%s"):format(sum, run.seconds, sum / math.max(run.seconds, 1e-9), asked)
  for _, name in ipairs(sorted_outcomes(run.outcomes)) do
    local count = run.outcomes[name]
    lines[#lines + 1] = ("  %8d  %6.2f %%  %s"):format(count, 100 * count / sum, name)
  end
end

local function quantile_lines(run, lines)
  local head = { ("%-9s"):format "" }
  for _, one in ipairs(QUANTILES) do head[#head + 1] = ("%9s"):format(one[1]) end
  head[#head + 1] = ("%9s"):format "max"
  lines[#lines + 1] = table.concat(head)
  for _, one in ipairs(SPANS) do
    local values, cells = run[one[1]], { ("%-9s"):format(one[2]) }
    for _, quantile in ipairs(QUANTILES) do cells[#cells + 1] = ("%9s"):format(span(values:quantile(quantile[2]))) end
    cells[#cells + 1] = ("%9s"):format(values.total > 0 and span(values.greatest) or "-")
    lines[#lines + 1] = table.concat(cells)
  end
end

local function bar_lines(run, lines)
  local bars, most = run.latency:bars(BARS_MAX), 0
  if #bars == 0 then return end
  for _, bar in ipairs(bars) do most = math.max(most, bar.count) end
  lines[#lines + 1] = run.plan.rate and "Latency, from when each request was meant to begin" or "Latency, from when each request began"
  for _, bar in ipairs(bars) do
    local length = bar.count > 0 and math.max(1, math.floor(bar.count / most * BAR_COLUMNS + 0.5)) or 0
    local drawn = ("#"):rep(length) .. (" "):rep(BAR_COLUMNS - length)
    lines[#lines + 1] = ("  %9s - %-9s %s %d"):format(span(bar.from), span(bar.to), drawn, bar.count)
  end
end

local function generator_line(run)
  local kept, is_late = has_kept(run)
  local words = kept == nil and "closed loop: a stall keeps it from asking, and its wait is not in the figures; --rate measures that"
    or not kept and "DID NOT KEEP ITS RATE: the figures are of less load"
    or is_late and "kept its rate, but was busy: how late it was is part of the latency" or "kept its rate"
  local cost = run.cpu_share and ("; %.0f %% of a processor for all of this process"):format(run.cpu_share * 100) or ""
  local late = run.plan.rate and ("; begun late by %s (p50), %s (p99), %s (max)"):format(span(run.late:quantile(0.5)),
    span(run.late:quantile(0.99)), span(run.late:quantile(1))) or ""
  return "Generator  " .. words .. late .. cost
end

local function pool_line(run)
  local parts = {}
  for _, name in ipairs(POOL) do parts[#parts + 1] = ("%s %d"):format(name, run.stats[name] or 0) end
  return "Pool       " .. table.concat(parts, ", ")
end

--- @param run a cueball.cli.load.generator that is over, with run.stats of its pool, and run.cpu_share or nil
function report.text(run)
  local lines = {}
  outcome_lines(run, lines)
  lines[#lines + 1] = ""
  quantile_lines(run, lines)
  lines[#lines + 1] = ""
  bar_lines(run, lines)
  lines[#lines + 1] = ""
  lines[#lines + 1] = generator_line(run)
  lines[#lines + 1] = pool_line(run)
  if run.is_stopped then lines[#lines + 1] = "Interrupted: these are the figures so far" end
  return table.concat(lines, "\n") .. "\n"
end

--- A line about the last second, for stderr.
-- @param seen of generator:progress()
-- @param stats of the pool
function report.progress(seen, stats)
  return ("%5.1f s  %8.1f/s  p50 %9s  p99 %9s  under way %d  waiting %d  busy %d of %d%s"):format(seen.time_s, seen.rate, span(seen.p50),
    span(seen.p99), seen.in_flight, seen.waiting + (stats.waiting or 0), stats.busy or 0, (stats.busy or 0) + (stats.idle or 0),
    seen.is_warm and "" or "  (warm-up)")
end

-- ------------------------------------------------------------------------- JSON --

local function ms(ns)
  return ns and ns / 1e6 or nil
end

local function object_of(values)
  local object = { count = values.total, mean = ms(values:mean()), max = values.total > 0 and ms(values.greatest) or nil }
  for index, one in ipairs(QUANTILES) do object[KEYS[index]] = ms(values:quantile(one[2])) end
  return object
end

--- The same as report.text, as one line of JSON.
function report.json(run)
  local sum, bars, pool = total(run), {}, {}
  local kept, is_late = has_kept(run)
  for index, bar in ipairs(run.latency:bars(BARS_MAX)) do
    bars[index] = { from_ms = ms(bar.from), to_ms = ms(bar.to), count = bar.count }
  end
  for _, name in ipairs(POOL) do pool[name] = run.stats[name] or 0 end
  return require "dkjson".encode({
    seconds = run.seconds, requests = sum, rate = sum / math.max(run.seconds, 1e-9), rate_asked = run.plan.rate,
    is_interrupted = run.is_stopped, outcomes = run.outcomes, latency_ms = object_of(run.latency), wait_ms = object_of(run.wait),
    lease_ms = object_of(run.lease), histogram = setmetatable(bars, { __jsontype = "array" }), pool = pool,
    generator = {
      kept_rate = kept, is_late = is_late, late_ms = object_of(run.late), cpu_share = run.cpu_share, in_flight_max = run.in_flight_max,
    },
  }, { keyorder = KEY_ORDER }) .. "\n"
end

return report
