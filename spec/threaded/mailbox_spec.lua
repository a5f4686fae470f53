--- Asynchronous claims: one thread is host and claimer, so that all happens in order. With threads: mailbox_test.c.
local native = require "cueball.native"
local program = require "spec.support.program"
local lib, ffi = native.lib, native.ffi

ffi.cdef [[
typedef struct spec_mailbox_pollfd { int fd; short events, revents; } spec_mailbox_pollfd;
int spec_mailbox_poll(spec_mailbox_pollfd *fds, unsigned long count, int timeout) __asm__("poll");
]]

local WAITING = 1
local action, answer, handle = ffi.new "cueball_action", ffi.new "cueball_claim_answer", ffi.new "cueball_handle[1]"

local function is_readable(mailbox)
  local fds = ffi.new("spec_mailbox_pollfd[1]", { { fd = lib.cueball_mailbox_fd(mailbox), events = 1 } })
  return ffi.C.spec_mailbox_poll(fds, 1, 0) == 1
end

local function last_error() return ffi.string(lib.cueball_last_error()) end

describe("an asynchronous claim", function()
  local pool, mailbox

  -- Does what the pool wants: connections are pointers.
  local function pump()
    lib.cueball_threaded_time_advanced(pool, lib.cueball_clock_now())
    while lib.cueball_threaded_next_action(pool, action) do
      if action.kind == lib.CUEBALL_ACTION_OPEN then
        lib.cueball_threaded_conn_opened(pool, lib.cueball_clock_now(), action.conn, -1, ffi.cast("void *", action.slot + 1))
      elseif action.kind == lib.CUEBALL_ACTION_CLOSE then
        lib.cueball_pool_conn_closed(lib.cueball_threaded_lock(pool), lib.cueball_clock_now(), action.conn)
        lib.cueball_threaded_unlock(pool)
      end
    end
  end

  local function open(connections, options)
    local of_pool = ffi.new "cueball_options"
    lib.cueball_options_init_sized(of_pool, ffi.sizeof(of_pool))
    of_pool.max_connections, of_pool.spares = connections, connections
    for name, value in pairs(options or {}) do of_pool[name] = value end
    local made = ffi.new "cueball_threaded *[1]"
    local given = ffi.new("cueball_threaded_options", { wake_fd = -1 })
    assert.equal(0, lib.cueball_threaded_new(given, of_pool, lib.cueball_allocator_libc(), 1, lib.cueball_clock_now(), made))
    pool = made[0]
    local backend = ffi.new("cueball_backend_spec", { port = 1, key = "b1", address = "10.0.0.1" })
    lib.cueball_pool_backend_added(lib.cueball_threaded_lock(pool), lib.cueball_clock_now(), backend)
    lib.cueball_threaded_unlock(pool)
    pump()
  end

  before_each(function()
    local made = ffi.new "cueball_mailbox *[1]"
    assert.equal(0, lib.cueball_mailbox_new(made))
    mailbox = made[0]
  end)

  after_each(function()
    if mailbox then lib.cueball_mailbox_free(mailbox) end
    if pool then lib.cueball_threaded_close(pool) end
    pool, mailbox = nil, nil
  end)

  -- → result, lease, claim
  local function claim(user, timeout_ms)
    local options = ffi.new("cueball_threaded_claim_options", { user = user, timeout_ms = timeout_ms or math.huge })
    local lease = ffi.new "cueball_lease"
    local result = lib.cueball_threaded_claim_async(pool, options, mailbox, lease, handle)
    return result, lease, handle[0]
  end

  -- The users whose answers are there, each with what it got.
  local function take()
    local list = {}
    while lib.cueball_mailbox_next(mailbox, answer) do
      local got = answer.error == 0 and "got" or ffi.string(lib.cueball_error_name(answer.error))
      list[#list + 1] = tonumber(answer.user) .. " " .. got
    end
    return table.concat(list, ", ")
  end

  it("is granted at once where a connection is idle", function()
    open(1)
    local result, lease, number = claim(7)
    assert.equal(0, result)
    assert.is_true(lease.pool == pool and lease.pointer ~= nil and lease.fd == -1)
    assert.equal(0, tonumber(number))
    assert.is_false(is_readable(mailbox))
    assert.equal("", take())
    assert.equal(0, lib.cueball_lease_release(lease))
  end)

  it("is answered in the mailbox, first come, first served", function()
    open(1)
    local _, lease = claim(1)
    for user = 2, 4 do assert.equal(WAITING, (claim(user))) end
    assert.is_false(is_readable(mailbox))
    for user = 2, 4 do
      assert.equal(0, lib.cueball_lease_release(lease))
      assert.is_true(is_readable(mailbox))
      assert.is_true(lib.cueball_mailbox_next(mailbox, answer))
      assert.is_false(is_readable(mailbox))
      assert.equal(user, tonumber(answer.user))
      assert.equal(0, answer.error)
      lease = ffi.new("cueball_lease", answer.lease)
    end
    assert.is_false(lib.cueball_mailbox_next(mailbox, answer))
    assert.equal(0, lib.cueball_lease_release(lease))
  end)

  it("stands in one queue with the host's own claims", function()
    open(1)
    local _, lease = claim(1)
    local grant, options = ffi.new "cueball_grant", ffi.new("cueball_claim_options", { user = 5, timeout_ms = math.huge })
    assert.equal(WAITING, lib.cueball_threaded_host_claim(pool, lib.cueball_clock_now(), options, grant))
    assert.equal(WAITING, (claim(2)))
    lib.cueball_lease_release(lease)
    assert.equal("", take())
    assert.is_true(lib.cueball_threaded_next_action(pool, action))
    assert.equal(5, tonumber(action.user))
    lib.cueball_pool_lease_released(lib.cueball_threaded_lock(pool), lib.cueball_clock_now(), action.lease)
    lib.cueball_threaded_unlock(pool)
    assert.equal("2 got", take())
  end)

  it("has many answers with one wake-up", function()
    open(1)
    local _, lease = claim(1)
    for user = 2, 101 do claim(user) end
    lib.cueball_pool_stop(lib.cueball_threaded_lock(pool), lib.cueball_clock_now())
    lib.cueball_threaded_unlock(pool)
    local bytes = ffi.new "uint64_t[1]"
    ffi.cdef [[long spec_mailbox_read(int fd, void *bytes, size_t size) __asm__("read");]]
    assert.equal(8, tonumber(ffi.C.spec_mailbox_read(lib.cueball_mailbox_fd(mailbox), bytes, 8)))
    assert.equal(1, tonumber(bytes[0]))   -- it was written to once
    local list = {}
    for user = 2, 101 do list[#list + 1] = user .. " pool_stopping" end
    assert.equal(table.concat(list, ", "), take())   -- though the program read what is not its own
    lib.cueball_lease_release(lease)
  end)

  it("says why it was refused, with facts", function()
    open(1)
    local result, lease = claim(1)
    assert.equal(0, result)
    assert.equal(WAITING, (claim(2, 1)))
    assert.equal(lib.CUEBALL_ECLAIM_TIMEOUT, (claim(3, -1)))
    assert.is_truthy(last_error():find "^claim timed out after 0 ms %(%d+ ahead, 1 busy%)", last_error())
    while not is_readable(mailbox) do pump() end
    assert.equal("2 claim_timeout", take())
    assert.is_truthy(last_error():find "^claim timed out after %d+%.%d+ ms %(0 ahead, 1 busy%)", last_error())
    lib.cueball_lease_release(lease)
  end)

  it("is cancelled while it waits, and never answered", function()
    open(1)
    local _, lease = claim(1)
    local _, _, second = claim(2)
    claim(3)
    assert.equal(0, lib.cueball_threaded_claim_cancel(pool, second))
    assert.equal(lib.CUEBALL_ESTALE, lib.cueball_threaded_claim_cancel(pool, second))
    lib.cueball_lease_release(lease)
    assert.equal("3 got", take())
  end)

  it("cannot be cancelled once it has its answer, which is in the mailbox", function()
    open(1)
    local _, lease = claim(1)
    local _, _, second = claim(2)
    lib.cueball_lease_release(lease)
    assert.equal(lib.CUEBALL_ESTALE, lib.cueball_threaded_claim_cancel(pool, second))
    assert.equal("2 got", take())
    assert.equal(lib.CUEBALL_ESTALE, lib.cueball_threaded_claim_cancel(pool, second))
  end)

  it("of somebody else is not cancelled", function()
    open(1)
    local _, lease = claim(1)
    local grant, options = ffi.new "cueball_grant", ffi.new("cueball_claim_options", { user = 5, timeout_ms = math.huge })
    lib.cueball_threaded_host_claim(pool, lib.cueball_clock_now(), options, grant)
    assert.equal(lib.CUEBALL_ESTALE, lib.cueball_threaded_claim_cancel(pool, grant.claim))
    lib.cueball_lease_release(lease)
    assert.is_true(lib.cueball_threaded_next_action(pool, action))
  end)

  it("ends with its mailbox, as do leases that were not taken", function()
    open(2)
    local _, first = claim(1)
    claim(2)
    claim(3)
    claim(4)
    lib.cueball_lease_release(first) -- 3 has it
    lib.cueball_mailbox_free(mailbox)
    mailbox = nil
    local counts = ffi.new "cueball_counts"
    lib.cueball_pool_counts(lib.cueball_threaded_lock(pool), counts)
    lib.cueball_threaded_unlock(pool)
    assert.same({ 1, 1, 0 }, { counts.idle, counts.busy, counts.waiting }) -- 2 was granted at once, and is its claimer's
  end)

  it("outlives its pool: the refusal is in the mailbox", function()
    open(1)
    claim(1)
    claim(2)
    lib.cueball_threaded_close(pool)
    pool = nil
    assert.equal("2 pool_stopping", take())
    assert.is_truthy(last_error():find("stopped", 1, true), last_error())
  end)

  it("is refused what makes no sense", function()
    open(1)
    local options, lease = ffi.new "cueball_threaded_claim_options", ffi.new "cueball_lease"
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_threaded_claim_async(nil, options, mailbox, lease, handle))
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_threaded_claim_async(pool, options, nil, lease, handle))
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_threaded_claim_async(pool, options, mailbox, nil, handle))
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_threaded_claim_async(pool, options, mailbox, lease, nil))
    options.timeout_ms = 0 / 0
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_threaded_claim_async(pool, options, mailbox, lease, handle))
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_threaded_claim_cancel(nil, 1))
    assert.equal(lib.CUEBALL_ESTALE, lib.cueball_threaded_claim_cancel(pool, 0))
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_mailbox_new(nil))
    assert.equal(-1, lib.cueball_mailbox_fd(nil))
    assert.is_false(lib.cueball_mailbox_next(nil, answer))
    assert.is_false(lib.cueball_mailbox_next(mailbox, nil))
    lib.cueball_mailbox_free(nil)
    assert.equal(0, lib.cueball_threaded_claim_async(pool, nil, mailbox, lease, handle))
    lib.cueball_lease_release(lease)
  end)
end)

describe("mailboxes and threads", function()
  setup(program.setup)
  teardown(program.teardown)

  it("lose nothing: every claim is answered once, whoever takes, cancels, or frees", function()
    program.linked("mailbox_test", "spec/threaded/mailbox_test.c")
  end)
end)
