--- Pools for threads when connections break or are taken away, the process forks, or memory is short.
local threads = require "spec.threaded.programs"

describe("a pool for threads", function()
  setup(threads.setup)
  teardown(threads.teardown)

  it("replaces what broke, waits for what it took away, and refuses a child", function()
    assert.equal([[
lost at rest: replaced
seen at release: bytes that nobody read, and the end
nonblocking: as the claim says
orphan: stale, then closed
fork: the child is refused, the parent goes on
inspects: by the host, each time
host: unsupported: pool without a name: its connections cannot be handed to threads: they have neither a descriptor nor a pointer
memory: each allocation may fail]], threads.run "ends_test")
  end)
end)
