--- What can be looked at and changed in a running program: one table of verbs, for the globals of consoles and for commands with a colon.
--
--   backends { pool = "db", state = "dead" }        in Lua
--   :backends pool=db state=dead form=json          as a command; :backends { pool = "db" } is the same
--
-- A row is { name, kind, help, options, columns, run, words }: kind "look" changes nothing, "change" does; options by name are rules as of
-- cueball.options, with `read` for what is typed as a text; run(asked, context) gives a list, a table, or true, or nil, message;
-- words(table) is the text of such a table for people.
-- A context is { who = text, changes = who made them is noted there }.
local ask = require "cueball.console.ask"
local look = require "cueball.console.look"
local change = require "cueball.console.change"
local listing = require "cueball.console.listing"
local misuse = require "cueball.misuse"
local options = require "cueball.options"
local show = require "cueball.console.show"
local target = require "cueball.console.target"
local text = require "cueball.text"
local words = require "cueball.console.words"

local verbs = {}

--- All rows, in the order in which help lists them.
verbs.rows = {}
local by_name = {}

for _, rows in ipairs { look, change } do
  for _, row in ipairs(rows) do
    verbs.rows[#verbs.rows + 1] = row
    by_name[row.name] = row
    options.note(row.name, row.options, row.takes_others and {} or nil)
  end
end

--- The row of a name, or nil.
function verbs.row(name)
  return by_name[name]
end

-- ------------------------------------------------------------------------- in Lua --

-- What is given, checked: a text alone means the option that the row names first.
local function asked_of(row, given)
  if given == nil then given = {} end
  if type(given) ~= "table" then given = { [row.first or "pool"] = given } end
  local own, others = {}, {}
  for name, value in pairs(given) do
    local rule = row.options[name]
    if rule and rule.read and type(value) == "string" then
      local read, message = rule.read(value)
      if read == nil then misuse.raise(("%s: option '%s': %s"):format(row.name, name, message)) end
      value = read
    end
    if rule or not row.takes_others then own[name] = value else others[name] = value end
  end
  return options.check(row.name, own, row.options), others
end

--- Does what a verb does.
-- @return a list, true, or nil, message; mistakes in what is given raise an error at the caller's line
function verbs.run(row, given, context)
  local asked, others = asked_of(row, given)
  local found, message, name = row.run(asked, context, others)
  if found == nil then return nil, message, name end
  return found -- alone: a prompt shows several values as Lua, and a list alone as a table
end

--- The verbs as functions, by name.
-- @param context of who calls them
-- @param may_change whether those that change something are among them
function verbs.functions(context, may_change)
  local made = {}
  for _, row in ipairs(verbs.rows) do
    if row.kind == "look" or may_change then
      made[row.name] = function(given) return verbs.run(row, given, context) end
    end
  end
  return made
end

-- --------------------------------------------------------------------- as commands --

local function value_of(row, name, word)
  local rule = row.options[name]
  if rule and (rule.read or rule.is_text) then return word.text end
  return words.value(word)
end

--- Reads what is typed after a command's name.
-- @return what the verb is given, and the form ("table", "lua", "json"); or nil, message
function verbs.read(row, argument)
  local given, form = {}, "table"
  for _, word in ipairs(words.split(argument)) do
    local name, value = word.name, word.text
    if name == "form" then
      if not listing.is_form(value) then return nil, ("form=%s: there are table, lua, json"):format(text.message(value)) end
      form = value
    elseif name then
      local rule = row.options[name]
      if rule and rule.is_list then
        given[name] = given[name] or {}
        table.insert(given[name], value)
      else
        words.put(given, name, value_of(row, name, word))
      end
    else
      local first = row.first or "pool"
      given[first] = value_of(row, first, word)
    end
  end
  return given, form
end

-- What is typed after a command's name: words, or a table in Lua, as the function takes it.
-- @return as verbs.read
local function read_typed(session, row, argument)
  if not argument:find "^%s*{" then return verbs.read(row, argument) end
  local fn, message = session:compile(argument, ":" .. row.name)
  if not fn then return nil, message end
  local given = fn()
  if type(given) ~= "table" then return nil, "give a table, or NAME=VALUE" end
  return given, "table"
end

-- A list, a table, or what the verb has for people.
local function show_found(session, row, found, form)
  if found == true then return session:print("done", "result") end
  if not listing.is(found) then
    return session:print(form == "table" and row.words and row.words(found) or listing.text(found, form), "result")
  end
  local shown, note = listing.within(found, form, session.bytes_max)
  session:print(shown, "result")
  if note then session:print(note, "note") end
end

local function usage_of(row)
  local names = {}
  for name in pairs(row.options) do names[#names + 1] = name .. "=" end
  table.sort(names)
  if row.takes_others then names[#names + 1] = "OPTION=VALUE" end
  if row.kind == "look" then names[#names + 1] = "form=" end
  return "[" .. table.concat(names, " ") .. "]"
end

local function names_of(row)
  local names = {}
  for name in pairs(row.options) do names[#names + 1] = name .. "=" end
  if row.kind == "look" then names[#names + 1] = "form=" end
  table.sort(names)
  return names
end

-- Verbs that a script has as methods of pools. Not `kill`: in a script leases have other numbers.
local METHODS = { pause = true, resume = true, renew = true, drain = true, restore = true }

-- What such a command is in a script, a line for each pool that was meant.
local function lua_of(row, session, typed)
  local asked = asked_of(row, typed)
  local lines, given = {}, {}
  for name, value in pairs(asked) do
    if name ~= "pool" then given[name] = value end
  end
  local arguments = next(given) and show.value(given, { width = math.huge }) or ""
  for index, one in ipairs(ask.pools_to_change(asked.pool) or {}) do
    lines[index] = ("%s:%s(%s)"):format(target.expression(session, one.pool) or "pool", row.name, arguments)
  end
  return table.concat(lines, "\n")
end

--- The verbs as commands of a prompt, see cueball.console.commands.
-- @param context, may_change as of verbs.functions
function verbs.commands(context, may_change)
  local rows = {}
  for _, row in ipairs(verbs.rows) do
    if row.kind == "look" or may_change then
      local latest
      rows[#rows + 1] = {
        name = row.name, arguments = usage_of(row), help = row.help,
        complete = function() return names_of(row) end,
        as_lua = METHODS[row.name] and function(session) return lua_of(row, session, latest) end,
        run = function(session, argument)
          local given, form = read_typed(session, row, argument)
          if not given then return nil, form end
          local ok, found, message = pcall(verbs.run, row, given, context)
          if not ok then return nil, text.of(found) end
          if found == nil then return nil, message end
          latest = given
          show_found(session, row, found, form)
          return true
        end,
      }
    end
  end
  return rows
end

return verbs
