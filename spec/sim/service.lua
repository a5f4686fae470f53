--- The service that a scenario's pool connects to: servers, the resolver that tells where they are, and connection factories
-- that fail as the seed has it.  Every connection is on record from the first call of connect to the end of its close.
local tcp = require "cueball.connection.tcp"
local draw = require "spec.sim.draw"
local rough = require "spec.sim.rough"

local Service = {}
Service.__index = Service

local FOR_EVER_MS = 1e9
local PLACES = 2 -- addresses of one backend, for replacing it under its key

local function injected(what) return "injected: " .. what end

--- @param scenario whose world, chance and faults it uses
-- @param count of backends
-- @param has_sockets false: connections are plain tables, and servers only up or down
function Service.new(scenario, count, has_sockets)
  local self = setmetatable({
    scenario = scenario, world = scenario.world, chance = scenario.chance, faults = scenario.factory_faults,
    has_sockets = has_sockets, count = count, is_synchronous = not has_sockets and scenario.chance:is(0.3),
    servers = {}, down = {}, -- by "key/place"
    members = {},            -- key → backend, as the resolver tells it
    commands = {}, resolver_pause_ms = scenario.chance:span(1, 300),
    records = { opening = 0, open = 0, closing = 0 },
    resting = {},            -- records without a socket that are watched, by id
    opened = {},             -- records that are open
    dirt = draw.chance(scenario.seed, draw.DIRTY_STREAM), -- what befalls connections that come back
    made = 0,
  }, Service)
  for index = 1, count do
    for place = 1, PLACES do
      local name = self:server_name(index, place)
      self.servers[#self.servers + 1] = name
      if has_sockets then self:add_server(index, place) end
    end
    if scenario.chance:is(0.8) then self:join(index) end
  end
  self.socket_factory = tcp { read_timeout_ms = 1000, send_timeout_ms = 1000 }
  return self
end

function Service:add_server(index, place)
  local server = self.world.server(self:address(index), self:port(place))
  self.servers[self:server_name(index, place)] = server
  if self.scenario.is_rough then server:set { reply = rough.reply(self.world, server), on_connect = rough.on_connect(server) } end
end

function Service:server_name(index, place) return ("b%d/%d"):format(index, place) end
function Service:address(index) return "10.0.0." .. index end
function Service:port(place) return 4000 + place end

--- The resolver tells of this backend from now on, as it is drawn.
function Service:join(index)
  local key = "b" .. index
  self.members[key] = {
    key = key, address = self:address(index), port = self:port(self.chance:is(0.8) and 1 or 2),
    weight = self.scenario.has_weights and self.chance:whole(1, 5) or 1,
    priority = self.scenario.has_priorities and self.chance:whole(0, 2) or 0,
  }
  return self.members[key]
end

function Service:member_list()
  local list = {}
  for index = 1, self.count do list[#list + 1] = self.members["b" .. index] end
  return list
end

-- ------------------------------------------------------------- the resolver --

local COMMANDS = {
  throw = function() error(injected "the resolver throws", 0) end,
  fail = function(_, sink) sink:fail "injected: nothing is found" end,
  set = function(self, sink) sink:set(self:member_list()) end,
  rubbish = function(self, sink)
    local name = self.chance:one_of { "no port", "bad address", "not a table", "unknown key", "twice" }
    if name == "no port" then sink:add { address = "10.0.0.1", port = 70000 }
    elseif name == "bad address" then sink:add { address = "", port = 1 }
    elseif name == "not a table" then sink:set(7)
    elseif name == "unknown key" then sink:remove "nobody"
    else
      local list = self:member_list()
      list[#list + 1] = list[1]
      sink:set(list)
    end
  end,
}

--- A new run of the resolver script.
function Service:resolver()
  return function(sink)
    self.sink = sink
    if self.throws_at_first then COMMANDS.throw() end
    sink:set(self:member_list())
    self.has_told_all = self.is_over
    while sink:sleep(self.resolver_pause_ms) do
      local commands = self.commands
      self.commands = {}
      for _, command in ipairs(commands) do COMMANDS[command](self, sink) end
      if self.is_over then self.has_told_all = sink:set(self:member_list()) end
    end
  end
end

-- ---------------------------------------------------------- the connections --

local function become(self, record, state)
  local counts = self.records
  if counts[record.state] then counts[record.state] = counts[record.state] - 1 end
  record.state = state
  if counts[state] then counts[state] = counts[state] + 1 end
end

-- Runs fn; `otherwise` is called if the task is killed meanwhile.
local function guarded(self, otherwise, fn, ...)
  local resource = { abort = otherwise }
  self.world.guard(resource)
  local ok, result, message, kind = pcall(fn, ...)
  self.world.unguard(resource)
  return ok, result, message, kind
end

local function open(self, record, backend, context)
  local chance, faults, world = self.chance, self.faults, self.world
  if chance:is(faults.connect_throws) then error(injected "connect throws", 0) end
  if chance:is(faults.connect_returns_nothing) then return nil end
  if chance:is(faults.connect_fails) then return nil, "injected: connect fails" end
  if chance:is(faults.connect_hangs) then world.waiter():wait() end
  if chance:is(faults.connect_is_late) then world.sleep(context.timeout_ms * chance:one_of { 0.9, 1, 1, 1.1 }) end
  if self.has_sockets then
    local sock, message = self.socket_factory.connect(backend, context)
    record.sock = sock
    return sock and record, message
  end
  if not self.is_synchronous then world.sleep(self.is_over and 0.1 or chance:small(0, 20)) end
  if self.down[self:server_name(backend.key:sub(2), backend.port - self:port(0))] then return nil, "connection refused" end
  return record
end

local function connect(self, backend, context)
  self.made = self.made + 1
  local record = { id = self.made, key = backend.key, state = "new" }
  become(self, record, "opening")
  local ok, result, message = guarded(self, function() become(self, record, "over") end, open, self, record, backend, context)
  become(self, record, ok and result and "open" or "over")
  record.opened_ms = self.world.time_ms()
  self.opened[record] = ok and result and true or nil
  if not ok then error(result, 0) end
  return result, message
end

local function shut(self, record)
  if record.sock then self.socket_factory.close(record.sock) end
  self.resting[record.id] = nil
  become(self, record, "over")
end

local function close(self, record)
  local scenario, chance, faults = self.scenario, self.chance, self.faults
  if record.state ~= "open" then scenario.fail("connection %d is closed when %s", record.id, record.state) end
  become(self, record, "closing")
  self.opened[record] = nil
  local is_slow, hangs = chance:is(faults.close_is_slow), chance:is(faults.close_hangs)
  if is_slow or hangs then
    guarded(self, function() shut(self, record) end, function()
      self.world.sleep(hangs and FOR_EVER_MS or chance:small(0, 1000))
    end)
  end
  shut(self, record)
  if chance:is(faults.close_throws) then error(injected "close throws", 0) end
end

local function check(self, record)
  local chance, faults = self.chance, self.faults
  if record.state ~= "open" then self.scenario.fail("connection %d is checked when %s", record.id, record.state) end
  record.is_unfit = true -- until the check says otherwise
  if chance:is(faults.check_throws) then error(injected "check throws", 0) end
  if chance:is(faults.check_hangs) then self.world.waiter():wait() end
  if chance:is(faults.check_is_slow) then self.world.sleep(chance:small(0, 200)) end
  if chance:is(faults.check_fails) then return false, "injected: check fails" end
  if record.sock then
    local sent, message = record.sock:send "ping\n"
    if not sent then return nil, message end
    local line, why = record.sock:receive "*l"
    if line ~= "ping" then return false, why end
  end
  record.is_unfit = false
  return true
end

local function broken(self, record)
  local chance, faults = self.chance, self.faults
  if record.state ~= "open" then self.scenario.fail("connection %d is looked at when %s", record.id, record.state) end
  record.is_unfit = true
  if chance:is(faults.broken_throws) then error(injected "broken throws", 0) end
  if chance:is(faults.broken_says_so) then return "injected: broken", self.scenario.is_rough and rough.kind(chance) or nil end
  local message, kind
  if record.sock then message, kind = self.socket_factory.broken(record.sock) end
  if not message and self.dirt:is(faults.dirty or 0) and not record.is_cleaned then message, kind = "injected: dirty", "dirty" end
  record.is_unfit, record.is_cleaned = message ~= nil, nil
  return message, kind
end

local function wash(self, record, timeout_ms)
  local dirt, faults = self.dirt, self.faults
  if dirt:is(faults.reset_throws) then error(injected "reset throws", 0) end
  if dirt:is(faults.reset_hangs) then self.world.waiter():wait() end
  if dirt:is(faults.reset_is_slow) then self.world.sleep(timeout_ms * dirt:one_of { 0.001, 0.1, 0.9, 1.1 }) end
  if dirt:is(faults.reset_fails) then return nil, "injected: reset fails", self.scenario.is_rough and rough.kind(dirt) or nil end
  record.is_cleaned = not dirt:is(faults.reset_leaves_it) or nil
  return true
end

-- Cleans a connection: its lease lives on for the pool, and nobody else has the connection.
local function reset(self, record, timeout_ms)
  if record.state ~= "open" then self.scenario.fail("connection %d is cleaned when %s", record.id, record.state) end
  if record.is_cleaning then self.scenario.fail("connection %d is cleaned twice at once", record.id) end
  record.is_cleaning = true
  local ok, is_clean, message, kind = guarded(self, function() record.is_cleaning = false end, wash, self, record, timeout_ms)
  record.is_cleaning = false
  if not ok then error(is_clean, 0) end
  return is_clean, message, kind
end

local function watch(self, record, lost)
  if record.state ~= "open" then self.scenario.fail("connection %d is watched when %s", record.id, record.state) end
  if record.sock then return self.socket_factory.watch(record.sock, lost) end
  record.lost = lost
  self.resting[record.id] = record
end

local function unwatch(self, record)
  if record.sock then return self.socket_factory.unwatch(record.sock) end
  self.resting[record.id] = nil
end

--- A connection factory with some of what a factory may have.
function Service:factory()
  local function method(fn)
    return function(...) return fn(self, ...) end
  end
  local factory = { close = method(close) }
  if self.chance:is(0.7) then factory.check = method(check) end
  self.scenario.model.coming_check = factory.check ~= nil
  factory.connect = function(...)
    local record, message = connect(self, ...)
    if record then record.has_check = factory.check ~= nil end
    return record, message
  end
  if self.chance:is(0.7) then factory.broken = method(broken) end
  if self.scenario.has_reset then factory.reset = method(reset) end
  if self.chance:is(0.7) then factory.watch, factory.unwatch = method(watch), method(unwatch) end
  return factory
end

--- A connection without a socket is lost; at times one that rests no more is said to be.
function Service:lose_one()
  local ids = {}
  for id in pairs(self.resting) do ids[#ids + 1] = id end
  if #ids == 0 then return end
  table.sort(ids)
  local record = self.resting[self.chance:one_of(ids)]
  record.is_unfit = true
  record.lost "injected: lost"
  if self.chance:is(0.2) then record.lost "injected: lost again" end
end

-- ------------------------------------------------------------- the servers --

local function set_down(self, name, is_down)
  self.down[name] = is_down or nil
  if is_down then
    local ids = {}
    for id, record in pairs(self.resting) do
      if name:find(record.key .. "/", 1, true) == 1 then ids[#ids + 1] = id end
    end
    table.sort(ids)
    for _, id in ipairs(ids) do
      local record = self.resting[id]
      if record then
        record.is_unfit = true
        record.lost "injected: the server is down"
      end
    end
  end
end

local function mend(server)
  rough.mend(server)
  server:start()
  server:thaw()
  server:set { refuse = 0, hang = 0, accept_then_close = 0, reset = 0, connect_delay = 0.1, latency = 0.05 }
end

local SERVER_STEPS = {
  kill = function(server) server:kill() end,
  mend = mend,
  stop = function(server) server:stop() end,
  freeze = function(server) server:freeze() end,
  reset_all = function(server) server:reset_all() end,
  refuse = function(server, chance) server:set { refuse = chance:one_of { 0, 0.5, 1 } } end,
  hang = function(server, chance) server:set { hang = chance:one_of { 0, 0.5, 1 } } end,
  accept_then_close = function(server, chance)
    server:set { accept_then_close = chance:one_of { 0, 0.5, 1 }, close_after = { 0, chance:small(1, 500) } }
  end,
  distance = function(server, chance)
    server:set { connect_delay = { 0, chance:small(0, 300) }, latency = { 0, chance:small(0, 50) } }
  end,
}
local SERVER_STEP_NAMES = {
  "kill", "kill", "stop", "freeze", "reset_all", "reset_all", "refuse", "hang", "accept_then_close", "distance",
  "mend", "mend", "mend", "mend", "mend", "mend", "mend", "mend", "mend",
}

--- A server does as it should.
function Service.mend(_, server)
  mend(server)
end

--- Something happens to one server. @return what, and to which
function Service:disturb()
  local name, chance = self.chance:one_of(self.servers), self.chance
  local step = chance:one_of(SERVER_STEP_NAMES)
  if not self.has_sockets then
    step = chance:one_of { "kill", "mend", "mend" }
    set_down(self, name, step == "kill")
  else
    SERVER_STEPS[step](self.servers[name], chance)
  end
  return step, name
end

--- All is well again, and stays so: every backend is known and works.
function Service:recover()
  for name in pairs(self.faults) do self.faults[name] = 0 end
  self.is_over, self.throws_at_first, self.commands, self.down = true, false, {}, {}
  -- At times nobody joins: nothing but the end of the faults may make the pool plan.
  local stays = next(self.members) and self.chance:is(0.5)
  for index = 1, self.count do
    if not stays then self:join(index) end
    self.world.unreachable(self:address(index), false)
  end
  for _, name in ipairs(self.has_sockets and self.servers or {}) do
    mend(self.servers[name])
  end
end

--- Connections that a server has; those only whose other end is open too.
function Service:server_connections()
  local all, both = 0, 0
  for _, name in ipairs(self.has_sockets and self.servers or {}) do
    for _, connection in ipairs(self.servers[name]:list()) do
      all = all + 1
      if connection.transport.connection == connection then both = both + 1 end
    end
  end
  return all, both
end

return Service
