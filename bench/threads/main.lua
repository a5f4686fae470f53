--- Runs what bench/threads/run has built, in turns, and prints a table of medians.
local measure = require "bench.support.measure"

local BUILD = assert(os.getenv "CUEBALL_BUILD", "this is started by bench/threads/run")

-- What each is started by, below the folder of the build.
local PEERS = {
  { name = "cueball", command = "bench/bench_threads" },
  { name = "cueball-noclocks", command = "bench/bench_threads", options = "--clocks off" },
  { name = "cueball-lock", command = "bench/bench_threads", options = "--turn-ms -1" },
  { name = "hikari", command = "threads/hikari/bench" },
  { name = "apr", command = "threads/apr/bench" },
  { name = "r2d2", command = "threads/r2d2/bench" },
  { name = "go", command = "threads/go/bench" },
  { name = "bare", command = "bench/bench_bare" },
  { name = "baton", command = "bench/bench_baton" },
}

-- Those that take part.
local function those_of(case, peers)
  local found = {}
  for _, peer in ipairs(peers) do
    -- Without a pool nothing keeps 2,000 threads from waking up a thousand times a second each.
    local is_wild = peer.name == "bare" and (case.measure or case.held == "sleep")
    -- HikariCP copies the list of its connections for each one that it adds: with 100,000 this takes minutes.
    local is_slow = peer.name == "hikari" and case.connections > 10000
    local is_idle = peer.name == "baton" and (case.measure or case.threads <= case.connections)
    if not is_wild and not is_slow and not is_idle then found[#found + 1] = peer end
  end
  return found
end

-- `waits`: a second run of it, in which each wait is timed.
local CASES = {
  { key = "1", threads = 1, connections = 10, held = "nothing" },
  { key = "2", threads = 2, connections = 10, held = "nothing", waits = true },
  { key = "8", threads = 8, connections = 10, held = "nothing", waits = true },
  { key = "64", threads = 64, connections = 10, held = "nothing", waits = true },
  { key = "64y", threads = 64, connections = 10, held = "yield", waits = true },
  { key = "2000", threads = 2000, connections = 50, held = "sleep", waits = true },
  { key = "100c", threads = 1, connections = 100, held = "nothing" },
  { key = "1000c", threads = 1, connections = 1000, held = "nothing" },
  { key = "10000c", threads = 1, connections = 10000, held = "nothing" },
  { key = "100000c", threads = 1, connections = 100000, held = "nothing" },
  { key = "10000m", connections = 10000, measure = "memory" },
  { key = "100000m", connections = 100000, measure = "memory" },
}

-- Of one program's run: 2,000 threads that make no headway are a burden to all others on the machine.
local LIMIT_S = 120

local given = { rounds = "3", seconds = "2", warmup = "2" }
local KNOWN = { rounds = true, seconds = true, warmup = true, peers = true, cases = true, raw = true }

local function chosen(list, name, words)
  if not words then return list end
  local found = {}
  for word in words:gmatch "[^,]+" do
    local known
    for _, one in ipairs(list) do known = known or one[name] == word and one end
    if not known then
      io.stderr:write("bench/threads/run: there is no ", word, "; there are:")
      for _, one in ipairs(list) do io.stderr:write(" ", one[name]) end
      io.stderr:write "\n"
      os.exit(2)
    end
    found[#found + 1] = known
  end
  return found
end

local function exists(path)
  local file = io.open(path)
  if file then file:close() end
  return file ~= nil
end

local function median(list)
  local sorted = {}
  for index, value in ipairs(list) do sorted[index] = value end
  table.sort(sorted)
  local middle = #sorted / 2
  return #sorted % 2 == 1 and sorted[middle + 0.5] or #sorted > 0 and (sorted[middle] + sorted[middle + 1]) / 2 or nil
end

-- ------------------------------------------------------------------ running --

local raw

-- The words name=value of the line that a program printed; numbers as such.
local function run(peer, case, what)
  local words = { "timeout --foreground -k 1", LIMIT_S, BUILD .. "/" .. peer.command, "--measure", what, "--connections", case.connections }
  if case.threads then
    for _, word in ipairs { "--threads", case.threads, "--held", case.held, "--seconds", given.seconds, "--warmup", given.warmup } do
      words[#words + 1] = word
    end
  end
  words[#words + 1] = peer.options
  local pipe = assert(io.popen(table.concat(words, " ")))
  local line = pipe:read "*l" or ""
  pipe:close()
  if raw then raw:write(line, "\n") end
  local found = {}
  for name, value in line:gmatch "(%S+)=(%S+)" do found[name] = tonumber(value) or value end
  if not found.measure then error("this printed nothing, or took too long: " .. table.concat(words, " "), 0) end
  return found
end

local results = {}   -- by case, peer and measure: a list, one for each round

local function keep(case, peer, what, found)
  local of_case = results[case.key] or {}
  local of_peer = of_case[peer.name] or { rate = {}, wait = {}, memory = {} }
  results[case.key], of_case[peer.name] = of_case, of_peer
  table.insert(of_peer[what], found)
end

-- Whoever begins is another one in each round, so that none always follows the same.
local function run_round(round, cases, peers)
  for _, case in ipairs(cases) do
    local those = those_of(case, peers)
    for index = 1, #those do
      local peer = those[(index + round) % #those + 1]
      if case.measure then
        keep(case, peer, case.measure, run(peer, case, case.measure))
      else
        keep(case, peer, "rate", run(peer, case, "rate"))
        if case.waits then keep(case, peer, "wait", run(peer, case, "wait")) end
      end
    end
    io.stderr:write(("round %d of %s: %s\n"):format(round, given.rounds, case.key))
  end
end

-- ------------------------------------------------------------------- report --

-- The median over the rounds of what `of` makes of each run.
local function middle(runs, of)
  local list = {}
  for round, one in ipairs(runs) do list[#list + 1] = of(one, round) end
  return median(list)
end

local function of(name)
  return function(one) return one[name] end
end

local function text(format, value)
  return value and format:format(value) or ""
end

local function rate(value)
  if not value then return "" end
  return value >= 1e6 and ("%.2f M"):format(value / 1e6) or ("%.1f k"):format(value / 1e3)
end

local function span(ns)
  if not ns then return "" end
  if ns < 1e3 then return ("%d ns"):format(ns) end
  if ns < 1e6 then return ("%.3g µs"):format(ns / 1e3) end
  return ns < 1e9 and ("%.3g ms"):format(ns / 1e6) or ("%.3g s"):format(ns / 1e9)
end

local HEAD = { "threads, connections, held", "peer", "pairs/s", "least to most", "processor's ns a pair", "cueball ÷ it",
  "least served ÷ mean", "most ÷ mean", "wait p50", "p99", "p99.9", "p99.99", "processors busy", "connections in use" }

local function row_of_threads(case, peer)
  local it, first = results[case.key][peer.name], results[case.key].cueball
  local least, most = math.huge, 0
  for _, one in ipairs(it.rate) do least, most = math.min(least, one.pairs_s), math.max(most, one.pairs_s) end
  local ahead = first and peer.name ~= "cueball"
    and middle(it.rate, function(one, round) return first.rate[round] and first.rate[round].pairs_s / one.pairs_s end)
  local settled = math.abs(middle(it.rate, of "first_half") - 0.5) < 0.05
  local function spent(one) return 1e9 * one.cpu_s / one.pairs_s / one.seconds end
  local function in_use(one) return one.held_ns and one.pairs_s * one.held_ns / 1e9 / one.connections end
  local rates, waits = it.rate, it.wait
  return { ("%d, %d, %s"):format(case.threads, case.connections, case.held), peer.name .. (settled and "" or " (*)"),
    rate(middle(rates, of "pairs_s")), rate(least) .. " to " .. rate(most), text("%.0f", middle(rates, spent)), text("%.2f", ahead or nil),
    text("%.2f", middle(rates, function(one) return one.least / one.mean end)),
    text("%.2f", middle(rates, function(one) return one.most / one.mean end)),
    span(middle(waits, of "p50")), span(middle(waits, of "p99")), span(middle(waits, of "p99.9")), span(middle(waits, of "p99.99")),
    text("%.2f", middle(rates, function(one) return one.cpu_s / one.seconds end)), text("%.3f", middle(rates, in_use)) }
end

local function print_rows(head, rows)
  print("| " .. table.concat(head, " | ") .. " |")
  print("|" .. ("---|"):rep(#head))
  for _, row in ipairs(rows) do print("| " .. table.concat(row, " | ") .. " |") end
  print ""
end

local function load_average()
  local file = io.open "/proc/loadavg"
  local words = file and file:read "*l" or ""
  if file then file:close() end
  return words:match "^%S+ %S+" or "?"
end

local function report(cases, peers)
  local threads, memory = {}, {}
  for _, case in ipairs(cases) do
    for _, peer in ipairs(those_of(case, peers)) do
      if case.measure then
        local it = results[case.key][peer.name].memory
        local resident, live = middle(it, of "resident"), middle(it, of "live")
        memory[#memory + 1] = { case.connections, peer.name, text("%.0f", resident), text("%.0f", live) }
      else
        threads[#threads + 1] = row_of_threads(case, peer)
      end
    end
  end
  if #threads > 0 then print_rows(HEAD, threads) end
  if #memory > 0 then print_rows({ "connections", "peer", "bytes resident for each", "of them not garbage" }, memory) end
  print "(*) one half of the window had 10 % more than the other, in the median of the rounds: not settled, or disturbed."
end

-- --------------------------------------------------------------------- main --

for index = 1, #arg, 2 do
  local name = arg[index]:match "^%-%-(%l+)$"
  if not KNOWN[name] or not arg[index + 1] then
    io.stderr:write("bench/threads/run: what is ", arg[index],
      "? Options are: --rounds N --seconds S --warmup S --peers a,b --cases a,b --raw FILE\n")
    os.exit(2)
  end
  given[name] = arg[index + 1]
end
raw = given.raw and assert(io.open(given.raw, "w"))
local cases, peers = chosen(CASES, "key", given.cases), {}
for _, peer in ipairs(chosen(PEERS, "name", given.peers)) do
  if exists(BUILD .. "/" .. peer.command) then peers[#peers + 1] = peer end
end

measure.head(("claim and release by threads, medians of %s rounds of %s s after %s s"):format(given.rounds, given.seconds, given.warmup))
print(("load before: %s"):format(load_average()))
for round = 1, tonumber(given.rounds) do run_round(round, cases, peers) end
print(("load after: %s\n"):format(load_average()))
report(cases, peers)
if raw then raw:close() end
