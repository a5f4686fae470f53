--- The programs in C that the specs of pools for threads are made of: each has a host of its own, host.h.
--
--     local threads = require "spec.threaded.programs"
--     setup(threads.setup) teardown(threads.teardown)
--     threads.run "claims_test"      -- compiles and runs spec/threaded/claims_test.c: what it wrote; raises if it fails
local program = require "spec.support.program"

local threads = { setup = program.setup, teardown = program.teardown }

local SOURCES = "src/threaded/*.c src/core/*/*.c src/libc.c src/wake.c -Isrc -Isrc/threaded -DCUEBALL_VERSION='\"test\"' -pthread"

function threads.run(name)
  return program.run(name, ("spec/threaded/%s.c %s"):format(name, SOURCES))
end

return threads
