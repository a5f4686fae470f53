--- Pools for threads: two threads with one lease, and threads that are cancelled where nothing waits.
local threads = require "spec.threaded.programs"

describe("a pool for threads", function()
  setup(threads.setup)
  teardown(threads.teardown)

  it("ends a lease once, and has no cancellation point but a claim that waits", function()
    assert.equal([[
copies: both ended 0 of them, neither 0
cancelled in a claim: goes on
cancelled in an asynchronous claim: goes on
cancelled in a release: goes on]], threads.run "race_test")
  end)
end)
