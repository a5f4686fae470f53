--- What was typed, made into a function: an expression gives its values, a statement that is not finished is told, and locals stay.
--
-- A local of the top level would be gone with its line. So `local x = 1` becomes `x = 1` there: a variable of the session, which functions
-- that were typed share with the lines that follow. In blocks and functions locals stay what they are.
local chunk = {}

local OPENS = { ["do"] = true, ["if"] = true, ["function"] = true, ["repeat"] = true }
local CLOSES = { ["end"] = true, ["until"] = true }

-- The place behind a long bracket that begins at `at`; nil: there is none, or it has no end.
local function behind_long(text, at)
  local equals = text:match("^%[(=*)%[", at)
  if not equals then return nil end
  local _, stop = text:find("]" .. equals .. "]", at + #equals + 2, true)
  return stop and stop + 1 or #text + 1
end

local function behind_quoted(text, at)
  local quote, position = text:sub(at, at), at + 1
  while position <= #text do
    local one = text:sub(position, position)
    if one == "\\" then
      position = position + 2
    elseif one == quote or one == "\n" then
      return position + 1
    else
      position = position + 1
    end
  end
  return #text + 1
end

local function behind_comment(text, at)
  return text:sub(at + 2, at + 2) == "[" and behind_long(text, at + 2) or (text:find("\n", at, true) or #text + 1)
end

--- The next token of a Lua text.
-- @return its kind ("name", "string", "number", "comment", "sign"), where it begins, the place behind it; nil: there is none
function chunk.token(text, at)
  at = text:find("%S", at)
  if not at then return nil end
  local one, two = text:sub(at, at), text:sub(at, at + 1)
  if two == "--" then return "comment", at, behind_comment(text, at) end
  if one == '"' or one == "'" then return "string", at, behind_quoted(text, at) end
  if one == "[" and behind_long(text, at) then return "string", at, behind_long(text, at) end
  if one:find "[%a_]" then return "name", at, select(2, text:find("^[%w_]+", at)) + 1 end
  if text:find("^%.?%d", at) then return "number", at, select(2, text:find("^[%w.]+", at)) + 1 end
  return "sign", at, at + 1
end

-- All tokens but comments: a list of { kind =, at =, stop =, text = }.
local function tokens_of(text)
  local list, kind, at, stop = {}, chunk.token(text, 1)
  while kind do
    if kind ~= "comment" then list[#list + 1] = { kind = kind, at = at, stop = stop, text = text:sub(at, stop - 1) } end
    kind, at, stop = chunk.token(text, stop)
  end
  return list
end

-- What a `local` at list[index] is replaced with: for `local a, b` without values, " = nil" is put behind the names.
local function without_local(list, index, edits)
  local one, following = list[index], list[index + 1]
  edits[#edits + 1] = { at = one.at, stop = one.stop, text = "" }
  if not following or following.text == "function" then return end
  local last = index + 1
  while list[last + 1] and list[last + 1].text == "," and list[last + 2] do last = last + 2 end
  local behind = list[last + 1]
  if not behind or behind.text ~= "=" then
    edits[#edits + 1] = { at = list[last].stop, stop = list[last].stop, text = " = nil" }
  end
end

--- The text with its locals of the top level made variables of the session. Lines stay where they are.
function chunk.globalized(text)
  local list, depth, edits = tokens_of(text), 0, {}
  for index, one in ipairs(list) do
    local before = list[index - 1]
    local is_word = one.kind == "name" and not (before and (before.text == "." or before.text == ":"))
    if is_word and OPENS[one.text] then depth = depth + 1 end
    if is_word and CLOSES[one.text] then depth = depth - 1 end
    if is_word and one.text == "local" and depth == 0 then without_local(list, index, edits) end
  end
  local parts, from = {}, 1
  for _, edit in ipairs(edits) do
    parts[#parts + 1] = text:sub(from, edit.at - 1) .. edit.text
    from = edit.stop
  end
  return table.concat(parts) .. text:sub(from)
end

local function is_unfinished(message)
  return message:find "near '<eof>'$" ~= nil and not message:find ": unfinished string near" -- a quoted one ends with its line
end

-- An expression is evaluated as an argument: with `return f()`, a tail call, an error in f would not tell where f was called.
-- @return it; or nil, and whether it is the beginning of one
local function expression(text, name, environment, adopt)
  local found, message = load("return " .. text, "=" .. name, "t", environment)
  if not found then return nil, is_unfinished(message) end
  local made = load("(...)(" .. text .. "\n)", "=" .. name, "t", environment)
  if not made then return nil, false end
  adopt(made)
  return function()
    local count, values
    made(function(...) count, values = select("#", ...), { ... } end)
    return unpack(values, 1, count)
  end
end

--- Compiles what was typed.
-- @param text
-- @param name what messages call it
-- @param environment its globals
-- @param adopt function(chunk): hears of what was made, before it runs
-- @return a function, and whether it is an expression; or nil, "incomplete"; or nil, message
function chunk.compile(text, name, environment, adopt)
  local made, is_begun = expression(text, name, environment, adopt)
  if made then return made, true end
  local unchanged, message = load(text, "=" .. name, "t", environment)
  if not unchanged then return nil, (is_begun or is_unfinished(message)) and "incomplete" or message end
  made = load(chunk.globalized(text), "=" .. name, "t", environment) or unchanged
  adopt(made)
  return made, false
end

return chunk
