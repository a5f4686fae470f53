--- What a cosocket's send() takes, as one string. What is refused, and in which words, is as in ngx_lua.
local bytes = {}

local next, rawget = next, rawget

-- The highest index of an array, holes included: the table's length would leave out what comes after a hole, and every other key.
-- @return it; or nil if there is a key that no array has
local function highest_index(data)
  local highest = 0
  for key in next, data do
    if type(key) ~= "number" or key < 1 or key % 1 ~= 0 then return nil end
    if key > highest then highest = key end
  end
  return highest
end

-- A negative zero is sent as 0.
local function text_of(number)
  return number == 0 and "0" or tostring(number)
end

-- Adds the strings of nested arrays to `pieces`.
-- @return how many there are; or nil and what is wrong
local function flatten(data, pieces, count)
  local highest = highest_index(data)
  if not highest then return nil, "non-array table found" end
  for index = 1, highest do
    local piece = rawget(data, index)
    local kind = type(piece)
    local bad
    if kind == "string" or kind == "number" then
      count = count + 1
      pieces[count] = kind == "string" and piece or text_of(piece)
    elseif kind == "table" then
      count, bad = flatten(piece, pieces, count)
      if not count then return nil, bad end
    else
      return nil, "bad data type " .. kind .. " found"
    end
  end
  return count
end

--- The string that is sent for `data`; or nil, message.
function bytes.of(data)
  local kind = type(data)
  if kind == "string" then return data end
  if kind == "number" then return text_of(data) end
  if kind == "boolean" or kind == "nil" then return tostring(data) end
  if kind ~= "table" then
    return nil, "string, number, boolean, nil, or array table expected, got " .. kind
  end
  local pieces = {}
  local count, bad = flatten(data, pieces, 0)
  if not count then return nil, bad end
  return table.concat(pieces)
end

return bytes
