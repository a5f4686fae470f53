--- More claims than the connections can serve: how long claims wait, and how many are served in time.
local worlds = require "bench.simulations.world"

local overload = {}

local LEASE_MS, CONNECTIONS = 50, 2 -- 40 claims a second

-- -------------------------------------------------------------------------------------------------- waits --

local function mean(list)
  local sum = 0
  for _, value in ipairs(list) do sum = sum + value end
  return #list > 0 and sum / #list or 0
end

--- 500 claims a second on 2 connections held for 50 ms (12.5 times what can be), evenly spaced.
-- Options: target_ms, queue ("codel"), seconds (60), rate (500), timeout_ms (none).
-- → { mean, served, refused }: mean wait in ms of all claims, of those served, of those refused; share: those served.
function overload.waits(given)
  local world = worlds.new(1)
  local pool = world:pool({ max_connections = CONNECTIONS, queue = given.queue or "codel", target_claim_delay_ms = given.target_ms },
    function() return 0, true end)
  pool:backends { "db" }
  local gap, limit = 1000 / (given.rate or 500), (given.seconds or 60) * 1000
  local all, served, refused = {}, {}, {}
  local function release(lease) pool:release(lease) end
  local function answered(lease, _, _, waited)
    all[#all + 1] = waited
    local list = lease and served or refused
    list[#list + 1] = waited
    if lease then world:after(LEASE_MS, release, lease) end
  end
  local function arrive()
    pool:claim(answered, given.timeout_ms)
    if world.now < limit then world:after(gap, arrive) end
  end
  world:after(1000, arrive)
  world:run(limit)
  pool:ensure()
  return { mean = mean(all), served = mean(served), refused = mean(refused), share = #served / #all }
end

--- The same claims before a queue that follows the pseudocode of RFC 8289, section 5: once in the dropping state, one
-- claim is dropped after the other at intervals of 100 ms / sqrt(count).
function overload.rfc(given)
  local INTERVAL, TARGET = 100, given.target_ms
  local world = worlds.new(1)
  local queue, head, tail, idle = {}, 1, 0, CONNECTIONS
  local first_above, drop_next, count, last_count, dropping = 0, 0, 0, 0, false
  local all, served, refused = {}, {}, {}

  local function left(since, list)
    all[#all + 1] = world.now - since
    list[#list + 1] = world.now - since
  end

  local function take() -- dodequeue(): → claim or nil, whether it may be dropped
    if head > tail then
      first_above = 0
      return nil, false
    end
    local since = queue[head]
    queue[head] = nil
    head = head + 1
    if world.now - since < TARGET then
      first_above = 0
    elseif first_above == 0 then
      first_above = world.now + INTERVAL
    elseif world.now >= first_above then
      return since, true
    end
    return since, false
  end

  local function control(at) return at + INTERVAL / math.sqrt(count) end

  local function dequeue()
    local since, may_drop = take()
    if dropping then
      if not may_drop then dropping = false end
      while since and dropping and world.now >= drop_next do
        left(since, refused)
        count = count + 1
        since, may_drop = take()
        if may_drop then drop_next = control(drop_next) else dropping = false end
      end
    elseif may_drop then
      left(since, refused)
      since = take()
      dropping = true
      local delta = count - last_count
      count = delta > 1 and world.now - drop_next < 16 * INTERVAL and delta or 1
      drop_next = control(world.now)
      last_count = count
    end
    return since
  end

  local function serve()
    while idle > 0 do
      local since = dequeue()
      if not since then return end
      left(since, served)
      idle = idle - 1
      world:after(LEASE_MS, function()
        idle = idle + 1
        serve()
      end)
    end
  end

  local gap, limit = 1000 / (given.rate or 500), (given.seconds or 60) * 1000
  local function arrive()
    tail = tail + 1
    queue[tail] = world.now
    serve()
    if world.now < limit then world:after(gap, arrive) end
  end
  world:after(1000, arrive)
  world:run(limit)
  return { mean = mean(all), served = mean(served), refused = mean(refused), share = #served / #all }
end

-- ------------------------------------------------------------------------------------------------- goodput --

--- Poisson arrivals at `load` times what 10 connections can serve, exponential leases with a mean of 50 ms; a claim is
-- given up at its deadline; an answer counts that comes (lease and all) before it.
-- Options: queue, load, deadline_ms, target_ms, seconds (120), seed.
-- → { goodput, useless, answered_ms }: of the claims that could have been served (the connections' capacity), the share
-- answered in time; share of the connections' time spent on answers that came too late; mean ms until a refusal.
function overload.goodput(given)
  local connections, deadline = 10, given.deadline_ms
  local world = worlds.new(given.seed or 1)
  local pool = world:pool({ max_connections = connections, queue = given.queue, target_claim_delay_ms = given.target_ms },
    function() return 0, true end)
  pool:backends { "db" }
  local capacity = connections / LEASE_MS -- claims per ms
  local gap, limit, warm = 1 / (capacity * given.load), (given.seconds or 120) * 1000, 5000
  local good, late, refusals, refused_ms, offered = 0, 0, 0, 0, 0
  local function ended(lease)
    pool:release(lease.lease)
    if lease.began < warm then return end
    if world.now - lease.began <= deadline then good = good + 1 else late = late + 1 end
  end
  local function arrive()
    local began = world.now
    if began >= warm then offered = offered + 1 end
    pool:claim(function(lease, _, _, waited)
      if lease then
        world:after(world:exponential(LEASE_MS), ended, { lease = lease, began = began })
      elseif began >= warm then
        refusals, refused_ms = refusals + 1, refused_ms + waited
      end
    end, deadline)
    world:after(world:exponential(gap), arrive)
  end
  arrive()
  world:run(limit)
  pool:ensure()
  local could = capacity * (limit - warm)
  return { goodput = good / could, late = late / could, refused_ms = refusals > 0 and refused_ms / refusals or 0,
    offered = offered / could }
end

-- --------------------------------------------------------------------------------------------------- print --

overload.TARGETS = { 300, 500, 1000, 2000, 3000, 5000 }

--- Deadline and the target that goes with it: so that a claim served at the target still has time for its work.
overload.DEADLINES = { { deadline_ms = 1000, target_ms = 500 }, { deadline_ms = 300, target_ms = 100 } }

function overload.print(row, seed)
  row "500 claims/s on 2 connections held 50 ms (12.5 times too many), 60 s: mean wait in ms"
  row("%-10s | %8s %8s %8s | %8s %8s %8s", "", "codel", "", "", "RFC 8289's spacing", "", "")
  row("%-10s | %8s %8s %8s | %8s %8s %8s", "target", "all", "served", "refused", "all", "served", "refused")
  for _, target in ipairs(overload.TARGETS) do
    local ours, theirs = overload.waits { target_ms = target }, overload.rfc { target_ms = target }
    row("%-10d | %8.0f %8.0f %8.0f | %8.0f %8.0f %8.0f", target, ours.mean, ours.served, ours.refused,
      theirs.mean, theirs.served, theirs.refused)
  end
  row ""
  row "Goodput: of what 10 connections can serve, answered within the deadline (Poisson arrivals, exponential leases of 50 ms)"
  row("%-10s %-8s %-6s %-14s %8s %10s %14s", "deadline", "target", "load", "queue", "in time", "too late", "refused after")
  for _, case in ipairs(overload.DEADLINES) do
    for _, load in ipairs { 0.9, 1.5, 3 } do
      for _, queue in ipairs { "fifo", "codel", "adaptive_lifo" } do
        local found = overload.goodput { queue = queue, load = load, deadline_ms = case.deadline_ms,
          target_ms = case.target_ms, seed = seed }
        row("%-10d %-8d %-6.1f %-14s %6.1f %% %8.1f %% %11.0f ms", case.deadline_ms, case.target_ms, load, queue, found.goodput * 100,
          found.late * 100, found.refused_ms)
      end
    end
  end
end

return overload
