--- Claims that wait in a task: the answers of all of them come to one mailbox, whose descriptor the host polls, so that the loop goes on.
--
-- The happy path: the claim is made; its task is parked; the descriptor becomes readable; `drain` takes every answer there is and wakes
-- the tasks. The descriptor is watched while claims wait, and no longer, so that it keeps no loop alive.
--
-- What can go wrong: the task is killed while its claim waits, or after it was answered. Then the claim is cancelled, or its lease
-- goes back.
local leases = require "cueball.runtime.lease"
local native = require "cueball.native"
local lib, ffi = native.lib, native.ffi

local WAITING = 1 -- CUEBALL_WAITING

local mailbox = {}

local Mailbox = {}
Mailbox.__index = Mailbox

local Claim = {}
Claim.__index = Claim

local by_host = setmetatable({}, { __mode = "k" })
local answer, handle = ffi.new "cueball_claim_answer", ffi.new "cueball_handle[1]"

-- @return a mailbox; or nil, message, name
local function open(host)
  local made = ffi.new "cueball_mailbox *[1]"
  local result = lib.cueball_mailbox_new(made)
  if result < 0 then return nil, leases.failure(result) end
  local core = ffi.gc(made[0], lib.cueball_mailbox_free)
  local poll, message = host.poll(lib.cueball_mailbox_fd(core))
  if not poll then return nil, message, "unsupported" end
  local self = setmetatable({ core = core, poll = poll, claims = {}, count = 0, last = 0 }, Mailbox)
  self.on_readable = function() self:drain() end
  by_host[host] = self
  return self
end

--- Takes every answer, and wakes those who wait for them.
function Mailbox:drain()
  while lib.cueball_mailbox_next(self.core, answer) do
    self.claims[tonumber(answer.user)]:answered(answer.error)
  end
end

-- The claim waits no more.
function Mailbox:forget(claim)
  self.claims[claim.number] = nil
  self.count = self.count - 1
  if self.count == 0 then self.poll:unwatch() end
end

-- @param result 0, or why the claim was refused
function Claim:answered(result)
  self.mailbox:forget(self)
  self.result = result
  if self.is_abandoned then
    if result == 0 then lib.cueball_lease_release(answer.lease) end -- nobody has used it
  elseif result == 0 then
    ffi.copy(self.lease.raw, answer.lease, ffi.sizeof "cueball_lease")
  else
    self.message, self.name = leases.failure(result)
  end
  self.waiter:wake()
end

--- For host.guard: the task was killed while the claim waited.
function Claim:abort()
  if self.result == 0 then
    leases.begun(self.lease, true):release()
    return
  end
  if not self.result then
    local is_cancelled = lib.cueball_threaded_claim_cancel(self.lease.pool.core, self.handle) == 0
    if is_cancelled then self.mailbox:forget(self) else self.is_abandoned = true end
  end
  leases.drop(self.lease)
  if self.is_abandoned then self.mailbox:drain() end -- its answer is there, or about to come
end

--- Makes a claim in a task, which waits for the answer.
-- @param host    of the task
-- @param pool    of cueball.runtime
-- @param options a cueball_threaded_claim_options
-- @param lease   that nobody has yet
-- @return 0: it was granted, and the lease is filled in; or an error of the library, message, name
function mailbox.claim(host, pool, options, lease)
  local self, message, name = by_host[host], nil, nil
  if not self then self, message, name = open(host) end
  if not self then return tonumber(lib.CUEBALL_ENOMEM), message, name end
  self.last = self.last + 1
  options.user = self.last
  local number = self.last
  local result = lib.cueball_threaded_claim_async(pool.core, options, self.core, lease.raw, handle)
  if result ~= WAITING then return result end
  local claim = setmetatable({
    mailbox = self, number = number, lease = lease, handle = handle[0], waiter = host.waiter(), result = nil, message = nil, name = nil,
    is_abandoned = false,
  }, Claim)
  if self.count == 0 then self.poll:watch(self.on_readable) end
  self.claims[number], self.count = claim, self.count + 1
  host.guard(claim)
  claim.waiter:wait()
  host.unguard(claim)
  return claim.result, claim.message, claim.name
end

return mailbox
