--- Connection factories: what an application gives, checked and completed.
local misuse = require "cueball.misuse"
local options = require "cueball.options"
local text = require "cueball.text"

local factory = {}

local MEMBERS = {
  connect = true, close = true, check = true, broken = true, evidence = true, reset = true, limit = true, watch = true,
  unwatch = true, park = true, fault = true, fits = true, descriptor = true, pointer = true,
}

local function is_factory(value)
  return type(value) == "function" or type(value) == "table" and type(value.connect) == "function"
end

--- The rule for options.check.
factory.RULE = { check = is_factory, range = "a function(backend, context) or a table with connect(backend, context)" }

local function close_by_method(connection)
  if type(connection) == "table" and connection.close then connection:close() end
end

-- What a factory of cueball's own says of itself counts only as long as nobody has put other functions into it.
local function short_way(given, made, ...)
  if type(given) ~= "table" then return nil end
  for _, member in ipairs { ... } do
    if made[member] ~= given[member] then return nil end
  end
  return given
end

--- Completes a factory.
-- @param what  who asks, for messages
-- @param given a function, or a table that the rule let pass
-- @param host  of the pool
-- @return a table of its functions, and
--   inspects     connections that come back are asked about
--   asks_socket  `broken` asks the socket only, which the pool does itself
--   asks_descriptor  `broken` asks the descriptor only, which a pool for threads does itself
--   bare, parked the short ways of cueball's own factories, see cueball.pool.perform and cueball.nginx.parking
function factory.read(what, given, host)
  if type(given) == "function" then given = { connect = given } end
  local made = { close = close_by_method }
  for member in pairs(MEMBERS) do
    local value = given[member]
    if value ~= nil and type(value) ~= "function" then
      misuse.raise(("%s: the connection factory's '%s' must be a function, not %s"):format(what, member, options.show(value)))
    end
    made[member] = value or made[member]
  end
  local fault = made.fault and made.fault(host)
  if fault then misuse.raise(("%s: the connection factory cannot work on this host: %s"):format(what, text.message(fault))) end
  made.inspects = made.broken ~= nil or made.watch ~= nil
  made.asks_socket = made.broken ~= nil and made.broken == given.asks_socket
  made.asks_descriptor = made.broken ~= nil and made.broken == given.asks_descriptor
  made.parked = short_way(given.parked, made, "connect", "park", "broken")
  made.bare = short_way(given.bare, made, "watch", "unwatch")
  return made
end

--- Whether the core's checks of a connection tell something: then suspect connections are checked before they are lent.
-- @param given a factory as the application gave it: what parking makes of one always has a check
-- @return 1 or 0
function factory.has_check(given)
  return type(given) == "table" and given.check and 1 or 0
end

--- What a pool asks for connections: the factory, or what parks its connections where the host does that.
-- @param given of factory.read
function factory.for_pool(pool, given)
  if pool.parking then return pool.parking.factory(pool, given) end
  return pool.of_set and pool.host.set_factory(given) or given
end

return factory
