--- A cap over all workers: `max_connections` of a pool counts for the whole server, and not for one worker.
--
-- Each connection that a worker has, from the decision to open it until it is closed, is covered by a token of the ledger all workers share
-- (cueball.nginx.quota.ledger). Tokens decide what may be; who is to have how many is dealt by what each says it needs
-- (cueball.nginx.quota.deal). The core knows of none of that: it is told a ceiling, as by pool:set, and the ceiling follows the tokens.
--
-- The happy path: at each tick a worker says what it needs, reads what the others need, takes what is free up to its share. One that has
-- more than its share while another lacks some lowers the core's ceiling; idle connections close at once, leased ones when they come
-- back; and what is closed is given back. Nobody gives back what nobody asks for.
--
-- What can go wrong: see the ledger for members that die. A worker that exits (reload) keeps what is leased, and gives back the rest at
-- once, since nginx closes idle connections then; its timers do not run any more, so it looks again whenever its pool does something.
local misuse = require "cueball.misuse"
local native = require "cueball.native"
local ledger = require "cueball.nginx.quota.ledger"
local workers = require "cueball.nginx.workers"
local deal = require "cueball.nginx.quota.deal"
local backends = require "cueball.nginx.quota.backends"
local lib = native.lib

local TICK_NS, HURRY_NS = 50e6, 10e6
local PACE_NS = 5e6      -- the pool's own doings bring it about no more often than this
local WINDOW_NS = 500e6  -- the need is the most there was in this and the last window
local TURN_MS = 1000     -- where not each can have one
local CAP_MAX = 65535
local NO_SPARES = 0xffffffff

local quota = {}

local Quota = {}
Quota.__index = Quota

-- What a pool is to share, before there is the pool.
local Share = {}
Share.__index = Share

local STOPPING = tonumber(lib.CUEBALL_POOL_STOPPING)

--- What the options say of it.
-- @param own   the pool's options that are not the core's
-- @param cdata those of the core
-- @return { quota_of = function(self, pool, cdata, following) }; nil if the pool shares nothing. Mistakes are raised
function quota.read(what, own, cdata, host, is_set)
  local function blame(text, ...) misuse.raise(what .. ": " .. text:format(...)) end
  local dict = own.max_connections_dict
  if own.max_connections_scope ~= "server" then
    if dict ~= nil then blame "option 'max_connections_dict' is for max_connections_scope = \"server\"" end
    return nil
  end
  if is_set then blame "option 'max_connections_scope' is for pools" end
  if dict == nil then
    blame "option 'max_connections_scope' \"server\" needs option 'max_connections_dict', the name of a lua_shared_dict"
  end
  local name = type(dict) == "string" and dict or nil
  if name then
    dict = host.workers.dict(name)
    if not dict then
      blame("option 'max_connections_dict': there is no shared dict %q; in nginx.conf: lua_shared_dict %s 1m;", name, name)
    end
  end
  local cap = cdata.max_connections
  if cap > CAP_MAX then blame("option 'max_connections' must be at most %d for a whole server, not %d", CAP_MAX, cap) end
  return setmetatable({ dict = dict, name = name, cap = cap, workers = host.workers }, Share)
end

local function ledger_of(pool, shared)
  return ledger.open {
    cap = shared.cap,
    memory = workers.memory(pool.host, shared.dict, {
      name = shared.name, prefix = "cueball:quota:" .. pool.name .. ":",
      log = function(...) pool:log(...) end,
    }),
  }
end

--- Makes a pool's quota; quota:begin() starts it. Before the pool's resolver is started.
-- @param cdata     the core's options
-- @param following the listener behind the quota, which tells the core
-- @return it: a listener that the pool's resolver is heard by (cueball.resolver.sink), and what the pool asks and tells
function Share:quota_of(pool, cdata, following)
  local made = setmetatable({
    pool = pool, workers = self.workers, cap = self.cap, options = cdata, ceiling = nil,
    peak = 0, peak_before = 0, window_at = pool.now(), settled_at = 0, is_pressed = false, is_settling = false, is_over = false,
    closed = {}, closed_first = 1, closed_last = 0, closed_alarm = nil, -- see closes_late
    has_failed = false, unused = 0, dealt_at = 0, changes_seen = nil,
  }, Quota)
  made.following = following
  made.backends = backends.new(pool, following, function(leaving) made:make_room(leaving) end)
  made.ledger = ledger_of(pool, self)
  return made
end

--- Takes part from now on.
function Quota:begin()
  local pool = self.pool
  self.alarm = pool.host.alarm(function() self:settle() end)
  self.closed_alarm = pool.host.alarm(function() self:tell_closed() end)
  self.workers.on_exit(function() self:settle() end)
  self:settle()
end

-- ------------------------------------------------------------------- facts --

function Quota:added(backend) return self.backends:added(backend) end
function Quota:removed(key) return self.backends:removed(key) end
function Quota:replaced(list) return self.backends:replaced(list) end

-- A core that is told of no backends is not to fail for it: it hears of the failure once it is told of them.
function Quota:failing(message)
  if self.backends:holds_back() then
    self.has_failed = message ~= nil
    if message then return true end
  end
  return self.following:failing(message)
end

-- Where sockets end with requests, many are closed and opened anew. In a worker that exits nothing comes later, unless somebody waits.
local function closes_late(self)
  local pool = self.pool
  if not pool.parking or pool.core:state_of() >= STOPPING then return false end
  return not self.workers.is_exiting() or next(pool.waiting) ~= nil
end

--- A connection was closed. The server may hear of that a little later than of the next one that is opened instead.
-- @return true if the core is to be told of it later, which the quota sees to
function Quota:tells_later(conn)
  if not closes_late(self) then return false end
  self.closed_last = self.closed_last + 1
  self.closed[self.closed_last] = { conn = conn, at = self.pool.now() + ledger.CLOSE_MS * 1e6 }
  if self.closed_last == self.closed_first then self.closed_alarm:set(self.closed[self.closed_last].at) end
  return true
end

--- Tells the core of connections that are closed for long enough.
function Quota:tell_closed()
  local now = self.pool.now()
  while self.closed_first <= self.closed_last do
    local first = self.closed[self.closed_first]
    if first.at > now and closes_late(self) then return self.closed_alarm:set(first.at) end
    self.closed[self.closed_first] = nil
    self.closed_first = self.closed_first + 1
    self.pool:input("conn_closed", first.conn)
    if self.is_over then return end
  end
end

-- ----------------------------------------------------------------- ceiling --

local function set_ceiling(self, ceiling)
  if self.ceiling == ceiling then return end
  self.ceiling = ceiling
  self.options.max_connections = ceiling
  self.pool:input("options_changed", self.options)
end

-- Lets the core have so many besides those leased at removed backends.
local function apply(self, ceiling)
  if ceiling < 1 then return self.backends:tell(false) end
  set_ceiling(self, ceiling)
  self.backends:tell(true)
  if self.has_failed then
    self.has_failed = false
    self.following:failing "the resolver has failed"
  end
end

--- Leases of these backends are about to be beyond the core's ceiling.
function Quota:make_room(leaving)
  local was = self.is_settling
  self.is_settling = true
  apply(self, math.min(self.ceiling or 0, self.ledger.held - self.backends:orphans(leaving)))
  self.is_settling = was
end

--- The pool's options were changed; the ceiling stays.
function Quota:options_changed(what, given, cdata)
  if given.max_connections ~= nil and given.max_connections ~= self.cap then
    misuse.raise(what .. ": option 'max_connections' cannot be changed while it counts for the whole server: reload it")
  end
  cdata.max_connections = self.ceiling or self.cap
  self.options = cdata
end

-- ------------------------------------------------------------------ demand --

-- What this worker needs: the most it used of late, so that a pause between two requests gives nothing away.
local function need_of(self, stats, is_leaving)
  local now, used = self.pool.now(), stats.busy + stats.waiting
  local spares = self.options.spares ~= NO_SPARES and self.options.spares or 0
  if now - self.window_at >= WINDOW_NS then
    self.peak_before = now - self.window_at < 2 * WINDOW_NS and self.peak or 0
    self.peak, self.window_at = 0, now
  end
  self.peak = math.max(self.peak, used)
  if is_leaving then return used end
  return math.min(self.cap, math.max(1, self.peak, self.peak_before, used + spares))
end

-- What this worker would like to have besides what it needs: its even part, if it is to have connections ready.
local function wish_of(self, need, members, is_leaving)
  if is_leaving or self.options.spares ~= NO_SPARES then return need end
  local present = 0
  for _, member in ipairs(members) do
    if not member.is_leaving then present = present + 1 end
  end
  return math.max(need, math.floor(self.cap / math.max(self.workers.count(), present)))
end

-- This worker's share of the connections.
-- @return the share with what nobody needs, and how many connections the worker is to give back
local function share_of(self, members)
  table.sort(members, function(a, b) return (a.number or math.huge) < (b.number or math.huge) end)
  local needs, wishes, held, free, own = {}, {}, {}, self.cap, nil
  for index, member in ipairs(members) do
    needs[index], wishes[index], held[index] = member.need, member.wish, member.held
    free = free - member.held
    if member.id == self.ledger.id then own = index end
  end
  free = math.max(0, free)
  local shares, full = deal.both(self.cap, needs, wishes, math.floor(self.pool.now() / 1e6 / TURN_MS))
  local yield = deal.yields(held, shares, free)[own]
  -- What nobody needs is moved only if it is worth while.
  if yield == 0 and held[own] - full[own] > math.max(1, self.cap / 10) then yield = deal.yields(held, full, free)[own] end
  return full[own], yield
end

-- How many connections the server may count for this worker.
local function open_of(stats, is_leaving)
  if is_leaving then return stats.busy + stats.connecting + stats.checking end -- nginx has closed the idle ones
  return stats.total
end

-- Gives back tokens that are not used. The server may hear of a close a little later than of another worker's connect, so a token is given
-- back when it was unused the last time too. A worker that leaves may have no other time, and gives back at once.
local function give_back(self, unused, is_leaving)
  local count = is_leaving and unused or math.min(unused, self.unused)
  self.ledger:give(math.max(0, count), is_leaving)
  self.unused = math.max(0, unused - math.max(0, count))
end

-- Has nothing changed since the last deal, here or in other workers?
local function is_calm(self, now)
  if self.is_pressed or self.unused > 0 or now - self.dealt_at >= WINDOW_NS then return false end
  if self.ledger:changes() ~= self.changes_seen then return false end
  self.pool.core:stats()
  local stats = self.pool.core.numbers
  return stats.busy + stats.waiting <= self.peak and stats.total <= self.ledger.held
end

local function deal_anew(self, is_leaving)
  local pool, book, stats = self.pool, self.ledger, self.pool.core.numbers
  self.dealt_at, self.changes_seen = pool.now(), book:changes()
  pool.core:stats()
  local need = need_of(self, stats, is_leaving)
  local members = book:members()
  local wish = wish_of(self, need, members, is_leaving)
  for _, member in ipairs(members) do
    if member.id == book.id then member.need, member.wish, member.is_leaving = need, wish, is_leaving end
  end
  if not book:is_known() then book:publish(need, wish, is_leaving) end
  local full, yield = share_of(self, members)
  if book.held < full then book:take(full - book.held) end
  local goal = book.held - yield
  if is_leaving then goal = math.min(goal, math.max(need, open_of(stats, true))) end
  apply(self, goal - self.backends:orphans())
  pool.core:stats()
  local open = open_of(stats, is_leaving)
  give_back(self, book.held - math.max(goal, open), is_leaving)
  book:publish(need, wish, is_leaving)
  self.is_pressed = book.held < math.min(full, need) or yield > 0 or open > goal
  -- A worker that has left in good order is not to be found dead. If more requests come, it takes part again.
  if is_leaving and book.held == 0 and stats.waiting == 0 then book:close() end
end

-- The pool stops: it opens nothing any more, and gives back a token for each connection that is closed.
local function run_down(self)
  self.pool.core:stats()
  self.ledger:give(self.ledger.held - self.pool.core.numbers.total)
  self.ledger:publish(0, 0, true)
end

--- Compares what this worker has with what it should have, and deals anew if something has changed.
function Quota:settle()
  if self.is_settling or self.is_over then return end
  self.is_settling = true
  local pool, now = self.pool, self.pool.now()
  self.settled_at = now
  if pool.core:state_of() >= STOPPING then
    self:tell_closed()
    if self.is_over then return end
    run_down(self)
  else
    local is_leaving = self.workers.is_exiting()
    if is_leaving or not is_calm(self, now) then
      self.ledger:verify()
      deal_anew(self, is_leaving)
    end
  end
  self.is_settling = false
  if self.is_over then return end
  local pause = self.is_pressed and HURRY_NS or TICK_NS
  self.alarm:set((math.floor(now / pause) + 1) * pause) -- many pools' at one time: that is one wakening
end

--- The pool did something. Called often.
function Quota:pumped()
  if self.is_settling or self.is_over then return end
  if self.workers.is_exiting() then -- nothing comes later
    self:tell_closed()
    self:settle()
  elseif (next(self.pool.waiting) or self.is_pressed) and self.pool.now() - self.settled_at >= PACE_NS then
    self:settle()
  end
end

--- The pool is over.
function Quota:close()
  if self.is_over then return end
  self.is_over = true
  self.ledger:close()
  self.alarm:close()
  self.closed_alarm:close()
end

--- Are there backends, though the core may know of none while other workers have all connections?
function Quota:knows_backends()
  return #self.backends.order > 0
end

--- Why the core knows of no backends, though there are some; nil: it knows of all there are.
function Quota:cause()
  if not self.backends:holds_back() then return nil end
  return ("other workers have all %d connections that there may be (max_connections of the whole server)"):format(self.cap)
end

--- What this worker may have open at present, and what the whole server may.
function Quota:numbers()
  return self.ledger.held, self.cap
end

return quota
