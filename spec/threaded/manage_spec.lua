--- Pause and drain of pools for threads: a program in C, whose threads claim all the time.
local threads = require "spec.threaded.programs"

describe("a pool for threads", function()
  setup(threads.setup)
  teardown(threads.teardown)

  it("is paused and drained by any thread, whatever the others do", function()
    assert.equal([[
paused 20 times: no lease was out
a lease is out: 1
try: paused
waits: claim_timeout
wait_ms: invalid, NULL: invalid invalid invalid
closed: pool_stopping, pool_stopping
overload control: ok
drain: ok, not_found
restore: ok]], threads.run "manage_test")
  end)
end)
