--- Pools whose connections are lent to the threads of a C program, too: what such a pool does besides. It is pool.threaded; elsewhere that
-- is nil.
--
-- The happy path: an attempt opens a connection, and the core is told its descriptor or its pointer. Threads lend it among themselves, in
-- C; Lua hears of nothing but what is to be opened, closed and checked. While a connection is idle, or a thread has it, nothing of Lua's
-- reads or watches its descriptor: C looks whether it breaks. Tasks of the script claim from the same pool, and use the socket itself.
--
-- What can go wrong:
-- - a connection cannot be given out as a descriptor or a pointer (its TLS is this process's, its factory knows neither): the core is told
--   of it alone, threads are refused, and the log says why;
-- - a connection is to be closed while a thread has it (the drain time is over): C has shut its descriptor down; it is kept open until the
--   thread gives it back, since its number would come to mean another one in that thread;
-- - a thread gives back what Lua has to look at (a factory with `broken` or `reset`): the lease goes on in the core until that is done.
local ffi = require "ffi"
local door = require "cueball.pool.core"
local faults = require "cueball.pool.faults"
local native = require "cueball.native"
local perform = require "cueball.pool.perform"
local text = require "cueball.text"
local lib = native.lib

local threads = {}

local Threaded = {}
Threaded.__index = Threaded

-- What lends a pool to threads, by pool; nobody else has to keep it.
local kept = {}
threads.kept = kept
local lingering, when_none = 0, nil -- pools that have stopped, but for connections that threads have; function(): there is none any more

--- host.threaded of a runtime.
-- @param host    the host of its loop
-- @param runtime what C gave cueball.runtime.boot
-- @return function(name, factory): what lends connections of a pool that is about to be made; or nil, message
function threads.on(host, runtime)
  return function(name, factory)
    local read_fd, write_fd = runtime.wake_open()
    if not read_fd then return nil, "no descriptor is left" end
    return setmetatable({
      host = host, runtime = runtime, pool_name = name, name = runtime.name .. "/" .. name,
      inspects = factory.reset ~= nil or factory.broken ~= nil and not (factory.asks_socket or factory.asks_descriptor),
      read_fd = read_fd, wake_fd = write_fd, -- C writes to the latter when there is something to do
      pool = nil, wake = nil, watch = nil, -- polls of the former, and of connections that may have broken
      noted = nil,   -- what refusals end with, as C was told last
      unfit = nil,   -- why threads cannot have the connection that was opened last
      told = {},     -- true by message: why connections cannot be handed out, as the log was told
      orphans = {},  -- by conn: { factory =, connection =, backend = } that a thread has, of a slot that is done with it
      is_stopped = false,
    }, Threaded)
  end
end

local function name_of_thread(holder)
  local number = tonumber(holder.thread)
  if number == 0 then return "a thread" end
  local name = holder.is_detached and "detached" or text.message(ffi.string(holder.name))
  return name == "" and ("thread %d"):format(number) or ("thread %d (%s)"):format(number, name)
end

--- The thread that has a lease: "thread 4711 (worker)"; "a thread" where nobody knows.
function Threaded:holder(slot, lease)
  local core = self.pool.core
  return core:holder_of(slot, lease) == 0 and name_of_thread(core.holder) or "a thread"
end

-- The pool could not be made: what was to lend it is given up.
function Threaded:abandon()
  self.runtime.wake_close(self.read_fd, self.wake_fd)
end

--- The pool has its core: from now on threads find the pool.
function Threaded:begin(pool)
  local host, runtime, core = self.host, self.runtime, pool.core
  self.pool, kept[pool] = pool, self
  self.wake = host.poll(self.read_fd)
  self.wake:watch(function()
    runtime.wake_clear(self.read_fd)
    self:hear()
  end)
  local fd = core:watch_fd()
  if fd >= 0 then
    self.watch = host.poll(fd)
    self.watch:watch(function()
      core:look(pool.now())
      pool:pump()
    end)
  end
  runtime.add_pool(self.pool_name, tonumber(ffi.cast("uintptr_t", core.shared)))
end

-- ------------------------------------------------------ what threads get of one --

-- What a factory says; nil, message if it threw.
local function ask(pool, member, fn, connection)
  local ok, value, message = pool:guarded(member, fn, connection)
  if not ok then return nil, ("the connection factory's %s threw"):format(member) end
  return value, message
end

local function pointer_of(value)
  if type(value) == "number" then value = ffi.cast("uintptr_t", value) end
  local ok, pointer = pcall(ffi.cast, "void *", value)
  if ok and pointer ~= nil then return pointer end
  return nil, "the connection factory's pointer gave no pointer but " .. text.show(value)
end

local function by_factory(pool, factory, connection)
  local fd, pointer = -1, nil
  if factory.descriptor then
    local given, message = ask(pool, "descriptor", factory.descriptor, connection)
    if not given and (message or not factory.pointer) then return nil, message or "its factory gave no descriptor" end
    if given and (type(given) ~= "number" or given < 0 or given % 1 ~= 0) then
      return nil, "the connection factory's descriptor gave no descriptor but " .. text.show(given)
    end
    fd = given or -1 -- a pointer is enough
  end
  if factory.pointer then
    local message
    pointer, message = ask(pool, "pointer", factory.pointer, connection)
    if pointer ~= nil then pointer, message = pointer_of(pointer) end
    if pointer == nil and (message or fd < 0) then return nil, message or "its factory gave no pointer" end
  end
  return fd, pointer
end

-- → its descriptor (-1: none) and its pointer (nil: none); or nil, why threads cannot have it
local function handed_out(pool, slot)
  local factory, socket = pool.factories[slot], pool.sockets[slot]
  if factory.descriptor or factory.pointer then return by_factory(pool, factory, pool.opened[slot]) end
  if not socket then return nil, "its factory has neither `descriptor` nor `pointer` (docs/contracts.md)" end
  if not socket.lend_descriptor then return nil, "sockets of this host have no descriptor" end
  return socket:lend_descriptor()
end

--- An attempt has opened the connection of this slot: tells the core, and what threads get.
-- @return whether the core still cares
function Threaded:opened(slot, conn)
  local pool = self.pool
  local core, fd, pointer = pool.core, handed_out(pool, slot)
  local result
  if fd then
    self.unfit = nil
    result = core:opened_for_threads(pool.now(), conn, fd, pointer)
  else
    local why = text.message(pointer)
    self.unfit = why
    self:pumped() -- threads that wait are refused with it
    if not self.told[why] then
      self.told[why] = true
      local key = pool.slot_backends[slot].key
      pool:log("warn", ("threads cannot have connections to %s: %s"):format(key, why), "threads_refused", { backend = key, error = why })
    end
    result = core:conn_opened(pool.now(), conn)
  end
  pool:pump()
  return result >= 0
end

--- Lua is done with the connection, and reads it no more.
function Threaded:rest(slot)
  local pool = self.pool
  local socket, factory = pool.sockets[slot], pool.factories[slot]
  if factory.pointer then
    ask(pool, "pointer", factory.pointer, pool.opened[slot])
  elseif socket and socket.lend_descriptor then
    socket:lend_descriptor()
  end
end

--- The connection of a slot is to be closed.
-- @return true if a thread has it, who gives it back first: then it is closed here, later
function Threaded:keeps(slot, conn, factory, connection)
  if not self.pool.core:is_held(conn) then return false end
  self.orphans[conn] = { factory = factory, connection = connection, backend = self.pool.slot_backends[slot] }
  return true
end

-- ------------------------------------------------------------- what threads tell --

local HEAR = {}

-- A lease came back that Lua has to look at.
HEAR[lib.CUEBALL_RETURN_INSPECT] = function(self, slot, conn, lease)
  local pool = self.pool
  local connection = pool.opened[slot]
  if pool.conns[slot] ~= conn or connection == nil then return end -- it was taken away meanwhile
  local factory = pool.factories[slot]
  if factory.unwatch then pool:guarded("unwatch", factory.unwatch, connection) end -- it was lent
  if pool:inspect(slot, connection) then return pool:clean(slot, pool.tags[slot], connection, lease) end
  pool.core:lease_released(pool.now(), lease)
end

-- A claimer failed a lease.
HEAR[lib.CUEBALL_RETURN_FAILED] = function(self, slot, _, _, why)
  local backend = self.pool.slot_backends[slot]
  if backend then faults.note(self.pool, backend.key, text.message(why ~= "" and why or "a claimer failed the lease")) end
end

-- A connection that was taken away from a thread has come back.
HEAR[lib.CUEBALL_RETURN_ORPHAN] = function(self, _, conn)
  local pool, one = self.pool, self.orphans[conn]
  if not one then return end
  self.orphans[conn] = nil
  perform.close_late(pool, one.backend, one.factory, one.connection, 1000)
  if self.is_stopped and next(self.orphans) == nil then self:let_go() end
end

--- Does what threads told, and what the core wants. What threads tell is asked for last: the core's last action is where C begins to wake
-- this thread again for what comes later.
function Threaded:hear()
  local pool = self.pool
  local core, has_heard = pool.core, true
  while has_heard do
    pool:pump()
    has_heard = false
    while core.shared and core:next_return() do
      local one = core.returned
      has_heard = true
      HEAR[one.kind](self, one.slot, tonumber(one.conn), tonumber(one.lease), ffi.string(one.text))
    end
  end
end

--- The pool has done what the core wanted: refusals are told what fails now.
function Threaded:pumped()
  local failing = faults.failing(self.pool) or self.unfit
  if failing == self.noted then return end
  self.noted = failing
  self.pool.core:note(failing)
end

-- ---------------------------------------------------------------- the end of it --

function Threaded:let_go()
  self.wake:close()
  if self.watch then self.watch:close() end
  kept[self.pool] = nil
  door.close_shared(self.pool.core)
  self:abandon()
  if not self.is_stopped then return end
  lingering = lingering - 1
  if lingering == 0 and when_none then when_none() end
end

--- The pool has stopped.
function Threaded:close_down()
  self.runtime.remove_pool(tonumber(ffi.cast("uintptr_t", self.pool.core.shared)))
  if next(self.orphans) == nil then return self:let_go() end
  self.is_stopped, lingering = true, lingering + 1
end

--- Calls fn(), at once or later, when threads have no connection any more of a pool that has stopped.
-- @return whether it was called at once
function threads.when_none_lingers(fn)
  if lingering > 0 then
    when_none = fn
    return false
  end
  fn()
  return true
end

return threads
