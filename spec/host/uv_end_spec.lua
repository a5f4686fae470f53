--- The end on libuv: of a run in which nothing can happen any more, of a program in which something is under way.
local host = require "cueball.host.uv"

describe("the host on libuv", function()
  it("says so at once though the task waited with a long time limit before", function()
    assert.error_matches(function()
      host.run(function()
        local waiter = host.waiter()
        host.spawn(function()
          host.sleep(1)
          waiter:wake()
        end)
        waiter:wait(3600e3)
        host.waiter():wait()
      end)
    end, "every task waits and nothing can wake them")
  end)

  it("lets a program end while something connects", function()
    local code = [[
      local host = require "cueball.host.uv"
      host.spawn(function()
        host.tcp():connect("127.0.0.1", 1)
        host.sleep(1)
      end)]]
    assert.equal(0, os.execute(("luajit -e '%s'"):format(code)))
  end)
end)
