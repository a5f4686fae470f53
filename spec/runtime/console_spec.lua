--- A console in the script of a runtime: the pools of threads are looked at, from outside, while they work.
local app = require "spec.support.app"
local ffi = require "ffi"
local host = require "cueball.host.uv"
local native = require "cueball.native"
local remote = require "cueball.console.remote"
local runtime = require "cueball.runtime"
local scripts = require "spec.support.scripts"
local shell = require "spec.support.shell"
local uv = require "luv"
local until_true = require "spec.support.until_true"

local BUDGET_MS = 2000 -- it counts the time of other processes, too

describe("a console in a runtime", function()
  it("is not offered by a dry run", function()
    local town = scripts.town()
    finally(function() town:finish() end)
    local text = "local cueball = require 'cueball'\n"
    town:load(text)
    local report, message = town:reload(text .. "assert(cueball.console.listen('unix:/nowhere/sock')).close()", { dry_run = true })
    assert.is_table(report, message)
  end)

  it("shows the pools of the script, and goes with it", function()
    local folder = shell.must("mktemp -d"):match "[^\n]+"
    finally(function() shell.must("rm -rf " .. shell.quote(folder)) end)
    local address = "unix:" .. folder .. "/sock"
    local one = app.start(app.LINES .. ("\nassert(cueball.console.listen(%q, { allow = 'write', name = 'lines', budget_ms = %d }))")
      :format(address, BUDGET_MS))
    finally(function()
      one:free()
      shell.must("rm -rf " .. shell.quote(folder))
    end)
    host.run(function()
      local shown = {}
      local console = assert(remote.connect { host = host, address = address, print = function(words) shown[#shown + 1] = words end })
      assert.equal("lines", console.hello.name)
      console:submit "pools()[1].pool"
      console:submit "while true do end"
      console:submit "set { spares = 1 }"
      console:submit "changes()[1].undo"
      assert.equal('"lines"', shown[1])
      assert.matches(("ran for more than %d ms"):format(BUDGET_MS), shown[2])
      assert.matches("spares = 2", shown[4])
      console:submit ":watch"
      local before = #shown
      console:submit "require('cueball').spawn(function() require('cueball').sleep(20) console.set { max_connections = 9 } end)"
      until_true(function()
        for index = before + 1, #shown do
          if shown[index]:find "lines: a plan of %d+ connections was made" then return true end
        end
      end)
      one:stop(2000)
      until_true(function() return console.is_over end)
      console:submit "1"
      assert.is_nil(remote.connect { host = host, address = address })
    end)
  end)

  it("says which thread has a connection, by its number and name; who waits in vain hears it too", function()
    local folder = shell.must("mktemp -d"):match "[^\n]+"
    local address = "unix:" .. folder .. "/sock"
    local one = app.start(app.LINES .. ("\nassert(cueball.console.listen(%q, { name = 'lines', budget_ms = %d }))")
      :format(address, BUDGET_MS))
    finally(function()
      one:free()
      shell.must("rm -rf " .. shell.quote(folder))
    end)
    local pool = assert(runtime.pool "lines")
    app.settled(pool, 2)
    local number, name = uv.os_getpid(), shell.read("/proc/self/comm"):match "[^\n]+" -- this is the first thread of the process
    local lease = ffi.new "cueball_lease[1]"
    assert.equal(0, native.lib.cueball_threaded_claim(pool.core, 5000, lease))
    uv.sleep(2)
    local other = assert(pool:claim())
    host.run(function()
      local shown = {}
      local console = assert(remote.connect { host = host, address = address, print = function(words) shown[#shown + 1] = words end })
      console:submit "leases()[1].task"
      console:submit "leases()[2].task"
      assert.same({ ('"thread %d (%s)"'):format(number, name), ('"thread %d (detached)"'):format(number) }, shown)
      console:close()
    end)
    local _, message = pool:claim { timeout_ms = 20 }
    assert.matches(("^claim timed out after [%%d.]+ ms %%(0 ahead, 2 busy%%); the oldest lease, on 127.0.0.1:%%d+, is held [%%d.]+ ms by "
      .. "thread %d %%(%s%%)$"):format(number, name:gsub("%p", "%%%0")), message)
    assert.is_true(other:release())
    assert.equal(0, native.lib.cueball_lease_release(lease))
  end)
end)
