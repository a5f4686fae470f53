--- Experiments in virtual time: what the pool's policies do to spikes, overload, slow backends and herds.
--   examples/run bench/simulations.lua              all of them
--   examples/run bench/simulations.lua overload     one: spike, growth, overload, balance, jitter, day, subsets
--   examples/run bench/simulations.lua balance 7    with another seed than 1, where chance plays a part
-- The same seed prints the same figures on any machine (but for the real seconds of `day`). Each is a file of its own in
-- bench/simulations/, spec/core/simulations_spec.lua runs shortened versions, docs/overload.md and docs/simulations.md
-- explain the figures.
local NAMES = { "spike", "growth", "overload", "balance", "jitter", "subsets", "day" }

local name, seed = ...
seed = tonumber(seed) or 1

local function row(format, ...)
  print((select("#", ...) > 0 and format:format(...) or format))
  io.stdout:flush()
end

local function is_known(wanted)
  for _, known in ipairs(NAMES) do
    if known == wanted then return true end
  end
end

if name and not is_known(name) then
  io.stderr:write(("no simulation %q: %s\n"):format(name, table.concat(NAMES, ", ")))
  os.exit(2)
end

for _, known in ipairs(name and { name } or NAMES) do
  row("== %s (seed %d: examples/run bench/simulations.lua %s %d)", known, seed, known, seed)
  require("bench.simulations." .. known).print(row, seed)
  row ""
end
