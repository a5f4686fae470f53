--- The commands of a prompt: what is typed with a colon before it. Each is a row
--
--   { name = "time", arguments = "EXPRESSION", help = "runs it and tells how long it took", run = function(session, argument) … end }
--
-- `run` is called in a task of the session's host, and may wait. What it has to say it shows with session:print; it returns nil, message if
-- it could not do it. A row may have `complete(session, argument)` → list of texts, and `as_lua(session, argument)` → what does the same in
-- a script, for `:script`.
local text = require "cueball.text"

local commands = {}

-- Modules that return lists of rows.
local MODULES = { "cueball.console.general", "cueball.console.claims", "cueball.console.telling", "cueball.console.watching",
  "cueball.console.load" }
local WORLD_MODULES = { "cueball.console.worlds" }

--- All commands of a session.
-- @param is_virtual whether it lives in a world of cueball.host.sim
-- @param verbs      rows that come first: one takes the place of another of its name
-- @param more       rows of the caller's, which come last; or nil
-- @return { by_name =, names = in order }
function commands.all(is_virtual, verbs, more)
  local found = { by_name = {}, names = {} }
  local function add(rows)
    for _, row in ipairs(rows) do found.by_name[row.name] = row end
  end
  add(verbs)
  for _, module in ipairs(MODULES) do add(require(module)) end
  if is_virtual then
    for _, module in ipairs(WORLD_MODULES) do add(require(module)) end
  end
  add(more or {})
  for name in pairs(found.by_name) do found.names[#found.names + 1] = name end
  table.sort(found.names)
  return found
end

--- The command of a name, or the only one that begins so.
-- @return its row; or nil, message
function commands.find(all, name)
  local row = all.by_name[name]
  if row then return row end
  local begins = {}
  for _, candidate in ipairs(all.names) do
    if name ~= "" and candidate:sub(1, #name) == name then begins[#begins + 1] = candidate end
  end
  if #begins == 1 then return all.by_name[begins[1]] end
  if #begins > 1 then return nil, (":%s could be :%s"):format(name, table.concat(begins, ", :")) end
  return nil, ("there is no command :%s; :help lists them"):format(text.message(name))
end

local UNITS = { ms = 1, s = 1000, m = 60000, min = 60000, h = 3600000, d = 86400000 }

--- Reads "500ms", "1.5s", "2m", "1h"; a bare number is seconds, as a person at a prompt means them.
-- @return milliseconds; or nil, message
function commands.duration(word)
  local number, unit = word:match "^(%d+%.?%d*)%s*(%l*)$"
  local factor = UNITS[unit == "" and "s" or unit]
  if not number or not factor then return nil, ("%s is no time; write 500ms, 10s, 5m or 1h"):format(text.show(word)) end
  return tonumber(number) * factor
end

--- Milliseconds as a person reads them.
function commands.duration_text(ms)
  if ms < 1000 then return ("%.4g ms"):format(ms) end
  if ms < 120000 then return ("%.15g s"):format(math.floor(ms + 0.5) / 1000) end
  local seconds = math.floor(ms / 1000 + 0.5)
  if seconds < 7200 then return ("%d m %d s"):format(math.floor(seconds / 60), seconds % 60) end
  return ("%d h %d m"):format(math.floor(seconds / 3600), math.floor(seconds % 3600 / 60))
end

return commands
