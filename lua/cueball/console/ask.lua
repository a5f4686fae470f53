--- What verbs are asked: the rules of their options, which pools are meant, and which rows pass the filters.
local commands = require "cueball.console.commands"
local hosts = require "cueball.host"
local listing = require "cueball.console.listing"
local options = require "cueball.options"
local snapshot = require "cueball.monitor.snapshot"
local text = require "cueball.text"

local ask = {}

ask.LIMIT = 100 -- rows, where nobody says otherwise

local TEXT = { check = function(value) return type(value) == "string" end, range = "a string", is_text = true }

ask.TEXT = TEXT

-- "5s", "2m" → milliseconds; a bare number is milliseconds, as in Lua.
local function span_read(word)
  local number = tonumber(word)
  if number then return number end
  return commands.duration(word)
end

--- A span of time: a number of milliseconds, or a text such as "5s".
ask.SPAN = {
  check = function(value) return type(value) == "number" and value >= 0 and value <= 1e12 end,
  range = "a number of milliseconds, or a text such as \"500ms\", \"5s\" or \"2m\"", read = span_read,
}

local function number_read(low, high)
  local rule = options.whole(low, high)
  rule.read = function(word)
    local number = tonumber(word)
    if number then return number end
    return nil, ("expected %s, not %s"):format(rule.range, text.show(word))
  end
  return rule
end
ask.whole = number_read

--- How many rows a list may have.
ask.LIMIT_RULE = number_read(1, 100000)

--- Rules for a verb: these, and those of every list.
function ask.rules(given)
  local rules = { pool = TEXT, limit = ask.LIMIT_RULE }
  for name, rule in pairs(given) do rules[name] = rule end
  return rules
end

--- The same for a list whose rows have an age.
function ask.aged(given)
  given.older, given.newer = ask.SPAN, ask.SPAN
  return ask.rules(given)
end

local function names_of(list)
  local names = {}
  for index, one in ipairs(list) do
    if index > 20 then
      names[#names + 1] = ("… %d more"):format(#list - 20)
      break
    end
    names[index] = one.name
  end
  return #names > 0 and table.concat(names, ", ") or "none"
end

--- The pools that are meant.
-- @param name of one, or "*", or nil: all
-- @return a list of { pool, name }; or nil, message, "not_found"
function ask.pools(name)
  local all = snapshot.named()
  if name == nil or name == "*" then return all end
  for _, one in ipairs(all) do
    if one.name == name then return { one } end
  end
  return nil, ("there is no pool %s; there are: %s"):format(text.show(name), names_of(all)), "not_found"
end

--- The same for who changes something: if there are several pools, which ones has to be said.
function ask.pools_to_change(name)
  local found, message, kind = ask.pools(name)
  if not found then return nil, message, kind end
  if name == nil and #found > 1 then
    return nil, ("which pool? There are %s; write pool = \"NAME\", or \"*\" for all"):format(names_of(found)), "not_found"
  end
  if #found == 0 then return nil, "there is no pool", "not_found" end
  return found
end

--- The host of who asks.
-- @param context of cueball.console.verbs
function ask.host(context)
  return context.host or hosts.default()
end

--- Does a value pass a filter? No filter: all do.
function ask.is(filter, value)
  return filter == nil or filter == value
end

--- Does an age pass the filters `older` and `newer`? What has no age passes where none is asked for.
function ask.is_aged(asked, ms)
  if asked.older == nil and asked.newer == nil then return true end
  return ms ~= nil and (asked.older == nil or ms >= asked.older) and (asked.newer == nil or ms <= asked.newer)
end

--- The first rows of a list, or the last ones, with the number of those left out.
-- @param rows, columns, is_latest  as of listing.new
-- @param limit  nil: ask.LIMIT
function ask.limited(rows, columns, limit, is_latest)
  return listing.limited(listing.new(rows, columns, is_latest), limit or ask.LIMIT)
end

return ask
