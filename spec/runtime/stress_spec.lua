--- The pools of a runtime under many threads, faults, reloads and a stop in the middle: see stress_test.c.
local shell = require "spec.support.shell"

describe("a runtime under stress", function()
  it("gives each thread a connection of its own, whatever else happens", function()
    for seed = 1, 2 do
      local command = "unset LD_PRELOAD; ASAN_OPTIONS=detect_leaks=0 %s/spec/runtime_stress --seed %d --threads 64 --ms 800"
      local output, status = shell.run(command:format(shell.quote(shell.build), seed))
      assert.equal(0, status, output)
      assert.is_true(tonumber(output:match "(%d+) leases went well") > 20, output)
    end
  end)
end)
