--- Commands of a prompt in virtual time: :step, :until, :server, :fault and its short forms, :seed.
local address = require "cueball.address"
local changes = require "cueball.console.changes"
local commands = require "cueball.console.commands"
local show = require "cueball.console.show"
local text = require "cueball.text"

local rows = {}

local function add(row) rows[#rows + 1] = row end

local span = commands.duration_text

-- --------------------------------------------------------------------- time --

-- Time goes on by itself while a task waits, so that is all it takes.
add {
  name = "step", arguments = "[TIME]", help = "lets so much virtual time go by; 1 s by default",
  run = function(session, argument)
    local ms, message = commands.duration(argument == "" and "1s" or argument)
    if not ms then return nil, message end
    session.world.sleep(ms)
    session.latest_lua = ("world.sleep(%.15g)"):format(ms)
    return true
  end,
  as_lua = function(session) return session.latest_lua end,
}

local LIMIT_MS, LOOK_MS = 3600000, 10

add {
  name = "until", arguments = "CONDITION", takes_lua = true,
  help = "lets time go by until this holds, an hour at most: :until pool:state() == \"failed\"",
  run = function(session, argument)
    local holds, message = session:compile(argument, ":until")
    if not holds then return nil, message end
    local world = session.world
    local began = world.time_ms()
    while not holds() do
      if world.time_ms() - began >= LIMIT_MS then return nil, "it did not come to hold within an hour" end
      world.sleep(LOOK_MS)
    end
    session.latest_lua = ("repeat world.sleep(%d) until %s"):format(LOOK_MS, argument)
    session:print("after " .. span(world.time_ms() - began), "note")
    return true
  end,
  as_lua = function(session) return session.latest_lua end,
}

add {
  name = "seed", help = "tells the seed of all chance; `cueball repl --sim --seed N` sets it",
  run = function(session)
    session:print(tostring(session.seed or 1), "result")
    return true
  end,
}

-- ------------------------------------------------------------------ servers --

-- What one types: "10.0.0.1:80", "10.0.0.1" where one server has that address, or the name of a backend that has one.
local function server_of(session, word)
  local found, keys = nil, {}
  for key, server in pairs(session.world.servers) do
    keys[#keys + 1] = key
    if key == word or address.split(key) == word then
      if found and key ~= word then return nil, ("several servers have the address %s; say which port"):format(word) end
      found = { key = key, server = server }
    end
  end
  table.sort(keys)
  if found then return found end
  return nil, ("there is no server %s%s"):format(text.show(word), #keys > 0 and "; there are " .. table.concat(keys, ", ") or
    "; :server 10.0.0.1:80 makes one")
end

local function server_names(session)
  local names = {}
  for key in pairs(session.world.servers) do names[#names + 1] = key end
  table.sort(names)
  return names
end

add {
  name = "server", arguments = "ADDRESS:PORT", help = "makes a server that sends back what it is sent",
  run = function(session, argument)
    local host, port = address.split(argument)
    if not host or not port then return nil, "it wants an address and a port: :server 10.0.0.1:80" end
    session.latest_lua = ("world.server(%q, %d, { reply = function(data) return data end })"):format(host, port)
    assert(session:compile(session.latest_lua, ":server"))()
    session:print("a server listens at " .. argument, "note")
    return true
  end,
  as_lua = function(session) return session.latest_lua end,
}

-- ------------------------------------------------------------------- faults --

-- By name: how, in Lua, and what is said; `undo` takes it back. %s is the server; of `slow` the second one is a time.
local FAULTS = {
  kill = { lua = "%s:kill()", said = "is dead: it resets its connections, and refuses others", undo = "%s:start()" },
  refuse = { lua = "%s:stop()", said = "refuses connections; those that are open stay", undo = "%s:start()" },
  reset = { lua = "%s:reset_all()", said = "has reset its connections" },
  freeze = { lua = "%s:freeze()", said = "is frozen: it does not answer", undo = "%s:thaw()" },
  slow = { lua = "%s:set { reply_delay = %s, connect_delay = %s }", said = "is slow",
    undo = "%s:set { reply_delay = 0, connect_delay = 0 }" },
  fail_over = { lua = "%s:fail_over()", said = "was replaced by another, in silence" },
  none = { lua = "%s:start() %s:thaw() %s:set { reply_delay = 0, connect_delay = 0 }", said = "is well again" },
}
local FAULT_NAMES = { "fail_over", "freeze", "kill", "none", "refuse", "reset", "slow" }

local function fault_lua(pattern, server, delay)
  local count = 0
  return (pattern:gsub("%%s", function()
    count = count + 1
    return delay and count > 1 and delay or server
  end))
end

local function break_server(session, word, name, argument)
  local fault = FAULTS[name]
  if not fault then return nil, ("there is no fault %s; there are %s"):format(text.show(name), table.concat(FAULT_NAMES, ", ")) end
  local found, message = server_of(session, word)
  if not found then return nil, message end
  local delay
  if name == "slow" then
    local ms, why = commands.duration(argument == "" and "300ms" or argument)
    if not ms then return nil, why end
    delay = ("%.15g"):format(ms)
  end
  local server = ("world.servers[%s]"):format(show.value(found.key))
  session.latest_lua = fault_lua(fault.lua, server, delay)
  assert(session:compile(session.latest_lua, ":fault"))()
  if fault.undo then
    local undo = fault_lua(fault.undo, server)
    changes.note_undo(session.undoing, { what = undo, undo = function() assert(session:compile(undo, ":undo"))() end })
  end
  session:print(("%s %s%s"):format(found.key, fault.said, delay and (": %s ms"):format(delay) or ""), "note")
  return true
end

local function last_lua(session) return session.latest_lua end

add {
  name = "fault", arguments = "SERVER " .. table.concat(FAULT_NAMES, "|") .. " [TIME]",
  help = "breaks a server of the simulator, or (none) mends it", complete = function(session, argument)
    return argument:find "%s" and FAULT_NAMES or server_names(session)
  end,
  run = function(session, argument)
    local word, name, rest = argument:match "^(%S+)%s+(%S+)%s*(.*)$"
    if not word then return nil, ":fault wants a server and a fault: :fault 10.0.0.1:80 refuse" end
    return break_server(session, word, name, rest)
  end,
  as_lua = last_lua,
}

local function add_short(name, fault, help, arguments)
  add {
    name = name, arguments = arguments or "SERVER", help = help, complete = server_names,
    run = function(session, argument)
      local word, rest = argument:match "^(%S*)%s*(.*)$"
      return break_server(session, word, fault, rest)
    end,
    as_lua = last_lua,
  }
end

add_short("kill", "kill", "the server dies; :mend has it live again")
add_short("freeze", "freeze", "the server does not answer any more")
add_short("slow", "slow", "the server answers so much later, 300 ms by default", "SERVER [TIME]")
add_short("mend", "none", "the server is well again")

return rows
