--- The library under factories and resolvers in C, used from many threads at once: see threads_test.c.
local program = require "spec.support.program"

local SOURCES = "spec/native/threads_test.c src/native/*.c src/libc.c src/wake.c -Isrc -DCUEBALL_VERSION='\"0\"' -pthread "

describe("calls of factories in C", function()
  setup(program.setup)
  teardown(program.teardown)

  it("lose no connection and close none twice, whoever gives up when; and a child has nothing of its parent's", function()
    local output = program.run("threads", SOURCES, "1 300 fork")
    assert.matches("the child ended with 0\n", output, 1, true)
    assert.matches("%d+ opened, %d+ closed, 202 freed, 0 overlaps$", output)
  end)

  it("race with nothing", function()
    program.run("races", SOURCES .. "-fsanitize=thread", "2 150")
  end)

  it("touch no memory that is not theirs, and leak none", function()
    -- Without fork: a sanitizer's malloc does not survive that where other threads use it.
    program.run("memory", SOURCES .. "-fsanitize=address,undefined -fno-sanitize-recover=all", "3 150")
  end)
end)
