--- host.poll on libuv: descriptors that belong to somebody else. With epoll, and as where there is none.
local ffi = require "ffi"
local host = require "cueball.host.uv"
local poll = require "cueball.host.uv.poll"
local until_true = require "spec.support.until_true"
local uv = require "luv"

ffi.cdef [[
int spec_poll_socketpair(int domain, int type, int protocol, int *pair) __asm__("socketpair");
int spec_poll_close(int fd) __asm__("close");
long spec_poll_write(int fd, const char *bytes, size_t count) __asm__("write");
long spec_poll_read(int fd, char *bytes, size_t count) __asm__("read");
int spec_poll_dup2(int from, int to) __asm__("dup2");
]]

local STREAM_NONBLOCKING = 1 + 2048

for _, name in ipairs { "epoll", "luv" } do
  describe("host.poll with " .. name, function()
    local with_poll, ours, theirs, open

    setup(function()
      with_poll = { tasks = host.tasks }
      poll.install(with_poll, uv, name == "epoll")
    end)

    before_each(function()
      local pair = ffi.new "int[2]"
      assert.equal(0, ffi.C.spec_poll_socketpair(1, STREAM_NONBLOCKING, 0, pair))
      ours, theirs = pair[0], pair[1]
      open = { [ours] = true, [theirs] = true }
    end)

    local function close(fd)
      if open[fd] then ffi.C.spec_poll_close(fd) end
      open[fd] = nil
    end

    after_each(function()
      close(ours)
      close(theirs)
    end)

    local function say(text) ffi.C.spec_poll_write(theirs, text, #text) end
    local function read()
      local bytes = ffi.new "char[100]"
      local count = ffi.C.spec_poll_read(ours, bytes, 100)
      return count >= 0 and ffi.string(bytes, count) or nil
    end

    it("waits until the descriptor is readable, writable, or either", function()
      host.run(function()
        local one = with_poll.poll(ours)
        assert.equal("w", one:wait("w", 60000))
        assert.equal("w", one:wait("rw", 60000))
        assert.same({ nil, "timeout" }, { one:wait("r", 10) })
        assert.same({ nil, "timeout" }, { one:wait("r", 0) })
        host.spawn(function()
          host.sleep(20)
          say "x"
        end)
        assert.equal("r", one:wait("r", 60000))
        assert.equal("r", one:wait "r")
        assert.equal("rw", one:wait("rw", 60000))
        assert.equal("x", read())
        assert.same({ nil, "timeout" }, { one:wait("r", 10) })
        close(theirs)
        assert.equal("r", one:wait("r", 60000):sub(1, 1))
        one:close()
        assert.same({ nil, "closed" }, { one:wait "r" })
        one:close()
      end)
    end)

    it("does not spin where something came and nobody waits", function()
      host.run(function()
        local one = with_poll.poll(ours)
        assert.equal("w", one:wait("rw", 60000))
        say "x"
        local before = host.tasks.polls.begun
        host.sleep(100)
        assert.is_true(host.tasks.polls.begun - before < 30)
        assert.equal("r", one:wait("r", 60000))
        one:close()
      end)
    end)

    it("goes on with nil, closed, where it is closed under a task", function()
      host.run(function()
        local one = with_poll.poll(ours)
        host.spawn(function()
          host.sleep(10)
          one:close()
        end)
        assert.same({ nil, "closed" }, { one:wait "r" })
      end)
    end)

    it("lets one task wait at a time, and another once that was killed", function()
      host.run(function()
        local one = with_poll.poll(ours)
        local task = host.spawn(function() one:wait "r" end)
        local ok, message = pcall(function() one:wait "r" end)
        assert.is_false(ok)
        assert.matches("poll_spec.lua:%d+: poll:wait: another task waits in it", message)
        host.kill(task)
        say "x"
        host.sleep(10)
        assert.equal("r", one:wait("r", 60000))
        one:close()
      end)
    end)

    it("watches: the function is called as often as something comes, and not while a task waits", function()
      host.run(function()
        local one, heard = with_poll.poll(ours), {}
        assert.is_true(one:watch(function() heard[#heard + 1] = read() end))
        say "a"
        until_true(function() return heard[1] end)
        say "b"
        until_true(function() return heard[2] end)
        assert.same({ "a", "b" }, heard)
        one:unwatch()
        say "c"
        host.sleep(30)
        assert.same({ "a", "b" }, heard)
        assert.equal("r", one:wait("r", 60000))
        assert.equal("c", read())
        one:watch(function()
          heard[#heard + 1] = "once"
          one:close()
        end)
        say "d"
        until_true(function() return heard[3] end)
        host.sleep(30)
        assert.same({ "a", "b", "once" }, heard)
        assert.same({ nil, "closed" }, { one:watch(function() end) })
      end)
    end)

    it("is not confused by a number that comes again", function()
      host.run(function()
        for _ = 1, 5 do
          local one = with_poll.poll(ours)
          say "x"
          assert.equal("r", one:wait("r", 60000))
          -- The library closes its descriptor and opens another of that number; then the poll is closed, and a new one made.
          one:close()
          local pair = ffi.new "int[2]"
          ffi.C.spec_poll_socketpair(1, STREAM_NONBLOCKING, 0, pair)
          ffi.C.spec_poll_dup2(pair[0], ours)
          ffi.C.spec_poll_dup2(pair[1], theirs)
          ffi.C.spec_poll_close(pair[0])
          ffi.C.spec_poll_close(pair[1])
        end
        local one = with_poll.poll(ours)
        assert.same({ nil, "timeout" }, { one:wait("r", 10) })
        one:close()
      end)
    end)

    it("refuses what is no descriptor", function()
      assert.has_error(function() with_poll.poll(-1) end)
      assert.has_error(function() with_poll.poll "x" end)
      host.run(function()
        local one = with_poll.poll(900)
        local ok, message = one:wait("r", 10)
        assert.is_nil(ok)
        assert.is_string(message)
        assert.has_error(function() with_poll.poll(ours):wait("x", 10) end)
        assert.has_error(function() with_poll.poll(ours):watch(5) end)
        one:close()
      end)
    end)

    it("keeps the loop alive only while somebody waits or watches", function()
      until_true(function() return not uv.loop_alive() end) -- servers of earlier specs may end only now
      local one = with_poll.poll(ours)
      local task = host.spawn(function() one:wait "r" end)
      assert.is_true(uv.loop_alive())
      host.kill(task)
      say "x"
      host.run(host.sleep, 20)
      assert.is_false(uv.loop_alive())
      one:close()
      host.run(host.sleep, 1)
    end)
  end)
end
