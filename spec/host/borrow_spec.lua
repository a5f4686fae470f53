--- host.borrow: a socket over a connected descriptor that stays somebody else's.
local collect = require "spec.support.collect"
local ffi = require "ffi"
local host = require "cueball.host.uv"
local sim = require "cueball.host.sim"
local uv = require "luv"

ffi.cdef [[
int spec_borrow_socketpair(int domain, int type, int protocol, int *pair) __asm__("socketpair");
int spec_borrow_close(int fd) __asm__("close");
long spec_borrow_write(int fd, const char *bytes, size_t count) __asm__("write");
long spec_borrow_read(int fd, char *bytes, size_t count) __asm__("read");
]]

local function descriptors()
  local request, count = assert(uv.fs_scandir "/proc/self/fd"), 0
  while uv.fs_scandir_next(request) do count = count + 1 end
  return count
end

describe("host.borrow", function()
  local ours, theirs

  local function open()
    local pair = ffi.new "int[2]"
    assert.equal(0, ffi.C.spec_borrow_socketpair(1, 1, 0, pair))
    ours, theirs = pair[0], pair[1]
  end

  local function close()
    ffi.C.spec_borrow_close(ours)
    ffi.C.spec_borrow_close(theirs)
  end

  -- Descriptors are counted: what earlier specs left is closed before, and the loop has made those of its own that it makes when it first
  -- has one to watch.
  setup(function()
    collect()
    open()
    host.run(function()
      local task = host.spawn(function() assert(host.borrow(ours)):receive() end)
      host.sleep(0)
      host.kill(task)
    end)
    close()
  end)

  before_each(open)
  after_each(close)

  local function say(text) ffi.C.spec_borrow_write(theirs, text, #text) end
  local function hear()
    local bytes = ffi.new "char[100]"
    return ffi.string(bytes, ffi.C.spec_borrow_read(theirs, bytes, 100))
  end

  it("talks over it, and leaves it open", function()
    host.run(function()
      local before
      for _ = 1, 3 do
        local sock = assert(host.borrow(ours))
        assert.is_true(host.is_socket(sock))
        assert.equal(6, sock:send "hello\n")
        assert.equal("hello\n", hear())
        host.spawn(say, "line\nrest")
        assert.equal("line", sock:receive())
        assert.equal("rest", sock:receive(4))
        assert.is_true(sock:is_fit())
        assert.equal(1, sock:close())
        host.sleep(0)
        before = before or descriptors()
        assert.equal(before, descriptors())
      end
      say "still"   -- nothing reads it any more but its owner
      host.sleep(5)
      local bytes = ffi.new "char[100]"
      assert.equal(5, tonumber(ffi.C.spec_borrow_read(ours, bytes, 100)))
    end)
  end)

  it("tells of bytes that were read and not received", function()
    host.run(function()
      local sock = assert(host.borrow(ours))
      say "1\n2\n"
      assert.equal("1", sock:receive())
      assert.same({ nil, "unexpected data", "worn" }, { sock:is_fit() })
      sock:abort()
    end)
  end)

  it("tells of an answer under way", function()
    host.run(function()
      local sock = assert(host.borrow(ours))
      sock:settimeout(1)
      sock:send "question\n"
      assert.same({ nil, "timeout", "" }, { sock:receive() })
      local _, _, kind = sock:is_fit()
      assert.equal("timeout", kind)
      sock:abort()
    end)
  end)

  it("ends with its task, and the descriptor does not", function()
    host.run(function()
      local before = descriptors()
      local task = host.spawn(function() assert(host.borrow(ours)):receive() end)
      host.kill(task)
      host.sleep(0)
      assert.equal(before, descriptors())
      say "x"
      assert.equal(1, tonumber(ffi.C.spec_borrow_read(ours, ffi.new "char[1]", 1)))
    end)
  end)

  it("is over TCP, too", function()
    host.run(function()
      local server = uv.new_tcp()
      server:bind("127.0.0.1", 0)
      server:listen(1, function()
        local peer = uv.new_tcp()
        server:accept(peer)
        peer:read_start(function(_, data) if data then peer:write(data:upper()) else peer:close() end end)
      end)
      local first = host.tcp()
      assert(first:connect("127.0.0.1", server:getsockname().port))
      local sock = assert(host.borrow(first.transport.number))
      sock:send "once\n"
      assert.equal("ONCE", sock:receive())
      sock:close()
      first:send "twice\n"
      assert.equal("TWICE", first:receive())
      first:close()
      server:close()
    end)
  end)

  it("refuses what is no stream socket, and what is nothing", function()
    local before = descriptors()
    local file = assert(uv.fs_open("/dev/null", "r", 0))
    assert.same({ nil, ("descriptor %d is no connected stream socket"):format(file) }, { host.borrow(file) })
    uv.fs_close(file)
    assert.same({ nil, ("descriptor %d is no connected stream socket"):format(file) }, { host.borrow(file) })
    assert.equal(before, descriptors())
  end)

  it("is not there where a host cannot do it", function()
    assert.same({ nil, "this host makes no sockets of descriptors" }, { sim.new { seed = 1 }.borrow(3) })
  end)
end)
