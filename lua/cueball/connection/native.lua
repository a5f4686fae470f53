--- Connections that are opened in C: docs/native.md.
--
--   cueball.pool { resolver = …, connect = cueball.native "db" }
--
-- where a library of the program's has called cueball_native_factory_register("db", …). What such a factory does may take as long as it
-- likes: it is called in threads, whose results come through a descriptor. A factory that says that it never blocks is called in place.
--
-- The happy path: a task begins a call, and waits; the thread is done, the descriptor is readable, the task goes on.
-- What can go wrong: the task is killed, as its time is up, the pool stops or needs the connection no more. The call is given up: the
-- library closes what comes of it. So nothing waits for a function in C that does not return.
local misuse = require "cueball.misuse"
local native = require "cueball.native"
local text = require "cueball.text"
local lib, ffi = native.lib, native.ffi

local DAY_MS = 86400000
local CONNECT, STEP, CHECK = tonumber(lib.CUEBALL_NATIVE_CONNECT), tonumber(lib.CUEBALL_NATIVE_STEP), tonumber(lib.CUEBALL_NATIVE_CHECK)
local RESET, BROKEN = tonumber(lib.CUEBALL_NATIVE_RESET), tonumber(lib.CUEBALL_NATIVE_BROKEN)
local CLOSE, LOOK = tonumber(lib.CUEBALL_NATIVE_CLOSE), tonumber(lib.CUEBALL_NATIVE_LOOK)
local DONE = tonumber(lib.CUEBALL_NATIVE_DONE)
local READY = { [tonumber(lib.CUEBALL_NATIVE_READABLE)] = "r", [tonumber(lib.CUEBALL_NATIVE_WRITABLE)] = "w" }
local KINDS = {
  [tonumber(lib.CUEBALL_NATIVE_UNFIT)] = "unfit", [tonumber(lib.CUEBALL_NATIVE_WORN)] = "worn",
  [tonumber(lib.CUEBALL_NATIVE_LOST)] = "lost", [tonumber(lib.CUEBALL_NATIVE_TIMEOUT)] = "timeout",
  [tonumber(lib.CUEBALL_NATIVE_DIRTY)] = "dirty",
}

-- Libraries in C like to end their messages with a line's end.
local function message_of(result)
  return text.trimmed_end(ffi.string(result.message))
end

-- ------------------------------------------------------------ calls in threads --

-- What hears of results, by host: they are asked for together.
local desks = setmetatable({}, { __mode = "k" })

local Desk = {}
Desk.__index = Desk

local Call = {}
Call.__index = Call

local function desk_of(host)
  if desks[host] then return desks[host] end
  local box = ffi.new "cueball_native_loop *[1]"
  if lib.cueball_native_loop_new(box) < 0 then return nil, "the process has no memory or no descriptor left" end
  local loop = ffi.gc(box[0], lib.cueball_native_loop_free)
  local poll, message = host.poll(lib.cueball_native_loop_fd(loop))
  if not poll then return nil, message end
  desks[host] = setmetatable({
    loop = loop, poll = poll, host = host, result = ffi.new "cueball_native_result",
    calls = {}, count = 0, last = 0, -- by their number
    on_ready = nil,
  }, Desk)
  return desks[host]
end

-- The event loop goes on as long as somebody waits for a result.
local function forget(self, call)
  self.calls[call.number] = nil
  self.count = self.count - 1
  if self.count == 0 then self.poll:unwatch() end
end

-- An open connection: its factory is told to close it even if it is collected.
local function connection_of(factory, backend, host, result)
  local given = result.connection
  local open = ffi.new("cueball_native_open", lib.cueball_native_keep(factory.registration), given)
  return {
    fd = given.fd, pointer = given.pointer ~= nil and given.pointer or nil, -- as the contract tells
    backend = backend, host = host, open = ffi.gc(open, lib.cueball_native_open_lost),
    poll = nil, lost = nil, was_lent = false,
  }
end

local function take(self)
  local result = self.result
  while lib.cueball_native_loop_next(self.loop, result) do
    local call = self.calls[tonumber(result.user)]
    call.status, call.message = result.status, result.status < 0 and message_of(result) or nil
    if result.operation == CONNECT and result.status == DONE then
      call.opened = connection_of(call.factory, call.backend, self.host, result)
    end
    forget(self, call)
    call.waiter:wake(true)
  end
end

-- The task that waits was killed.
function Call:abort()
  if self.opened then
    lib.cueball_native_open_lost(ffi.gc(self.opened.open, nil))
  elseif not self.status then
    forget(self.desk, self)
    if lib.cueball_native_give_up(self.desk.loop, self.number) == 1 and self.log then
      self.log("warn", ("no thread was free to connect to %s in time: all of the connection factory %q are in calls that last")
        :format(self.backend.key, self.factory.name), false, "threads_busy")
    end
  end
end

-- Has a function of the factory's called in a thread, and waits for its result, in a task.
-- @param log where to tell that there was no thread, or nil
-- @return the call: status, message, opened; or nil, message
local function call_in_thread(host, factory, request, backend, log)
  local self, message = desk_of(host)
  if not self then return nil, message end
  local number = self.last + 1
  self.last, request.user = number, number
  local failure = lib.cueball_native_begin(self.loop, factory.registration, request)
  if failure < 0 then return nil, "no thread could be started: " .. ffi.string(lib.cueball_error_message(failure)) end
  local call = setmetatable({
    desk = self, number = number, waiter = host.waiter(), factory = factory, backend = backend, log = log,
    status = nil, message = nil, opened = nil,
  }, Call)
  self.calls[number], self.count = call, self.count + 1
  if self.count == 1 then
    self.on_ready = self.on_ready or function() take(self) end
    self.poll:watch(self.on_ready)
  end
  host.guard(call)
  call.waiter:wait()
  host.unguard(call)
  return call
end

-- --------------------------------------------------------------------- requests --

-- The texts are the backend's, which whoever calls keeps.
local function request_for(operation, backend, limit_ms)
  local request = ffi.new "cueball_native_request"
  request.operation, request.limit_ms = operation, math.max(0, math.min(limit_ms, DAY_MS))
  request.key, request.name, request.address = backend.key, backend.name, backend.address
  request.port, request.weight = backend.port, backend.weight
  return request
end

local function request_of(operation, connection, limit_ms)
  local request = request_for(operation, connection.backend, limit_ms)
  request.connection = connection.open.connection
  return request
end

-- Calls a function in place.
local function perform(factory, request)
  local result = ffi.new "cueball_native_result"
  local failure = lib.cueball_native_perform(factory.registration, request, result)
  if failure < 0 then error("cueball_native_perform: " .. ffi.string(lib.cueball_error_message(failure)), 0) end
  return result
end

-- Calls check or reset, in a thread unless it never blocks → status, message
local function ask(factory, operation, connection, limit_ms)
  if connection.open.factory == nil then return -1, "the connection is closed" end
  local request = request_of(operation, connection, limit_ms)
  if factory.never_blocks then
    local result = perform(factory, request)
    return result.status, message_of(result)
  end
  local call, message = call_in_thread(connection.host, factory, request, connection.backend)
  if not call then return -1, message end
  return call.status, call.message
end

-- ------------------------------------------------------------------- connecting --

local Steps = {}
Steps.__index = Steps

-- The task was killed between two steps.
function Steps:abort()
  if self.poll then self.poll:close() end
  self.poll = nil
  self.request.operation = CLOSE
  perform(self.factory, self.request)
end

-- Waits until the descriptor is ready for the next step → true; or nil, message
local function wait_for(self, host, events, deadline)
  local poll, message = host.poll(self.request.connection.fd)
  if not poll then return nil, message end
  self.poll = poll
  local ready
  ready, message = poll:wait(events, math.max(0, (deadline - host.now()) / 1e6))
  poll:close() -- the next step may close the descriptor and open another
  self.poll = nil
  return ready, message
end

local function connect_in_place(factory, backend, context, request)
  local host, deadline = context.host, context.host.now() + context.timeout_ms * 1e6
  local steps = setmetatable({ factory = factory, request = request, poll = nil }, Steps)
  local result = perform(factory, request)
  while READY[result.status] do
    request.operation, request.connection = STEP, result.connection
    host.guard(steps)
    local ready, message = wait_for(steps, host, READY[result.status], deadline)
    host.unguard(steps)
    if not ready then
      steps:abort()
      return nil, message
    end
    request.limit_ms = math.max(0, (deadline - host.now()) / 1e6)
    result = perform(factory, request)
  end
  if result.status ~= DONE then return nil, message_of(result) end
  return connection_of(factory, backend, host, result)
end

local function connect(factory, backend, context)
  local request = request_for(CONNECT, backend, context.timeout_ms)
  request.attempt, request.pool = context.attempt, context.pool_name
  if factory.never_blocks then return connect_in_place(factory, backend, context, request) end
  local call, message = call_in_thread(context.host, factory, request, backend, context.log)
  if not call then return nil, message end
  if not call.opened then return nil, call.message end
  return call.opened
end

local function close(factory, connection)
  local open = ffi.gc(connection.open, nil)
  if open.factory == nil then return end
  if connection.poll then connection.poll:close() end
  connection.poll, connection.fd, connection.pointer = nil, -1, nil
  if factory.never_blocks then return lib.cueball_native_open_lost(open) end
  local request = request_for(CLOSE, connection.backend, 0)
  request.connection = open.connection
  local registration = open.factory
  open.factory = nil
  local call = call_in_thread(connection.host, factory, request, connection.backend)
  if not call then perform(factory, request) end -- without a thread: it must be closed all the same
  lib.cueball_native_drop(registration)
end

-- ---------------------------------------------------------------------- at rest --

-- What a function said of a connection's condition → nil if it is fit; or message, kind
local function condition_of(result)
  if result.status == DONE then return nil end
  return message_of(result), KINDS[result.status] or "unfit"
end

local function is_broken(factory, connection)
  if connection.open.factory == nil then return "the connection is closed", "unfit" end
  local message, kind = condition_of(perform(factory, request_of(BROKEN, connection, 0)))
  if message and kind == "lost" and not factory.has_broken then kind = "unfit" end -- the claimer may have shut it down
  return message, kind
end

-- Something came on the descriptor of a connection at rest.
local function heard_at_rest(factory, connection)
  local message, kind = nil, nil
  if factory.has_broken then message, kind = condition_of(perform(factory, request_of(BROKEN, connection, 0))) end
  if not message then
    message, kind = condition_of(perform(factory, request_of(LOOK, connection, 0)))
    if message then kind = connection.was_lent and "worn" or "lost" end
  end
  if not message then return end
  connection.poll:unwatch()
  connection.lost(message, kind == "dirty" and "unfit" or kind)
end

-- Descriptors that nobody can wait for (files) are not watched.
local function watch(factory, connection, lost)
  if connection.fd < 0 or not connection.host.poll then return end
  connection.lost = lost
  connection.poll = connection.poll or connection.host.poll(connection.fd) or nil
  connection.on_readable = connection.on_readable or function() heard_at_rest(factory, connection) end
  if connection.poll then connection.poll:watch(connection.on_readable) end
end

local function unwatch(connection)
  connection.was_lent = true
  if connection.poll then connection.poll:unwatch() end
end

-- ---------------------------------------------------------------------- factory --

local function fault(factory, host)
  if host.poll or factory.never_blocks and not factory.has_step then return nil end
  local why = factory.never_blocks and "it waits for descriptors"
    or "its functions are called in threads, of whose results it hears by a descriptor"
  return ("%q is a factory in C, and %s: the host %q cannot wait for one (it has no poll)"):format(factory.name, why, host.name)
end

local function names_of_all()
  local size = tonumber(lib.cueball_native_names(false, nil, 0)) + 1
  local names = ffi.new("char[?]", size)
  lib.cueball_native_names(false, names, size)
  local list = ffi.string(names):gsub("\n", ", ")
  return list ~= "" and "; there are " .. text.clean(list) or "; there is none"
end

local function find(name)
  if type(name) ~= "string" then misuse.raise("cueball.native: expected the name of a connection factory, got " .. text.show(name)) end
  local registration = not name:find("%z") and lib.cueball_native_factory_find(name) or nil
  if registration == nil then
    misuse.raise(("cueball.native: no connection factory is registered as %s%s"):format(text.show(name), names_of_all()))
  end
  return ffi.gc(registration, lib.cueball_native_drop)
end

--- How busy the threads of a factory are.
-- @return { threads = that there are, running = calls that somebody waits for, given_up = calls that nobody waits for and that did not
--   return yet, waiting = calls that have no thread yet }
local function threads(factory)
  local load = ffi.new "cueball_native_load"
  lib.cueball_native_load_of(factory.registration, load)
  return { threads = load.threads, running = load.running, given_up = load.given_up, waiting = load.waiting }
end

--- Makes a connection factory of one that was registered in C.
-- @param name as it was given to cueball_native_factory_register
-- @return a connection factory (docs/contracts.md), with besides
--   descriptor(connection) → its descriptor, or nil; pointer(connection) → its pointer, or nil
--   threads() → how busy its threads are
--   A connection is { fd = number or -1, pointer = cdata or nil }. A name that is not registered raises an error at the caller's line.
local function new(name)
  local registration = find(name)
  local functions = lib.cueball_native_factory_of(registration)
  local factory = {
    name = name, registration = registration, never_blocks = functions.never_blocks,
    has_step = functions.step ~= nil, has_broken = functions.broken ~= nil,
  }
  local made = {
    made_of = { "cueball.native", name, tostring(registration) }, -- another registration of that name is another factory
    connect = function(backend, context) return connect(factory, backend, context) end,
    close = function(connection) return close(factory, connection) end,
    broken = function(connection) return is_broken(factory, connection) end,
    watch = function(connection, lost) return watch(factory, connection, lost) end,
    unwatch = unwatch,
    fault = function(host) return fault(factory, host) end,
    descriptor = function(connection) return connection.fd >= 0 and connection.fd or nil end,
    pointer = function(connection) return connection.pointer end,
    threads = function() return threads(factory) end,
  }
  if not factory.has_broken then made.asks_descriptor = made.broken end
  if functions.check ~= nil then
    function made.check(connection, timeout_ms)
      local status, message = ask(factory, CHECK, connection, timeout_ms or DAY_MS)
      return status == DONE, message
    end
  end
  if functions.reset ~= nil then
    function made.reset(connection, timeout_ms)
      local status, message = ask(factory, RESET, connection, timeout_ms)
      if status == DONE then return true end
      return nil, message, KINDS[status]
    end
  end
  return made
end

return new
