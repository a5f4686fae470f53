--- Load on a world of spec.support.core_world: claims that come at an even rate, hold what they get and give it back.
--
--     local load = Load.start(world, { every_ms = 2, hold_ms = 50, until_ms = 5000 })
--     world:advance(6000)
--     load.answers                       -- { { begun =, waited =, outcome = "granted" or the error's name }, ... }
--     Load.mean(load.answers, "granted") -- mean wait, ms; of all without the word
--
-- hold_ms may be a function of the lease (label =, slot =). `claim` holds the options of the claims, `fails` may say
-- of a lease that it failed: true, or "reported" if its connection is to be released all the same.

local Load = {}
Load.__index = Load

local serial = 0

local function hold(load, name)
  local world = load.world
  local lease = world.leases[name]
  local span = type(load.hold_ms) == "function" and load.hold_ms(lease) or load.hold_ms
  world:at(world:time() + span, function()
    if world.leases[name] ~= lease then
      return -- the pool took it back
    end
    local fails = load.fails and load.fails(lease)
    if fails == "reported" then
      world:went(name, false)
    end
    if fails == true then
      world:fail(name)
    else
      world:release(name)
    end
  end)
end

local function note(load, name, outcome)
  local begun = load.open[name]
  load.open[name] = nil
  load.answers[#load.answers + 1] = { begun = begun, waited = load.world:time() - begun, outcome = outcome }
  if outcome == "granted" then
    hold(load, name)
  end
end

--- One claim, as those that come by themselves.
function Load:claim()
  serial = serial + 1
  local world, name = self.world, "load" .. serial
  self.open[name] = world:time()
  local outcome = world:claim(name, self.options)
  if outcome == "granted" or outcome ~= "waiting" then
    note(self, name, outcome)
  end
end

function Load.start(world, options)
  local load = setmetatable({
    world = world, hold_ms = options.hold_ms, fails = options.fails, options = options.claim, answers = {}, open = {},
  }, Load)
  local inherited = world.answer
  function world.answer(self, kind, action)
    local name = self.names[tonumber(action.user)]
    inherited(self, kind, action)
    if load.open[name] then
      note(load, name, kind == "grant" and "granted" or self.error_name(action.error))
    end
  end
  local began, count = world:time(), 0
  local function tick()
    load:claim()
    count = count + 1
    local at = began + count * options.every_ms
    if at < options.until_ms then
      world:at(at, tick)
    end
  end
  if options.every_ms then
    world:at(began, tick)
  end
  return load
end

--- Of those with that outcome: mean wait in ms, and how many.
function Load.mean(answers, outcome)
  local sum, count = 0, 0
  for _, one in ipairs(answers) do
    if not outcome or one.outcome == outcome then
      sum, count = sum + one.waited, count + 1
    end
  end
  return sum / count, count
end

return Load
