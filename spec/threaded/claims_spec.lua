--- Pools for threads as claimers see them: a program in C, with a host in C.
local threads = require "spec.threaded.programs"

describe("a pool for threads", function()
  setup(threads.setup)
  teardown(threads.teardown)

  it("lends to threads, first come, first served, and takes back what they leave", function()
    assert.equal([[
there is no pool nothing
try: claim_timeout: claim timed out after 0 ms (0 ahead, 2 busy)
backend: db1 db1 10.0.0.1 5432
again: stale, a copy: stale, NULL: invalid
the host heard: it said no
misuse: errors
queue: first come, first served
claim_timeout ...(0 ahead, 1 busy); the oldest lease, on db1, is held # ms by thread # (claims_test); last failure: db1: connection refused
broken connections: claim_timeout
a thread ended: 1 busy, 1 revoked
cancelled: the queue goes on
cancelled often: no connection is lost
stop: pool_stopping: pool db is stopping
closed: pool_stopping: pool db is stopped]], (threads.run("claims_test"):gsub("held [%d.]+ ms by thread %d+", "held # ms by thread #")))
  end)
end)
