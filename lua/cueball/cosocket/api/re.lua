--- `re` of ngx_lua's API: match, find, gmatch, sub and gsub, and `split` of its module ngx.re.
local misuse = require "cueball.misuse"
local pcre = require "cueball.cosocket.api.pcre"

local re = {}

local function compiled(name, pattern, options)
  if type(pattern) ~= "string" then
    misuse.raise(("bad argument #2 to '%s' (string expected, got %s)"):format(name, type(pattern)))
  end
  if options ~= nil and type(options) ~= "string" then
    misuse.raise(("bad argument #3 to '%s' (string expected, got %s)"):format(name, type(options)))
  end
  return pcre.regex(pattern, options or "")
end

-- Where to begin: context.pos, from 1.
local function start_of(context)
  local at = context and context.pos
  return at and at > 0 and at - 1 or 0
end

local function collect_names(regex, found)
  for _, one in ipairs(regex.names) do
    local name, value = one[1], found[one[2]]
    if not regex.has_dupnames then
      found[name] = value
    elseif value then
      local list = found[name] or {}
      list[#list + 1] = value
      found[name] = list
    end
  end
end

-- The groups of the last match; false is one that took no part.
-- @param groups how many took part
local function captures(regex, subject, groups, found)
  found = found or {}
  for index = 0, regex.captures do
    local from, to = regex:group(index, groups)
    found[index] = from and subject:sub(from, to) or false
  end
  if regex.names[1] then collect_names(regex, found) end
  return found
end

re.captures = captures

--- @return its groups; nil: no match; or nil, message
function re.match(subject, pattern, options, context, found)
  subject = tostring(subject)
  local regex, message = compiled("match", pattern, options)
  if not regex then return nil, message end
  local groups
  groups, message = regex:match(subject, start_of(context))
  if not groups then return nil, message end
  if context then context.pos = tonumber(regex.ends[1]) + 1 end
  return captures(regex, subject, groups, found)
end

--- @return where the match, or its group `nth`, begins and ends; nil: no match; or nil, nil, message
function re.find(subject, pattern, options, context, nth)
  subject = tostring(subject)
  local regex, message = compiled("find", pattern, options)
  if not regex then return nil, nil, message end
  local groups
  groups, message = regex:match(subject, start_of(context))
  if not groups then return nil, nil, message end
  if context then context.pos = tonumber(regex.ends[1]) + 1 end
  if not nth or nth < 0 then nth = 0 end
  if nth > regex.captures then return nil, nil, "nth out of bound" end
  local from, to = regex:group(nth, groups)
  if not from then return nil, nil end
  return from, to
end

--- @return function() → the groups of the next match; nil: there is none; nil, message. Or nil, message
function re.gmatch(subject, pattern, options)
  subject = tostring(subject)
  local regex, why = compiled("gmatch", pattern, options)
  if not regex then return nil, why end
  local at = 0 -- nil: it is over
  return function()
    if not at then return nil end
    local groups, message = regex:match(subject, at)
    if not groups then
      at = nil
      return nil, message
    end
    local from, to = tonumber(regex.ends[0]), tonumber(regex.ends[1])
    at = to == from and to + 1 or to
    if at > #subject and to == from then at = nil end
    return captures(regex, subject, groups)
  end
end

-- ------------------------------------------------------------ replacing --

local BAD_TEMPLATE = "failed to compile the replacement template"

-- What stands after a "$": "1", "{12}", "$".
-- @return a group's number or a text, where the template goes on; nil: nothing that is known
local function variable(template, at)
  if template:sub(at, at) == "$" then return "$", at + 1 end
  local digits, behind = template:match("^(%d+)()", at)
  if not digits then digits, behind = template:match("^{(%d+)}()", at) end
  if not digits then return nil end
  return tonumber(digits), behind
end

-- A template as a list of texts and numbers of groups; nil: it is none.
local function parse_template(template)
  local parts, at = {}, 1
  while true do
    local dollar = template:find("$", at, true)
    if not dollar then break end
    if dollar > at then parts[#parts + 1] = template:sub(at, dollar - 1) end
    local part, behind = variable(template, dollar + 1)
    if not part then return nil end
    parts[#parts + 1] = part
    at = behind
  end
  if at <= #template then parts[#parts + 1] = template:sub(at) end
  return parts
end

-- What a template makes of the last match.
local function fill(parts, regex, subject, groups)
  local out = {}
  for index, part in ipairs(parts) do
    if type(part) == "string" then
      out[index] = part
    else
      local from, to = regex:group(part, groups)
      out[index] = from and subject:sub(from, to) or ""
    end
  end
  return table.concat(out)
end

-- @param make function(groups) → what comes instead of the last match
local function replace_all(regex, subject, is_global, make)
  local out, count, at, copied = {}, 0, 0, 0
  while true do
    local groups, message = regex:match(subject, at)
    if groups == nil then return nil, nil, message end
    if not groups then break end
    count = count + 1
    local from, to = tonumber(regex.ends[0]), tonumber(regex.ends[1]) -- before `make`, which may match with the same expression
    out[#out + 1] = subject:sub(copied + 1, from)
    out[#out + 1] = make(groups)
    copied, at = to, from == to and to + 1 or to
    if not is_global or at > #subject and from == to then break end
  end
  if count == 0 then return subject, 0 end
  out[#out + 1] = subject:sub(copied + 1)
  return table.concat(out), count
end

local function replaced(name, subject, pattern, replacement, options, is_global)
  local regex, message = compiled(name, pattern, options)
  if not regex then return nil, nil, message end
  subject = tostring(subject)
  if type(replacement) == "function" then
    return replace_all(regex, subject, is_global, function(groups)
      return tostring(replacement(captures(regex, subject, groups)))
    end)
  end
  local parts = parse_template(tostring(replacement))
  if not parts then return nil, nil, BAD_TEMPLATE end
  return replace_all(regex, subject, is_global, function(groups) return fill(parts, regex, subject, groups) end)
end

--- @return the text with the first match replaced, 1 or 0; or nil, nil, message
function re.sub(subject, pattern, replacement, options)
  return replaced("sub", subject, pattern, replacement, options, false)
end

--- @return the text with all matches replaced, how many; or nil, nil, message
function re.gsub(subject, pattern, replacement, options)
  return replaced("gsub", subject, pattern, replacement, options, true)
end

-- ------------------------------------------------------------ splitting --

local function drop_empty_ends(list)
  for index = #list, 1, -1 do
    if list[index] ~= "" then return end
    list[index] = nil
  end
end

-- Cuts the subject at the matches, from context.pos on, into `parts`, `most` of them at most; 0: any number.
-- @return how many were made, empty ones at the end included, which are dropped; or nil, message
local function cut(regex, subject, context, most, parts)
  local rest, seen_empty, cuts = context.pos, nil, 0
  context.pos = rest - 1
  while most <= 0 or cuts < most - 1 do
    local groups, message = regex:match(subject, math.max(context.pos, 0))
    if groups == nil then return nil, message end
    if not groups then break end
    local from, behind = tonumber(regex.ends[0]) + 1, tonumber(regex.ends[1]) + 1
    context.pos = from == behind and behind or behind - 1
    if seen_empty then rest = seen_empty end
    if from == behind then seen_empty = from end
    if from > rest or not seen_empty then
      cuts = cuts + 1
      parts[#parts + 1] = subject:sub(rest, from - 1)
      local first, last = regex:group(1, groups)
      if first then parts[#parts + 1] = subject:sub(first, last) elseif regex.captures > 0 and groups > 1 then parts[#parts + 1] = "" end
      rest = behind
      if rest > #subject then break end
    end
  end
  if most > 0 or rest <= #subject then
    parts[#parts + 1] = subject:sub(rest)
    return #parts
  end
  local count = #parts
  drop_empty_ends(parts)
  return count
end

--- `split` of ngx.re.
-- @return a list; or nil, message
function re.split(subject, pattern, options, context, most, list)
  subject = tostring(subject)
  context = context or { pos = 1 }
  context.pos = context.pos or 1
  if list ~= nil and type(list) ~= "table" then misuse.raise "res is not a table" end
  list = list or {}
  local parts, count = {}, 0
  if context.pos <= #subject then
    local regex, message = compiled("split", pattern, options)
    if not regex then return nil, message end
    count, message = cut(regex, subject, context, most or 0, parts)
    if not count then return nil, message end
  end
  for index = 1, count do list[index] = parts[index] end
  list[(parts[1] and #parts or count) + 1] = nil -- a list that is used again ends there
  return list
end

return re
