--- Who waits while another thread has turns: overtaken for 200 us by leases that are too short to wake a thread up for, and no more.
local threads = require "spec.threaded.programs"

describe("a thread's turn, where others wait,", function()
  setup(threads.setup)
  teardown(threads.teardown)

  it("is over soon, however its leases go on, and at once after a long lease", function()
    assert.equal([[
without clocks: for a while by short leases, by long ones never
with clocks: for a while by short leases, by long ones never]], threads.run "overtaking_test")
  end)
end)
