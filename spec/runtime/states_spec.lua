--- require "cueball.runtime": claims from Lua states in other threads than the runtime's. The spec itself is one; others are luv's threads.
local ffi = require "ffi"
local cueball = require "cueball"
local runtime = require "cueball.runtime"
local shell = require "spec.support.shell"
local support = require "spec.support.app"
local uv = require "luv"

ffi.cdef [[
  ssize_t spec_states_read(int fd, void *bytes, size_t size) __asm__("read");
  ssize_t spec_states_write(int fd, const void *bytes, size_t size) __asm__("write");
]]

-- One line there and back over a descriptor that blocks.
local function talk(fd, line)
  local bytes = ffi.new "char[64]"
  ffi.C.spec_states_write(fd, line, #line)
  return ffi.string(bytes, ffi.C.spec_states_read(fd, bytes, 64))
end

describe("cueball.runtime in another Lua state", function()
  local app, pool

  local function settled(idle)
    return support.settled(pool, idle)
  end

  before_each(function()
    app = support.start(support.LINES)
    pool = assert(runtime.pool "lines")
    settled(2)
  end)

  after_each(function()
    app:free()
    cueball.host().log_to(nil)
  end)

  it("finds a pool by its name, or says what it asked", function()
    assert.is_truthy(tostring(pool):find("cueball.runtime.pool (", 1, true))
    assert.equal("running", pool:state())
    local none, message, name = runtime.pool "line"
    assert.is_nil(none)
    assert.equal("not_found", name)
    assert.is_truthy(message:find("line", 1, true) and message:find("libcueball", 1, true), message)
    assert.has_error(function() runtime.pool(3) end, "runtime.pool: expected a pool's name, got 3")
  end)

  it("lends a descriptor that blocks, until it is released", function()
    local lease = assert(pool:claim { timeout_ms = 5000 })
    assert.equal("hello\n", talk(lease.fd, "hello\n"))
    assert.is_nil(lease.pointer)
    assert.is_truthy(lease:backend().key:find "^127%.0%.0%.1:%d+$")
    assert.equal("127.0.0.1", lease:backend().address)
    assert.equal("string", type(lease:explain()))
    assert.is_true(lease:report(true))
    assert.is_true(lease:release())
    assert.same({ nil, "the lease is over: it was released, closed or taken back before", "stale" }, { lease:release() })
    local _, _, name = lease:report(true)
    assert.equal("stale", name)
    assert.is_nil(lease.fd)
    assert.is_nil(lease:backend())
    assert.is_nil(lease:explain())
    assert.equal("cueball.runtime.lease (over)", tostring(lease))
  end)

  it("pauses the pool, and drains a backend of it", function()
    local lease = assert(pool:claim())
    local key = lease:backend().key
    local ok, message, name = pool:pause { wait_ms = 5 }
    assert.same({ nil, "paused, but leases are out after 5 ms", "timeout" }, { ok, message, name })
    assert.equal("paused", select(3, pool:try_claim()))
    lease:release()
    assert.is_true(pool:pause { wait_ms = 5000 })
    assert.equal(1, pool:stats().paused)
    assert.is_true(pool:resume())
    assert.is_true(pool:drain { backend = key })
    assert.equal(1, pool:stats().drained_backends)
    assert.is_true(pool:restore { backend = key })
    assert.equal("not_found", select(3, pool:restore { backend = "db9" }))
    local threw, why = pcall(pool.drain, pool, {})
    assert.is_false(threw)
    assert.matches("pool:drain: option 'backend' is required: the key of a backend$", why)
    settled(2)
  end)

  it("closes and fails leases, which counts as that", function()
    local before = pool:stats()
    assert.is_true(assert(pool:claim()):close())
    assert.is_true(assert(pool:claim()):fail "it lied")
    settled(2)
    local stats = pool:stats()
    assert.same({ 1, 1 }, { stats.leases_closed - before.leases_closed, stats.leases_failed - before.leases_failed })
  end)

  it("refuses with facts, and an error's name", function()
    local first, second = assert(pool:try_claim()), assert(pool:try_claim())
    local lease, message, name = pool:try_claim()
    assert.is_nil(lease)
    assert.equal("claim_timeout", name)
    assert.is_truthy(message:find("2 busy", 1, true), message)
    lease, message, name = pool:claim { timeout_ms = 5 }
    assert.is_nil(lease)
    assert.equal("claim_timeout", name)
    assert.is_truthy(message:find "^claim timed out after %d", message)
    first:release()
    second:release()
    app:stop()
    assert.same({ nil, "pool_stopping" }, { (select(1, pool:claim())), (select(3, pool:claim())) })
    assert.equal("pool_stopping", select(3, pool:with(error)))
  end)

  it("is told what is misused, at the line that does", function()
    local function raised(fn) return select(2, pcall(fn)):gsub("^.-:%d+: ", "") end
    assert.equal("pool:claim: unknown option 'timeout'; did you mean 'timeout_ms'?", (raised(function() pool:claim { timeout = 1 } end)))
    assert.equal("pool:claim: it must be called with a colon, on its object: pool:claim(…), not pool.claim(…)",
      (raised(function() pool.claim() end)))
    assert.equal("pool:with: expected a function, got nil", (raised(function() pool:with() end)))
    local lease = pool:claim()
    assert.equal('lease:report: expected true (it went well) or false, got "well"', (raised(function() lease:report "well" end)))
    assert.equal("lease:socket: the descriptor blocks: claim it in a task, or with nonblocking = true",
      (raised(function() lease:socket() end)))
    lease:release()
  end)

  it("with a function: releases, or closes if it throws", function()
    local before = pool:stats()
    assert.same({ "a\n", 2, nil, 4 }, { pool:with(function(lease) return talk(lease.fd, "a\n"), 2, nil, 4 end) })
    assert.has_error(function() pool:with(function() error("oh", 0) end) end, "oh")
    pool:with(function(lease) lease:release() end)
    settled(2)
    assert.equal(1, pool:stats().leases_closed - before.leases_closed)
    assert.is_truthy(pool:explain():find("running", 1, true))
  end)

  it("takes back what was collected, closed, and says so", function()
    local lines, before = {}, pool:stats()
    cueball.host().log_to(function(level, line) lines[#lines + 1] = level .. ": " .. line end)
    local function forget() return pool:claim() ~= nil and pool:claim() ~= nil end
    assert.is_true(forget())
    collectgarbage()
    collectgarbage()
    settled(2)
    assert.equal(2, pool:stats().leases_closed - before.leases_closed)
    pool:claim():release()
    assert.equal(1, #lines)
    assert.is_truthy(lines[1]:find "^error: cueball .*lines: 2 leases were collected without having been released; closed$", lines[1])
  end)

  it("in luv's threads: each blocks alone, and all get their own answers", function()
    local counts, threads = ffi.new "int64_t[6]", {}
    for number = 0, 5 do
      threads[#threads + 1] = uv.new_thread(function(index, address)
        local c = require "ffi"
        c.cdef "ssize_t read(int fd, void *bytes, size_t size); ssize_t write(int fd, const void *bytes, size_t size);"
        local done, bytes = c.cast("int64_t *", address), c.new "char[64]"
        local of = assert(require("cueball.runtime").pool "lines")
        for round = 1, 200 do
          local line = ("thread %d, round %d\n"):format(index, round)
          of:with(function(lease)
            c.C.write(lease.fd, line, #line)
            if c.string(bytes, c.C.read(lease.fd, bytes, 64)) == line then done[index] = done[index] + 1 end
          end)
        end
      end, number, tonumber(ffi.cast("uintptr_t", counts)))
    end
    for _, thread in ipairs(threads) do thread:join() end
    for number = 0, 5 do assert.equal(200, tonumber(counts[number])) end
    settled(2)
  end)

  it("in luv's pool of threads", function()
    local sum = 0
    local work = uv.new_work(function(number)
      local of = assert(require("cueball.runtime").pool "lines")
      local lease = assert(of:claim())
      lease:release()
      return number
    end, function(number) sum = sum + number end)
    for number = 1, 20 do work:queue(number) end
    uv.run()
    assert.equal(210, sum)
    settled(2)
  end)

  it("whose state ends: its leases come back", function()
    local before = pool:stats()
    local thread = uv.new_thread(function()
      local of = assert(require("cueball.runtime").pool "lines")
      _G.kept = { of:claim(), of:claim() }
      assert(#_G.kept == 2)
    end)
    thread:join()
    settled(2)
    assert.equal(2, pool:stats().leases_closed - before.leases_closed)
  end)

  it("with another copy of the library: says which it asked, and which there is besides", function()
    local folder = shell.must "mktemp -d":gsub("\n", "")
    shell.must(("cp %s %s/libcueball.so"):format(shell.quote(require("cueball.native").path), folder))
    local size, text = 2000, ffi.new "char[2000]"
    local thread = uv.new_thread(function(path, address, room)
      package.cpath = path .. "/?.so;" .. package.cpath
      local c = require "ffi"
      local _, message, name = require("cueball.runtime").pool "lines"
      c.copy(c.cast("char *", address), (name .. ": " .. message):sub(1, room - 1))
    end, folder, tonumber(ffi.cast("uintptr_t", text)), size)
    thread:join()
    shell.must("rm -r " .. folder)
    local told = ffi.string(text)
    assert.is_truthy(told:find("not_found: ", 1, true) and told:find(("(asked: %s/libcueball.so; the process has another copy")
      :format(folder), 1, true), told)
  end)
end)
