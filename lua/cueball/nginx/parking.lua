--- Pools on a host where a socket belongs to whoever opened it (nginx: to a request) and crosses to the next only through the host's
-- keepalive pools.
--
-- Each connection of the pool gets a keepalive pool of its own, with room for one. To the core it is open as anywhere. What the pool's
-- slot holds is not a connection but a parked one (cueball.nginx.parked):
-- - an attempt opens a connection, in a task, and parks it;
-- - a claim is granted a parked connection; the claimer takes it, or, if nginx dropped it meanwhile, opens it anew in its own time;
-- - a release parks it again.
--
-- What can go wrong: the backend refuses the claimer who opens it anew. That lease is failed as if it had come back broken, and the claimer
-- gets another one, for as long as its time limit lets it; it does not notice.
--
-- A factory that knows no way to park (no `park`, no connection with set_keepalive, setkeepalive or keepalive) is taken to have no
-- sockets: what it returns is handed out as it is. Nothing is watched: such a host tells nobody of what breaks at rest.
--
-- A factory that opens its socket under another name than that of its slot would have it lent to others. One that has a socket, and no
-- way to park it, would lend what its next claimer cannot use. Both are noticed at the attempt, which fails and says what to do.
local misuse = require "cueball.misuse"
local address = require "cueball.address"
local condition = require "cueball.pool.condition"
local Parked = require "cueball.nginx.parked"
local plain = require "cueball.pool.context"

local getmetatable, setmetatable, pcall, rawequal, type = getmetatable, setmetatable, pcall, rawequal, type
local fault_of, put, take_if_parked, clean = Parked.fault, Parked.put, Parked.take_if_parked, Parked.clean

local parking = {}
parking.__index = parking

local HEARD_MS = 70 -- until a server has heard for sure that a connection was closed
local IDLE_MS = Parked.IDLE_MS

local pools_made = 0

-- The core was told from C that a request has ended. What the request had ends with the core's next input.
local function end_what_left(pool)
  if not pool.is_over and pool.core.outlook.deadline == 0 then pool:input("time_advanced") end
end

--- host.parking: what parks the connections of one pool. It has the functions below, and what they know of the pool.
function parking.new(pool)
  local keepalive = pool.host.keepalive
  if pool.host.is_forking() then
    misuse.raise("cueball.pool: a pool belongs to one worker: make it in init_worker_by_lua, or later, not in init_by_lua")
  end
  pools_made = pools_made + 1
  return setmetatable({
    reopened = 0, -- connections that claimers opened anew, instead of one that was lost: see cueball.pool.stats
    keepalive = keepalive, id = ("%d-%.0f"):format(pools_made, pool.now()), empty = {},
    party = keepalive.party(pool.core, function() end_what_left(pool) end),
  }, parking)
end

--- The pool is over.
function parking.close_down(pool)
  pool.parking.party:close()
end

--- Ends what ended requests had, before the pool's numbers are read.
parking.end_what_left = end_what_left

--- The name of the keepalive pool of one connection. No two connections have the same name: a connection that was left in one by mistake
-- must not be found by a claimer of another, which may lead to another backend, or have logged in as somebody else. Only a name that was
-- found empty is used again, since nginx keeps it for ever.
function parking.options(pool, slot, conn)
  local id = pool.parking.id
  local empty = table.remove(pool.parking.empty)
  return { pool = empty or ("cueball:%s:%s:%d:%.0f"):format(pool.name, id, slot, conn), pool_size = 1, backlog = 0 }
end

-- What is parked is taken; else a connection is opened, within what is left of the claim's time.
local function connect_parked(pool, backend, context, client)
  local keepalive = pool.parking.keepalive
  context.has_connected, context.client = true, client
  if keepalive.take(client, context) then
    context.how = "reused"
    return "reused"
  end
  context.how, context.memo = "new", {}
  context.opened_at = pool.now()
  if context.left_ms then
    context.timeout_ms = context.left_ms
    keepalive.limit(client, context.left_ms)
  end
  local how, message = keepalive.open(client, backend, context)
  if how and context.parked then pool.parking.reopened = pool.parking.reopened + 1 end
  return how, message
end

--- Completes what a factory is given, for sockets and the clients built on them:
-- context.connect(client) → "new", or "reused" if it was parked before; or nil, message;
-- context.through(socket): the next call of socket:connect, whatever its arguments, is that;
-- context.memo: what the greeting told of the connection that is open; empty before.
function parking.equip(pool, backend, context)
  context.memo = {}
  context.socket_options.context = context -- the host's own sockets know by it what to do
  context.take_options = { pool = context.socket_options.pool } -- of the rest nginx makes a pool, which is there by then
  function context.connect(client) return connect_parked(pool, backend, context, client) end
  context.take = pool.parking.keepalive.take
  function context.through(socket) plain.lend_connect(socket, context.connect) end
end

-- ----------------------------------------------------------------- factory --

local PARKS = { "set_keepalive", "setkeepalive", "keepalive" } -- as the libraries for cosockets name it

local function park_by_method(connection)
  for _, name in ipairs(PARKS) do
    local park = connection[name]
    if park then return park(connection, IDLE_MS) end
  end
end

local function way_to_park(given, connection)
  if given.park then return given.park end
  if type(connection) ~= "table" then return nil end
  for _, name in ipairs(PARKS) do
    if connection[name] then return park_by_method end
  end
  return nil
end

-- Closes what an attempt opened: its factory may not know how.
local function close_all(given, context, connection)
  pcall(given.close, connection)
  local socket = condition.socket_of(context.host, connection, context.client)
  if socket then pcall(socket.close, socket) end
end

local NOT_NAMED = "the connection factory opened its socket past context.connect, so that others could be lent it: connect with "
  .. "context.connect(client), or context.through(socket) before the client connects, or give context.socket_options to its connect"
local NO_PARK = "the connection factory opened a socket, and there is no way to park it: give the factory "
  .. "park(connection, idle_ms), which calls setkeepalive(idle_ms) of the connection's socket"

-- nginx wants IPv6 addresses in brackets. context.connect sees to that, a factory that connects by itself may not.
local function hint(backend, message)
  local is_text = type(message) == "string" and message:find("failed to parse host name", 1, true)
  if not is_text or address.family(backend.address) ~= 6 then return message end
  return message .. ": connect with context.connect(client)"
end

-- An attempt: opens a connection, and parks it.
local function connect(pool, given, backend, context)
  local limit_ms = context.timeout_ms
  local connection, message = given.connect(backend, context)
  if not connection then return connection, hint(backend, message) end
  local park, keepalive = way_to_park(given, connection), pool.parking.keepalive
  local uses_connect = context.has_connected or false
  local is_named = uses_connect or keepalive.is_in_use(context.socket_options)
  if not park then
    if not is_named and not condition.socket_of(context.host, connection) then return connection end
    close_all(given, context, connection)
    return nil, NO_PARK
  end
  local parked = Parked.new(pool.parking, given, park, backend, context, limit_ms, uses_connect)
  local is_parked
  is_parked, message = parked:put(connection)
  if not is_parked then
    close_all(given, context, connection)
    return nil, message
  end
  context.client = nil
  if not is_named and not keepalive.is_known(context.socket_options) then return nil, NOT_NAMED end
  context.parked = parked
  return parked
end

-- Takes what is parked, has the factory check it, and parks it again.
-- @return whether it is fit, and a message, as a factory's check
local function check(parked, timeout_ms)
  local given = parked.given
  local connection, message = parked:take()
  if not connection then return false, message end
  local fit, has_thrown
  fit, message, has_thrown = condition.check(given, connection, timeout_ms)
  if fit and parked.socket then fit, message = parked.socket:is_fit() end
  if fit then return parked:put(connection) end
  pcall(given.close, connection)
  if has_thrown then error(message, 0) end
  return false, message
end

--- host.set_factory: refuses sockets, since a set's lease is for good and a socket ends with its request.
function parking.without_sockets(given)
  local factory = {}
  for member, value in pairs(given) do factory[member] = value end
  function factory.connect(backend, context)
    local connection, message = given.connect(backend, context)
    if not connection or not way_to_park(given, connection) then return connection, message end
    pcall(given.close, connection)
    return nil, "a set cannot lease a socket here: it belongs to the request, or timer, that opened it"
  end
  return factory
end

--- A factory of parked connections over the application's own. Connections that have no socket pass through as they are.
-- @param given complete, with all that a factory may leave out
-- @return it
function parking.factory(pool, given)
  local keepalive = pool.parking.keepalive
  local function is_parked(connection) return getmetatable(connection) == Parked end
  local factory = { given = given, inspects = true }
  function factory.connect(backend, context) return connect(pool, given, backend, context) end
  function factory.close(connection)
    if not is_parked(connection) then return given.close(connection) end
    if connection.is_taken then -- whoever took it has closed it, or ended, just now: the server may not have heard of it
      if pool.quota then pool.host.sleep(HEARD_MS) end
      return
    end
    local options = connection.context.socket_options
    if keepalive.discard(options) then table.insert(pool.parking.empty, options.pool) end
  end
  factory.broken, factory.evidence, factory.reset = given.broken, given.evidence, given.reset
  function factory.check(connection, timeout_ms)
    if is_parked(connection) then return check(connection, timeout_ms) end
    if given.check then return given.check(connection, timeout_ms) end
    local message = given.broken and given.broken(connection)
    return not message, message
  end
  return factory
end

-- ------------------------------------------------------------------ claims --

-- How long this claim may take in all; nil: no limit, or it may not wait and is bounded by that.
local function total_of(pool, given)
  local total = given and given.timeout_ms
  if total == nil then total = pool.given.claim_timeout_ms end
  if not total or total == 0 or total == math.huge then return nil end
  return total
end

local function with_timeout(given, timeout_ms)
  local options = {}
  for name, value in pairs(given or {}) do options[name] = value end
  options.timeout_ms = timeout_ms
  return options
end

local ASIDE_MAX = 16

-- Claims a lease of another backend than the one that has just failed, if one is idle. Leases of the failed backend that come first are put
-- aside until then.
local function claim_elsewhere(pool, key, given, left, claim, who)
  local function leads_there(lease)
    local parked = lease.connection
    return getmetatable(parked) == Parked and parked.backend.key == key
  end
  local lease, why, name = claim(pool, left and with_timeout(given, left) or given, who)
  if not lease or not leads_there(lease) then return lease, why, name end
  local aside = {}
  while #aside < ASIDE_MAX do
    local other = claim(pool, with_timeout(given, 0), who)
    if not other then break end
    if not leads_there(other) then lease, other = other, lease end
    aside[#aside + 1] = other
    if not leads_there(lease) then break end
  end
  for _, other in ipairs(aside) do other:release() end
  return lease
end

-- The parked connection of this lease could not be taken: gives it back and gets another, until one can be or the time is up.
-- @param began when the claim did, as far as is known
local function get_another(pool, lease, message, given, claim, total_ms, began, who)
  while true do
    local parked = lease.connection
    lease:fail(message)
    local left = total_ms and total_ms - (pool.now() - began) / 1e6
    if left and left <= 0 then
      return nil, ("claim timed out after %.6g ms: the last connection that was tried: %s: %s")
        :format(total_ms - left, parked.backend.key, message), "claim_timeout"
    end
    local why, name
    lease, why, name = claim_elsewhere(pool, parked.backend.key, given, left, claim, who)
    if not lease then return nil, why, name end
    if getmetatable(lease.connection) ~= Parked then return lease end
    left = total_ms and total_ms - (pool.now() - began) / 1e6
    local connection
    connection, message = lease.connection:take(left and math.max(1, math.min(left, lease.connection.limit_ms)))
    if connection then
      lease.connection = connection
      return lease
    end
  end
end

-- What is parked, or what the factory opens instead, or what another backend has.
local function take_slowly(pool, lease, given, claim, who)
  local total_ms, parked = total_of(pool, given), lease.connection
  local waited_ms, limit_ms = lease.waited_ms or 0, parked.limit_ms
  if total_ms and total_ms - waited_ms < limit_ms then limit_ms = math.max(1, total_ms - waited_ms) end
  parked.context.opened_at = nil
  local connection, message = parked:take(limit_ms)
  if connection then
    lease.connection = connection
    return lease
  end
  local began = (parked.context.opened_at or pool.now()) - waited_ms * 1e6
  local another, why, name = get_another(pool, lease, message, given, claim, total_ms, began, who)
  return another, why, name
end

--- What pool:claim does on such a host. The clock is not looked at unless something went wrong: most claims take what is parked.
-- @param claim function(pool, given, who): how to get a lease
-- @param who what the claimer called, for messages
function parking.claim(pool, given, claim, who)
  local lease, message, name = claim(pool, given, who)
  if not lease then return nil, message, name end
  local parked = lease.connection
  if getmetatable(parked) ~= Parked then return lease end
  local connection = take_if_parked(parked)
  if connection then
    lease.connection = connection
    return lease
  end
  lease, message, name = take_slowly(pool, lease, given, claim, who)
  return lease, message, name
end

--- The core's owner of what the present request claims; nil: none is needed. Raises where no socket can be used.
-- @param who what the claimer called
function parking.owner(pool, who)
  local owner, phase = pool.parking.party:owner()
  if owner == false then
    misuse.raise(("%s: no socket can be used in this phase (%s); claim in one that may wait (rewrite, access, content, a timer)")
      :format(who, phase))
  end
  return owner
end

-- ---------------------------------------------------------------- releases --

--- A connection comes back: parks it if it is fit, else closes it and tells the core.
-- @return true; false if it is not of those that are parked, and nothing was done
function parking.put(pool, slot, connection)
  local parked = pool.opened[slot]
  if getmetatable(parked) ~= Parked then return false end
  if rawequal(connection, parked) then return true end
  local message, kind = fault_of(parked, pool, connection)
  if kind == "dirty" then
    local lease = pool.lent[slot]
    message, kind = clean(parked, pool, connection, pool:cleaning_ms())
    if pool.lent[slot] ~= lease then message, kind = "its lease was taken away while it was cleaned", "unfit" end
  end
  if message then
    pcall(parked.given.close, connection)
  else
    local is_parked
    is_parked, message, kind = put(parked, connection)
    if is_parked then return true end
  end
  pool:unfit(slot, message, kind)
  return true
end

--- The socket under what a claimer has taken from this slot; nil if there is none, or it could not be found.
function parking.socket(pool, slot)
  local parked = pool.opened[slot]
  return getmetatable(parked) == Parked and parked.is_taken and parked.socket or nil
end

--- Closes a connection that a claimer holds and that will not be parked; nothing if it is a parked one, which the pool closes itself.
function parking.close(pool, slot, connection)
  if getmetatable(connection) == Parked then return end
  local factory = pool.factories[slot]
  if getmetatable(pool.opened[slot]) == Parked or pool.opened[slot] == nil then pcall(factory.given.close, connection) end
end

return parking
