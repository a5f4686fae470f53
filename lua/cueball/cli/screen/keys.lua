--- What a terminal sends, as keys: "a", "é", "up", "page_down", "escape", "enter", "backspace", "ctrl-c" …
--
-- Another decoder than the prompt's (cueball.console.editor.keys): here Escape is a key by itself, there it is the Alt of the next one.
local SEQUENCES = require("cueball.console.editor.keys").SEQUENCES

local keys = {}

local Keys = {}
Keys.__index = Keys

local NAMED = { ["\r"] = "enter", ["\n"] = "enter", ["\t"] = "tab", ["\127"] = "backspace", ["\8"] = "backspace" }
local PART_MAX = 32   -- of a sequence that does not end

function keys.new()
  return setmetatable({ rest = "" }, Keys)
end

local function length_of(first)
  return first < 0x80 and 1 or first < 0xe0 and 2 or first < 0xf0 and 3 or 4
end

-- The key at the beginning, and how many bytes it has; nil: more has to come.
local function first_key(bytes)
  local first = bytes:sub(1, 1)
  if first == "\27" then
    if #bytes == 1 then return "escape", 1 end
    local sequence = bytes:match "^\27(%[[%d;?]*[%a~])" or bytes:match "^\27(O%a)"
    if sequence then return SEQUENCES[sequence:sub(2)] or "unknown", #sequence + 1 end
    if bytes:find "^\27%[[%d;?]*$" or bytes == "\27O" then
      if #bytes < PART_MAX then return nil end
      return "unknown", #bytes
    end
    return "escape", 1
  end
  if NAMED[first] then return NAMED[first], 1 end
  if first < " " then return "ctrl-" .. string.char(first:byte() + 96), 1 end
  local length = length_of(first:byte())
  if #bytes < length then return nil end
  return bytes:sub(1, length), length
end

--- @param bytes what came
-- @return list of the keys that are whole
function Keys:feed(bytes)
  local rest, found = self.rest .. bytes, {}
  while rest ~= "" do
    local key, length = first_key(rest)
    if not key then break end
    found[#found + 1], rest = key, rest:sub(length + 1)
  end
  self.rest = rest
  return found
end

return keys
