--- Who has the connections of a pool for threads: a program in C, with a host in C.
local threads = require "spec.threaded.programs"

describe("a pool for threads", function()
  setup(threads.setup)
  teardown(threads.teardown)

  it("knows which thread has a connection, and says it to who waited in vain", function()
    assert.equal([[
a thread: its number, and the name that it has now
in a turn: likewise
handed over: who claimed or adopted it
asynchronous: who took the answer
the host's: of no thread
NULL: invalid invalid; no slot: stale; another lease: stale; over: stale]], threads.run "holders_test")
  end)
end)
