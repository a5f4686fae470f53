--- Commands that make pools and use them: :pool, :claim, :release, :ask, :set.
local address = require "cueball.address"
local changes = require "cueball.console.changes"
local commands = require "cueball.console.commands"
local options = require "cueball.options"
local show = require "cueball.console.show"
local target = require "cueball.console.target"
local text = require "cueball.text"
local words = require "cueball.console.words"

local rows = {}

local function add(row) rows[#rows + 1] = row end

-- -------------------------------------------------------------------- :pool --

local FACTORIES = { tcp = true, redis = true, postgres = true }
local SHORT = { max = "max_connections", timeout = "claim_timeout_ms" } -- what one types instead

-- What a server of the simulator says, so that there is somebody to talk to.
local REPLIES = {
  tcp = "function(data) return data end",
  redis = [[function(data) return ("+PONG\r\n"):rep(select(2, data:gsub("PING", ""))) end]],
}

local function is_option_of(what, name)
  for _, option in ipairs(options.taken(what, "") or {}) do
    if option.name == name:match "^[^.]+" then return true end
  end
  return false
end

-- Reads the words behind :pool.
-- @return { addresses =, factory =, of_factory = its options, options = of the pool }; or nil, message
local function read_pool(argument)
  local made = { addresses = nil, factory = "tcp", of_factory = {}, options = {} }
  for _, word in ipairs(words.split(argument)) do
    if word.name then
      local name = SHORT[word.name] or word.name
      local what = "cueball.connection." .. made.factory
      local is_of_factory = not is_option_of("cueball.pool", name) and pcall(require, what) and is_option_of(what, name)
      words.put(is_of_factory and made.of_factory or made.options, name, words.value(word))
    elseif FACTORIES[word.text] and made.addresses then
      made.factory = word.text
    elseif not made.addresses then
      made.addresses = words.list(word.text)
    else
      return nil, ("%s is no kind of connection; there are tcp, redis, postgres"):format(text.show(word.text))
    end
  end
  if not made.addresses or #made.addresses == 0 then return nil, 'it wants addresses: :pool "10.0.0.1:6379,10.0.0.2:6379" redis max=4' end
  return made
end

-- In virtual time: a server of the simulator for each address that has none.
local function server_lines(session, made, lines)
  for _, one in ipairs(made.addresses) do
    local host, port = address.split(one)
    if host and port and session.world and not session.world.servers[one] then
      lines[#lines + 1] = ("world.server(%q, %d, { reply = %s })"):format(host, port, REPLIES[made.factory] or REPLIES.tcp)
    end
  end
end

local function resolver_text(made)
  if #made.addresses == 1 and not address.split(made.addresses[1]) then
    return ("assert(cueball.resolver.from(%q))"):format(made.addresses[1])
  end
  return "cueball.resolver.static " .. show.value(made.addresses)
end

-- A free name for the variable: pool, pool2, …
local function free_name(session)
  local name, number = "pool", 1
  while rawget(session.environment, name) ~= nil do
    number = number + 1
    name = "pool" .. number
  end
  return name
end

-- What makes the pool, in Lua.
local function pool_text(session, made)
  local name = made.options.name
  local variable = type(name) == "string" and name:find "^[%a_][%w_]*$" and name or free_name(session)
  made.options.name = name or variable
  local lines = {}
  server_lines(session, made, lines)
  lines[#lines + 1] = ("%s = cueball.pool {"):format(variable)
  lines[#lines + 1] = ("  resolver = %s,"):format(resolver_text(made))
  lines[#lines + 1] = ("  connect = cueball.connection.%s %s,"):format(made.factory, show.value(made.of_factory))
  for _, option in ipairs(options.taken("cueball.pool", "")) do
    local value = made.options[option.name]
    if value ~= nil then lines[#lines + 1] = ("  %s = %s,"):format(option.name, show.value(value)) end
    made.options[option.name] = nil
  end
  for option, value in pairs(made.options) do lines[#lines + 1] = ("  %s = %s,"):format(option, show.value(value)) end
  lines[#lines + 1] = "}"
  return table.concat(lines, "\n"), variable
end

-- Runs Lua of a command as if it had been typed.
local function run_text(session, made, name)
  local fn, message = session:compile(made, name)
  if not fn then return nil, message end
  fn()
  return true
end

add {
  name = "pool", arguments = '"ADDRESS,…" [tcp|redis|postgres] [OPTION=VALUE…]',
  help = "makes a pool; its variable is `pool`, or as name= says",
  run = function(session, argument)
    local made, message = read_pool(argument)
    if not made then return nil, message end
    local lua, variable = pool_text(session, made)
    session.latest_lua = lua
    local ok, why = run_text(session, lua, ":pool")
    if not ok then return nil, why end
    session:print(lua, "note")
    session.pool = rawget(session.environment, variable)
    return true
  end,
  as_lua = function(session) return session.latest_lua end,
}

-- ------------------------------------------------------------------- claims --

add {
  name = "claim", arguments = "[POOL] [TIME]", help = "claims a connection: the variables `lease` and `connection`",
  complete = target.names,
  run = function(session, argument)
    local pool, rest = target.split(session, argument)
    if not pool then return nil, rest end
    local ms = 5000
    if rest ~= "" then
      local message
      ms, message = commands.duration(rest)
      if not ms then return nil, message end
    end
    local began = session.host.now()
    local lease, message = pool:claim { timeout_ms = ms }
    if not lease then return nil, message end
    session.environment.lease, session.environment.connection = lease, lease.connection
    session.latest_lua = ("lease = assert(%s:claim { timeout_ms = %.15g }) connection = lease.connection")
      :format(target.expression(session, pool) or "pool", ms)
    session:print(("lease = a connection to %s, after %s"):format(lease:backend().key,
      commands.duration_text((session.host.now() - began) / 1e6)), "result")
    return true
  end,
  as_lua = function(session) return session.latest_lua end,
}

local function living_lease(session)
  local lease = rawget(session.environment, "lease")
  if type(lease) ~= "table" or not text.of(lease):find "^cueball%.lease" then return nil, "there is no lease; :claim makes one" end
  if text.of(lease):find ", over%)$" then return nil, "the lease is over; :claim makes another" end
  return lease
end

add {
  name = "release", help = "releases the lease of :claim",
  run = function(session)
    local lease, message = living_lease(session)
    if not lease then return nil, message end
    local key = lease:backend().key
    lease:release()
    session.environment.connection = nil
    session:print("released: the connection to " .. key .. " is the pool's again", "note")
    return true
  end,
  as_lua = function() return "lease:release()" end,
}

-- --------------------------------------------------------------------- :ask --

local ANSWER_MS, ANSWER_BYTES = 200, 65536

-- A quoted text as Lua reads it, with its escapes; a bare one gets a line end.
local function bytes_of(session, argument)
  if argument:find "^[\"']" then
    local fn, message = session:compile(argument, ":ask")
    if not fn then return nil, message end
    return fn()
  end
  return argument .. "\r\n"
end

-- What comes until it ends a line, at most for so long.
local function hear(session, socket)
  local ends_at, parts = session.host.now() + ANSWER_MS * 1e6, {}
  repeat
    socket:settimeout(math.max(1, (ends_at - session.host.now()) / 1e6))
    local data, message, partial = socket:receiveany(ANSWER_BYTES)
    parts[#parts + 1] = data or partial
    if not data then return table.concat(parts), message end
  until data:sub(-1) == "\n" or session.host.now() >= ends_at
  return table.concat(parts)
end

-- Clients of Redis make a command of whatever method is called: they have `send`, and one that no socket has.
local function is_socket(value)
  return type(value) == "table" and value.send and value.receiveany and not value.no_socket_has_this
end

local function ask(session, socket, bytes)
  if not is_socket(socket) then
    return nil, "the connection is no socket: use its own methods, `connection:…`"
  end
  local sent, message = socket:send(bytes)
  if not sent then return nil, message end
  local answer, why = hear(session, socket)
  if answer ~= "" then session:print(show.value(answer, { bytes = ANSWER_BYTES }), "result") end
  if why == "timeout" and answer == "" then return nil, ("nothing came within %d ms"):format(ANSWER_MS) end
  if why and why ~= "timeout" then return nil, why end
  return true
end

add {
  name = "ask", arguments = "TEXT", help = [[sends "PING\r\n" on the lease of :claim, or on one of its own, and shows what comes]],
  run = function(session, argument)
    local bytes, message = bytes_of(session, argument)
    if not bytes then return nil, message end
    local lease = living_lease(session)
    session.latest_lua = nil
    if lease then
      session.latest_lua = ("connection:send(%s) print(connection:receiveany(%d))"):format(show.value(bytes), ANSWER_BYTES)
      return ask(session, lease.connection, bytes)
    end
    local pool, why = target.pool(session)
    if not pool then return nil, why end
    session.latest_lua = ("%s:with(function(socket) socket:send(%s) print(socket:receiveany(%d)) end)")
      :format(target.expression(session, pool) or "pool", show.value(bytes), ANSWER_BYTES)
    return pool:with(function(socket) return ask(session, socket, bytes) end)
  end,
  as_lua = function(session) return session.latest_lua end,
}

-- --------------------------------------------------------------------- :set --

-- What the options named in `given` are now: their defaults where nobody has said.
local function as_now(pool, given, before)
  local now = {}
  for name, value in pairs(given) do
    local was = before[name]
    if type(value) == "table" then
      now[name] = as_now(pool, value, type(was) == "table" and was or {})
    else
      now[name] = was
    end
  end
  return now
end

-- Options that nobody had said cannot be taken back by pool:set, but their defaults can be said.
local function with_defaults(now, given, path)
  for name, value in pairs(given) do
    if type(value) == "table" then
      with_defaults(now[name], value, path .. name .. ".")
    elseif now[name] == nil then
      now[name] = options.default_of(path .. name)
    end
  end
  return now
end

local function set_options(session, argument)
  local pool, rest = target.split(session, argument)
  if not pool then return nil, rest end
  local given = {}
  for _, word in ipairs(words.split(rest)) do
    if not word.name then return nil, ":set wants OPTION=VALUE" end
    words.put(given, SHORT[word.name] or word.name, words.value(word))
  end
  if next(given) == nil then return nil, ":set wants OPTION=VALUE, such as max_connections=8" end
  local before = with_defaults(as_now(pool, given, pool.given), given, "")
  pool:set(given)
  local name = target.expression(session, pool) or "pool"
  session.latest_lua = ("%s:set %s"):format(name, show.value(given, { width = math.huge }))
  local undo = ("%s:set %s"):format(name, show.value(before, { width = math.huge }))
  changes.note_undo(session.undoing, { what = undo, undo = function() pool:set(before) end })
  session:print(session.latest_lua .. "   -- :undo does " .. undo, "note")
  return true
end

add {
  name = "set", arguments = "[POOL] OPTION=VALUE…", help = "changes options of a living pool; :undo takes it back",
  complete = function()
    local names = {}
    for index, option in ipairs(options.taken("pool:set", "")) do names[index] = option.name .. "=" end
    return names
  end,
  run = set_options,
  as_lua = function(session) return session.latest_lua end,
}

return rows
