--- What a cosocket's send() takes, as one string.
local bytes = {}

-- Adds the strings of nested arrays to `pieces`.
-- @return how many there are; or nil and the type of what does not belong there
local function flatten(data, pieces, count)
  for index = 1, #data do
    local piece = data[index]
    local kind = type(piece)
    local bad
    if kind == "string" or kind == "number" then
      count = count + 1
      pieces[count] = piece
    elseif kind == "table" then
      count, bad = flatten(piece, pieces, count)
      if not count then return nil, bad end
    else
      return nil, kind
    end
  end
  return count
end

--- The string that is sent for `data`; or nil, message.
function bytes.of(data)
  local kind = type(data)
  if kind == "string" then return data end
  if kind == "number" or kind == "boolean" or kind == "nil" then return tostring(data) end
  if kind ~= "table" then
    return nil, "string, number, boolean, nil, or array table expected, got " .. kind
  end
  local pieces = {}
  local count, bad = flatten(data, pieces, 0)
  if not count then return nil, "bad data type " .. bad .. " found" end
  return table.concat(pieces)
end

return bytes
