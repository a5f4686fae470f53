--- What thousands of polls leave behind in the program: nothing.
local host = require "cueball.host.uv"
local memory = require "spec.support.memory"
local remote = require "cueball.console.remote"
local shell = require "spec.support.shell"
local towns = require "spec.support.console_town"
local until_true = require "spec.support.until_true"

local ROUNDS, POLLS, SESSIONS = 6, 250, 50 -- polls and sessions of a round

local town

local function descriptors()
  return tonumber((shell.must "ls /proc/$PPID/fd | wc -l"))
end

local function attach()
  return assert(remote.connect { host = host, address = town.address, form = "json" })
end

local function polls(one, count)
  for _ = 1, count do
    one:submit "leases { older = '1s' }"
    one:submit ":backends form=json"
    one:submit "x = #backends() return pools { state = 'running' }[1].pool .. '!'"
  end
end

describe("polls of a console", function()
  before_each(function() town = towns.start() end)
  after_each(function() town:finish() end)

  it("leave memory as it was, in one session", function()
    host.run(function()
      local one = attach()
      local grown = memory.least_growth_kib(ROUNDS, function() polls(one, POLLS) end)
      assert.is_true(grown < 16, ("%.1f KiB more"):format(grown)) -- of 250 polls, each of three commands
      assert.equal(0, one.failed)
      one:close()
    end)
  end)

  it("leave memory and descriptors as they were, each in a session of its own", function()
    host.run(function()
      local function sit()
        local one = attach()
        polls(one, 1)
        one:complete("back", 4)
        one:close()
        host.sleep(1)
      end
      for _ = 1, 5 do sit() end
      local open = descriptors()
      local grown = memory.least_growth_kib(ROUNDS, function()
        for _ = 1, SESSIONS do sit() end
      end)
      until_true(function() return descriptors() <= open end, descriptors) -- one of before may be closed only now, and the last one is soon
      assert.is_true(grown < 16, ("%.1f KiB more"):format(grown))
    end)
  end)

  it("that nobody reads drop the peer, and hold so much at most", function()
    host.run(function()
      local before = memory.heap_kib()
      local stream = host.tcp()
      assert(stream:connect(town.address))
      stream:settimeout(200)
      local line = "for i = 1, 60 do print(('x'):rep(1000)) end\n"
      local sent, ok, message = 0
      repeat
        ok, message = stream:send(line)
        sent = sent + 1
      until not ok or sent > 100000
      assert.is_string(message) -- "timeout"; on a machine that is slow the peer is dropped by now
      assert.is_true(memory.heap_kib() - before < 2000, ("%d KiB more"):format(memory.heap_kib() - before))
      local one = attach()
      polls(one, 1)
      assert.equal(0, one.failed)
      one:close()
      host.sleep(5500) -- a peer that does not read for 5 s is dropped: then what lies in the kernel is all that is left
      stream:settimeout(20000)
      local size, got, why = 0
      repeat
        got, why = stream:receiveany(65536)
        size = size + (got and #got or 0)
      until not got
      assert.is_true(why ~= "timeout", "it was not dropped")
      assert.is_true(size < 2e6)
      stream:close()
    end)
  end)
end)
