--- Turns: a thread that has one connection again and again, without the lock; the core is told at the end.
local threads = require "spec.threaded.programs"

describe("a thread's turn", function()
  setup(threads.setup)
  teardown(threads.teardown)

  it("is told to the core in full, ends, and gives way", function()
    assert.equal([[
rate: a reading that was held up is not believed
numbers, with clocks: every lease is counted
numbers, without clocks: every lease is counted
rotation: 89 turns of 101 leases, each backend has its third
quantiles: those of the turns are those of the lock
sweep: what is left lying goes back
max_uses: none more than 10
taken: by who needs it
settled: by all that is more than a release
crowd, with clocks: each connection in one hand, every lease counted
crowd, without clocks: each connection in one hand, every lease counted]], threads.run "turns_test")
  end)
end)
