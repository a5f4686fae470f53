--- Commands that have nothing to do with pools: :help, :time, :reload, :undo, :script, :quit.
local commands = require "cueball.console.commands"
local script = require "cueball.console.script"
local text = require "cueball.text"

local rows = {}

local function add(row) rows[#rows + 1] = row end

local HEAD = [[
Lua is run, and may wait; Ctrl-C ends it. Results are numbered: _1, _2, …
?name shows the manual; Tab completes; a line that is not finished goes on.]]

local HELP_COLUMN = 26

add {
  name = "help", arguments = "[COMMAND]", help = "lists the commands, or tells of one",
  complete = function(session) return session.commands.names end,
  run = function(session, argument)
    if argument ~= "" then
      local row, message = commands.find(session.commands, (argument:gsub("^:", "")))
      if not row then return nil, message end
      session:print((":%s %s\n  %s"):format(row.name, row.arguments or "", row.help), "note")
      return true
    end
    local lines = { HEAD, "" }
    for _, name in ipairs(session.commands.names) do
      local row = session.commands.by_name[name]
      local usage = "  :" .. name .. (row.arguments and " " .. row.arguments or "")
      local has_room = #usage < HELP_COLUMN
      lines[#lines + 1] = has_room and usage .. (" "):rep(HELP_COLUMN - #usage) .. row.help
        or usage .. "\n" .. (" "):rep(HELP_COLUMN) .. row.help
    end
    session:print(table.concat(lines, "\n"), "note")
    return true
  end,
}

local function pack(...)
  return { n = select("#", ...), ... }
end

add {
  name = "time", arguments = "LUA", takes_lua = true, help = "runs it, and tells how long it took",
  run = function(session, argument)
    local made, message = session:compile(argument)
    if not made then return nil, message == "incomplete" and ":time wants a whole line of Lua" or message end
    local began = session.host.now()
    local results = pack(made())
    local took_ms = (session.host.now() - began) / 1e6
    session:show_results(results.n, results)
    session:print(commands.duration_text(took_ms) .. (session.world and " of virtual time" or ""), "note")
    return true
  end,
}

add {
  name = "reload", arguments = "MODULE", help = "loads a module of yours anew; what has the old one keeps it",
  complete = function()
    local names = {}
    for name in pairs(package.loaded) do names[#names + 1] = type(name) == "string" and name or nil end
    table.sort(names)
    return names
  end,
  run = function(session, argument)
    local before = package.loaded[argument]
    if before == nil then return nil, ("no module %s is loaded"):format(text.show(argument)) end
    if argument:find "^cueball%f[.%z]" then return nil, "cueball's own modules have state that lives; start anew for another version" end
    package.loaded[argument] = nil
    local ok, made = pcall(require, argument)
    if not ok then
      package.loaded[argument] = before
      return nil, text.clean_lines(text.of(made)) .. "\nthe one of before stays"
    end
    for name, value in pairs(session.environment) do
      if value == before and before ~= true then rawset(session.environment, name, made) end
    end
    session:print(("loaded %s anew"):format(argument), "note")
    return true
  end,
}

add {
  name = "undo", help = "takes back the last change: of options, of what a verb did, a fault",
  run = function(session)
    local last = table.remove(session.undoing)
    if not last then return nil, "there is nothing to undo" end
    local done, why = last.undo()
    if done == nil and why ~= nil then return nil, why end
    session.latest_lua = last.as_lua and last.as_lua(session) or last.what
    session:print("undone: " .. last.what, "note")
    return true
  end,
  as_lua = function(session) return session.latest_lua end,
}

add {
  name = "script", arguments = "[spec] [FILE]", help = "shows the session as a Lua file, or as a spec for busted, or writes it into FILE",
  run = function(session, argument)
    local kind, path = argument:match "^(spec)%f[%s%z]%s*(.*)$"
    path = path or argument
    local made = script.of(session, kind == "spec")
    if path == "" then
      session:print(made, "result")
      return true
    end
    local file, message = io.open(path, "wx")
    if not file and message:find "File exists" then return nil, path .. " is there already" end
    if not file then return nil, message end
    file:write(made)
    file:close()
    session:print("wrote " .. path, "note")
    return true
  end,
}

add {
  name = "quit", arguments = "[STATUS]", help = "ends the session; so does Ctrl-D",
  run = function(session, argument)
    local status = argument == "" and 0 or tonumber(argument)
    if not status or status % 1 ~= 0 or status < 0 or status > 255 then return nil, ":quit wants a whole number from 0 to 255" end
    session.is_over, session.status = true, status
    return true
  end,
}

return rows
