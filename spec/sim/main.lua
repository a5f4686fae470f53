--- The command line of spec/sim/run.
local argparse = require "argparse"
local scenario = require "spec.sim.scenario"

local parser = argparse("spec/sim/run", "Runs a cueball pool through random steps and faults in a simulated world.")
parser:option("--seeds", "how many"):default("100"):convert(tonumber)
parser:option("--from", "the first"):default("1"):convert(tonumber)
parser:option("--steps", "of each; another number is another scenario"):default("2000"):convert(tonumber)
parser:option("--failures", "so many, then it ends"):default("1"):convert(tonumber)
parser:flag("--verbose", "everything that happens, on standard error")
parser:flag("--coverage", "how often each kind of event came, at the end")
parser:flag("--hashes", "the hash of each seed's trace")
local given = parser:parse()

io.stdout:setvbuf "line"
local coverage = given.coverage and {} or nil
local began, passed, failed, claims, ms = os.clock(), 0, 0, 0, 0
for seed = given.from, given.from + given.seeds - 1 do
  local report = scenario.run { seed = seed, steps = given.steps, verbose = given.verbose, coverage = coverage }
  claims, ms = claims + report.claims, ms + report.time_ms
  if given.hashes then print(("%d %08x"):format(seed, report.hash % 2 ^ 32)) end
  if report.message then
    failed = failed + 1
    print(report.header)
    print(report.trace)
    print("FAILED: " .. report.message)
    local steps = given.steps ~= 2000 and " --steps " .. given.steps or ""
    print(("to repeat: spec/sim/run --seeds 1 --from %d%s"):format(seed, steps))
    if failed >= given.failures then break end
  else
    passed = passed + 1
  end
end
local kinds = {}
for kind in pairs(coverage or {}) do kinds[#kinds + 1] = kind end
table.sort(kinds)
for _, kind in ipairs(kinds) do print(("%9d %s"):format(coverage[kind], kind)) end
local seconds = os.clock() - began
print(("%d claims in %.0f simulated s; %.1f seeds/s"):format(claims, ms / 1000, (passed + failed) / seconds))
print(("%d passed, %d failed"):format(passed, failed))
os.exit(failed == 0 and passed > 0 and 0 or 1, true)
