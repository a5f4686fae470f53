--- What is typed behind a command, in words: `"10.0.0.1:6379,10.0.0.2:6379" redis max=4`.
local parts_of = require("cueball.text").parts

local words = {}

local LITERALS = { ["true"] = true, ["false"] = false }

--- Splits into words at white space; quotes keep words together.
-- @return a list of { text =, name = of "name=text", or nil, is_quoted = }
function words.split(argument)
  local list, at = {}, argument:find "%S"
  while at do
    local name, behind = argument:match("^([%a_][%w_.]*)=()", at)
    if name and name:find "%.$" then name, behind = nil, nil end -- there is no last part that words.put could set
    at = behind or at
    local quote = argument:match("^[\"']", at)
    local value, stop
    if quote then value, stop = argument:match("^" .. quote .. "([^" .. quote .. "]*)" .. quote .. "()", at) end
    local is_quoted = value ~= nil
    if not value then value, stop = argument:match("^(%S*)()", at) end
    list[#list + 1] = { name = name, text = value, is_quoted = is_quoted }
    at = argument:find("%S", stop)
  end
  return list
end

--- "4" → 4, "true" → true, "fifo" → "fifo"; a quoted word is a string.
function words.value(word)
  if word.is_quoted then return word.text end
  if LITERALS[word.text] ~= nil then return LITERALS[word.text] end
  return tonumber(word.text) or word.text
end

--- Puts a value where a name with dots says: "recovery.default.attempts".
function words.put(into, name, value)
  for part in name:gmatch "([^.]+)%." do
    if type(into[part]) ~= "table" then into[part] = {} end
    into = into[part]
  end
  into[name:match "[^.]+$"] = value
end

--- "a, b" → { "a", "b" }
function words.list(text)
  local list = {}
  for _, part in ipairs(parts_of(text, ",")) do
    if part ~= "" then list[#list + 1] = part end
  end
  return list
end

return words
