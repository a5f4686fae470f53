--- The parts of the core that are not in the public header, each tested by a C program of its own beside this file.

local program = require "spec.support.program"

local programs = {
  timers_test = "src/core/kit/timers.c src/core/kit/random.c",
  histogram_test = "src/core/kit/histogram.c src/core/kit/random.c",
  checks_test = "src/core/*/*.c",
}

describe("the core's parts:", function()
  setup(program.setup)
  teardown(program.teardown)

  for name, sources in pairs(programs) do
    it(name .. " finds no fault", function()
      program.run(name, ("spec/core/%s.c %s"):format(name, sources))
    end)
  end
end)
