--- Leases on connections that another thread opened: what a claimer in a Lua state has of one.
--
-- `raw` is the library's lease; a finalizer closes one that was forgotten. While the lease lasts, lease.fd is its descriptor and
-- lease.pointer its pointer, where the connection has them. Both stay the pool's: nobody closes the descriptor.
--
-- What can go wrong: the pool may have taken the connection back (its drain was over): every method says "stale" then.
local hosts = require "cueball.host"
local misuse = require "cueball.misuse"
local native = require "cueball.native"
local text = require "cueball.text"
local lib, ffi = native.lib, native.ffi

local lease = {}

local Lease = {}
Lease.__index = Lease

local new_raw = ffi.typeof "cueball_lease"

--- What the library's last call in this thread failed for.
-- @param result of the call
-- @return message, name
function lease.failure(result)
  return ffi.string(lib.cueball_last_error()), ffi.string(lib.cueball_error_name(result))
end

--- What ends a lease that was forgotten.
-- @param core      the library's pool: each lease has a reference to it
-- @param forgotten { count = how many were }
function lease.finalizer(core, forgotten)
  return function(raw)
    if lib.cueball_lease_close(raw) == 0 then forgotten.count = forgotten.count + 1 end
    lib.cueball_threaded_drop(core)
  end
end

--- A lease that nobody has yet: its `raw` is what a claim fills in.
-- @param pool of cueball.runtime
function lease.new(pool)
  lib.cueball_threaded_keep(pool.core)
  local raw = ffi.gc(new_raw(), pool.finalizer)
  return setmetatable({ pool = pool, raw = raw, fd = nil, pointer = nil, sock = nil, is_nonblocking = false }, Lease)
end

--- The claim was granted.
function lease.begun(self, is_nonblocking)
  local raw = self.raw
  self.is_nonblocking = is_nonblocking
  if raw.fd >= 0 then self.fd = raw.fd end
  if raw.pointer ~= nil then self.pointer = raw.pointer end
  return self
end

--- There is nothing to be ended: the claim was refused, or the lease has ended.
function lease.drop(self)
  local pool = self.pool
  ffi.gc(self.raw, nil)
  self.pool, self.raw, self.fd, self.pointer = nil, nil, nil, nil
  lib.cueball_threaded_drop(pool.core)
end

local function stale()
  return nil, "the lease is over: it was released, closed or taken back before", "stale"
end

-- Ends the lease with one of the library's functions.
local function finish(self, how, argument)
  local result
  if argument == nil then result = how(self.raw) else result = how(self.raw, argument) end
  local message, name
  if result < 0 then message, name = lease.failure(result) end
  lease.drop(self)
  if result < 0 then return nil, message, name end
  return true
end

-- Gives up the socket over the descriptor.
-- @return nil if the connection may be lent again; or message, kind
local function end_socket(self)
  local sock = self.sock
  if not sock then return nil end
  self.sock = nil
  local is_fit, message, kind = sock:is_fit()
  sock:abort()
  if is_fit then return nil end
  return message, kind
end

--- Gives the connection back for the next claimer. If it was used through lease:socket() and that finds it unfit, it is replaced instead.
-- @return true; or nil, message, "stale"
function Lease:release()
  if not self.raw then return stale() end
  local message, kind = end_socket(self)
  if not message then return finish(self, lib.cueball_lease_release) end
  if kind == "timeout" or kind == "lost" then return finish(self, lib.cueball_lease_fail, message) end
  return finish(self, lib.cueball_lease_close)
end

--- Closes the connection: it is of no more use, and that is nobody's fault.
-- @return true; or nil, message, "stale"
function Lease:close()
  if not self.raw then return stale() end
  end_socket(self)
  return finish(self, lib.cueball_lease_close)
end

--- Closes the connection, and holds it against its backend.
-- @param message what went wrong, for the pool's last error; or nil
-- @return true; or nil, message, "stale"
function Lease:fail(message)
  if not self.raw then return stale() end
  end_socket(self)
  return finish(self, lib.cueball_lease_fail, text.message(message or "a claimer failed the lease"))
end

--- Says how the lease went, before it ends; the last report counts.
-- @param went_well as of a pool's lease:report (docs/lua.md)
-- @return true; or nil, message, "stale"
function Lease:report(went_well)
  if type(went_well) ~= "boolean" then
    misuse.raise("lease:report: expected true (it went well) or false, got " .. text.show(went_well))
  end
  if not self.raw then return stale() end
  local result = lib.cueball_lease_report(self.raw, went_well)
  if result < 0 then return nil, lease.failure(result) end
  return true
end

local backend = ffi.new "cueball_threaded_backend"

--- The backend of the connection: { key, name, address, port }; nil once the lease is over.
function Lease:backend()
  if not self.raw then return nil end
  backend.struct_size = ffi.sizeof(backend)
  if lib.cueball_lease_backend(self.raw, backend) < 0 then return nil end
  return { key = ffi.string(backend.key), name = ffi.string(backend.name), address = ffi.string(backend.address), port = backend.port }
end

local TEXT_SIZE = 512
local words = ffi.new("char[?]", TEXT_SIZE)

--- Why the lease took so long to get, in a sentence; nil once it is over.
function Lease:explain()
  if not self.raw or lib.cueball_lease_explain(self.raw, words, TEXT_SIZE) < 0 then return nil end
  return ffi.string(words)
end

--- A socket with ngx_lua's API over the descriptor, in a task of a host that can make one (libuv). It is the same for each call, and ends
-- with the lease; to close it ends nothing else.
-- @return a socket; or nil, message, name: "stale"; "unsupported": there is no descriptor, or no such host
function Lease:socket()
  if not self.raw then return stale() end
  if self.sock then return self.sock end
  if not self.fd then return nil, "the connection has no descriptor", "unsupported" end
  if not self.is_nonblocking then
    misuse.raise "lease:socket: the descriptor blocks: claim it in a task, or with nonblocking = true"
  end
  local host = hosts.loaded()
  if not host or not host.borrow then return nil, "lease:socket needs a host with sockets, such as cueball.host.uv", "unsupported" end
  local made, message = host.borrow(self.fd)
  if not made then return nil, message, "unsupported" end
  self.sock = made
  return made
end

--- For host.guard: the task was killed in the middle of something.
function Lease:abort()
  if self.raw then self:close() end
end

--- Calls fn; the lease is closed if its task is killed meanwhile.
-- @return what fn returned
function lease.guarded(host, self, fn)
  host.guard(self)
  local function unguard(...)
    host.unguard(self)
    return ...
  end
  return unguard(fn())
end

function Lease:__tostring()
  local of = self:backend()
  return ("cueball.runtime.lease (%s)"):format(of and of.key or "over")
end

misuse.guard(Lease, "lease", { "release", "close", "fail", "report", "backend", "explain", "socket" })

return lease
