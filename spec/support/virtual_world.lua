--- What the worlds of the core's machines have in common: virtual time, inputs with a check after each, and a trace.
--
--     local World = require("spec.support.virtual_world").of "pool"      -- cueball_pool_*; world.pool is the machine
--     World:begin { … }                          -- → a world with these members; the machine is to be set yet
--     world:input("resolver_failed")             -- any input: "ok", the error's name, or a number above 0
--     world:at(50, fn), world:advance(100)
--     world:tell("open", "db1/1")                -- a line of the trace, if world.shows (a string of words; nil: all) has the word
--     assert.trace(world, [[ … ]])
--
-- A world has to have step(): take one action and do it; false if there is none. After every input the machine's own check must
-- hold, and what it wants done is done (unless world.is_draining is false). Time is in milliseconds since the start; the machine is
-- advanced to each of its deadlines exactly. world.lag: so many ns before now the inputs happened.
local native = require "cueball.native"
require "spec.support.trace"

local ffi, lib = native.ffi, native.lib

local Base = {}

local NEVER = 0xffffffffffffffffULL
local INPUTS_MAX = 200000 -- in one advance(): more is a loop without end

--- What a world is made of that drives lib.cueball_<machine>_*.
function Base.of(machine)
  local World = setmetatable({ machine = machine, NEVER = NEVER, of = false }, { __index = Base })
  World.__index = World
  return World
end

function Base.ns(ms)
  return ffi.cast("uint64_t", ms * 1e6 + 0.5)
end
local ns = Base.ns

function Base:begin(members)
  local world = setmetatable(members, self)
  world.began = world.began or 0ULL
  world.now, world.lag = world.began, 0ULL
  world.lines, world.events, world.is_draining = {}, {}, true
  return world
end

function Base.error_name(result)
  return result == 0 and "ok" or ffi.string(lib.cueball_error_name(result))
end

--- Milliseconds since the start.
function Base:time()
  return tonumber(self.now - self.began) / 1e6
end

function Base:check()
  local text = ffi.new "char[512]"
  if lib["cueball_" .. self.machine .. "_check"](self[self.machine], text, 512) ~= 0 then
    error(("the %s disagrees with itself: %s\n%s"):format(self.machine, ffi.string(text), self:trace():sub(-3000)), 0)
  end
end

function Base:input(name, ...)
  local result = lib[("cueball_%s_%s"):format(self.machine, name)](self[self.machine], self.now - self.lag, ...)
  self:check()
  if self.is_draining then self:drain() end
  return result > 0 and result or self.error_name(result)
end

--- Does all that there is to do. What is reported meanwhile leads to more, which is done in the same loop.
function Base:drain()
  if self.drains then return end
  self.drains = true
  local steps = 0
  while self:step() do
    steps = steps + 1
    if steps > INPUTS_MAX then error("no end of actions\n" .. self:trace():sub(-3000), 0) end
  end
  self.drains = false
end

-- --------------------------------------------------------------------------------------------------------- trace --

function Base:tell(word, text)
  if self.shows and not (" " .. self.shows .. " "):find(" " .. word .. " ", 1, true) then return end
  self.lines[#self.lines + 1] = ("[%4s] %s%s"):format(("%.10g"):format(self:time()), word, text and " " .. text or "")
end

function Base:trace()
  return table.concat(self.lines, "\n")
end

--- Forgets the trace so far; from now on the words of `shows` are traced, if it is given.
function Base:forget(shows)
  self.lines, self.shows = {}, shows or self.shows
  return self
end

-- ---------------------------------------------------------------------------------------------------------- time --

--- Has fn called at so many ms after the start; of one instant, in the order of these calls, and before the machine's
-- own deadline of that instant.
function Base:at(ms, fn)
  self:schedule(self.began + ns(ms), fn)
end

function Base:schedule(time, fn)
  local events = self.events
  local index = #events + 1
  while index > 1 and events[index - 1].time > time do index = index - 1 end
  table.insert(events, index, { time = time, fn = fn })
end

function Base:deadline()
  return lib["cueball_" .. self.machine .. "_deadline"](self[self.machine])
end

--- In ms since the start; nil: none.
function Base:deadline_ms()
  local deadline = self:deadline()
  return deadline ~= NEVER and tonumber(ffi.cast("int64_t", deadline - self.began)) / 1e6 or nil
end

--- Lets so much time go by, meeting every deadline on the way.
function Base:advance(ms)
  local target = self.now + ns(ms)
  for _ = 1, INPUTS_MAX do
    local event, deadline = self.events[1], self:deadline()
    if deadline < self.now then deadline = self.now end
    if event and event.time <= target and event.time <= deadline then
      table.remove(self.events, 1)
      if event.time > self.now then self.now = event.time end
      event.fn()
    elseif deadline <= target then
      self.now = deadline
      self:input "time_advanced"
    else
      self.now = target
      return self
    end
  end
  error("no end of deadlines at " .. tostring(self.now) .. "\n" .. self:trace():sub(-3000), 0)
end

--- As a host that slept too long: no deadline on the way is met.
function Base:oversleep(ms)
  self.now = self.now + ns(ms)
  return self:input "time_advanced"
end

-- --------------------------------------------------------------------------------------------------------- other --

--- The members of a struct of the header, by name, as numbers.
function Base.numbers(struct, ctype)
  local found = {}
  local is_none = { [""] = true, struct_size = true, reserved = true }
  for _, one in ipairs(native.layout) do
    if one.type == ctype and not is_none[one.member] then found[one.member] = tonumber(struct[one.member]) end
  end
  return found
end

return Base
