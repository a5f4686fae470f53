--- A resolver in C: docs/native.md.
--
--   cueball.resolver.native "nodes"
--
-- where a library of the program's has called cueball_native_resolver_register("nodes", …). It runs in a thread, once for each pool that
-- has it. What it says waits in a list until the pool's thread, woken by a descriptor, has passed it on.
local misuse = require "cueball.misuse"
local native = require "cueball.native"
local text = require "cueball.text"
local lib, ffi = native.lib, native.ffi

local ADD, REMOVE, SET = tonumber(lib.CUEBALL_NATIVE_SAYING_ADD), tonumber(lib.CUEBALL_NATIVE_SAYING_REMOVE),
  tonumber(lib.CUEBALL_NATIVE_SAYING_SET)
local FAIL, RECOVER = tonumber(lib.CUEBALL_NATIVE_SAYING_FAIL), tonumber(lib.CUEBALL_NATIVE_SAYING_RECOVER)
local END = tonumber(lib.CUEBALL_NATIVE_SAYING_END)

local SAYINGS_MAX = 100 -- in one turn of the loop

local Native = {}
Native.__index = Native

local function string_or_nil(value)
  if value == nil then return nil end
  local made = ffi.string(value)
  return made ~= "" and made or nil
end

local function backend_of(self, spec)
  return {
    key = string_or_nil(spec.key), name = string_or_nil(spec.name), address = ffi.string(spec.address), port = spec.port,
    weight = spec.weight > 0 and spec.weight or nil, priority = spec.priority, provenance = self.provenance,
  }
end

local SAY = {
  [ADD] = function(self, sink, saying) sink:add(backend_of(self, saying.backends[0])) end,
  [REMOVE] = function(self, sink, saying) sink:remove(ffi.string(saying.backends[0].key), self.provenance) end,
  [SET] = function(self, sink, saying)
    local list = {}
    for index = 0, tonumber(saying.count) - 1 do list[index + 1] = backend_of(self, saying.backends[index]) end
    sink:set(list)
  end,
  [FAIL] = function(_, sink, saying) sink:fail(string_or_nil(saying.message) or "the resolver gave no reason") end,
  [RECOVER] = function(_, sink) sink:recover() end,
}

-- Passes on what was said: so much that others of the loop need not wait long. Where there is more the descriptor stays readable.
-- @return what the resolver has returned; nil: it goes on; and whether anything was said
local function hear(self, sink, run)
  local saying, count = ffi.new "cueball_native_saying", 0
  while count < SAYINGS_MAX and lib.cueball_native_sink_next(run, saying) do
    if saying.kind == END then return saying.status, true end
    SAY[saying.kind](self, sink, saying)
    count = count + 1
  end
  return nil, count > 0
end

-- Tells the resolver that the pool has failed, when that changes, and as often as the sink is woken for it.
local function tell(sink, run, had_failed, has_said)
  local has_failed = sink:failed()
  if has_failed ~= had_failed or has_failed and not has_said then lib.cueball_native_sink_pool_failed(run, has_failed) end
  return has_failed
end

-- One run of it, in its thread.
-- @return what the resolver has returned; nil: it is to end; or nil, why it could not be started
local function follow(self, sink)
  local box = ffi.new "cueball_native_sink *[1]"
  local failure = lib.cueball_native_sink_start(self.registration, box)
  if failure < 0 then return nil, "its thread could not be started: " .. ffi.string(lib.cueball_error_message(failure)) end
  local run = ffi.gc(box[0], lib.cueball_native_sink_end)
  local poll, message = sink.host.poll(lib.cueball_native_sink_fd(run))
  local function finish()
    if poll then poll:close() end
    if run then lib.cueball_native_sink_end(ffi.gc(run, nil)) end
    poll, run = nil, nil
  end
  local take_back = sink:on_end(finish)
  local function ready()
    if poll then poll:unwatch() end -- until what came was read
    sink:wake()
  end
  local status, has_failed = nil, false
  while poll and run and not status do
    poll:watch(ready)
    if not sink:sleep(math.huge) or not run then break end
    local found, has_said = hear(self, sink, run)
    status = found
    if run then has_failed = tell(sink, run, has_failed, has_said) end
  end
  take_back()
  finish()
  return status, message
end

--- For a pool: see docs/contracts.md.
function Native:run(sink)
  if not sink.host.poll then
    sink:fail(("the resolver %q is in C, and runs in a thread: the host %q cannot hear it (it has no poll)")
      :format(self.native, sink.host.name))
    return
  end
  local goes_on
  repeat
    local status, message = follow(self, sink)
    goes_on = message ~= nil or status ~= nil and status ~= 0
    if goes_on then
      sink:fail(message or ("the resolver in C has returned %d"):format(status))
      goes_on = sink:pause()
    end
  until not goes_on
end

local function names_of_all()
  local size = tonumber(lib.cueball_native_names(true, nil, 0)) + 1
  local names = ffi.new("char[?]", size)
  lib.cueball_native_names(true, names, size)
  local list = ffi.string(names):gsub("\n", ", ")
  return list ~= "" and "; there are " .. text.clean(list) or "; there is none"
end

--- Makes a resolver of one that was registered in C.
-- @param name as it was given to cueball_native_resolver_register; it is the name of the pool too, if that has none
-- @return a resolver; a name that is not registered raises an error at the caller's line
local function new(name)
  if type(name) ~= "string" then misuse.raise("cueball.resolver.native: expected the name of a resolver, got " .. text.show(name)) end
  local registration = not name:find("%z") and lib.cueball_native_resolver_find(name) or nil
  if registration == nil then
    misuse.raise(("cueball.resolver.native: no resolver is registered as %s%s"):format(text.show(name), names_of_all()))
  end
  return setmetatable({
    name = name, native = name, provenance = ("resolver %s, in C"):format(name),
    registration = ffi.gc(registration, lib.cueball_native_drop),
    made_of = { "cueball.resolver.native", name, tostring(registration) },
  }, Native)
end

return new
