--- Bytes that came in pieces and go out in other pieces.
--
-- A list of strings; nothing is joined until somebody takes it, so that reading
-- any amount costs time in proportion to it.  One search at a time goes on
-- where it stopped when more has come.
local buffer = {}

local Buffer = {}
Buffer.__index = Buffer

local find, sub, concat = string.find, string.sub, table.concat

function buffer.new()
  return setmetatable({
    chunks = {}, first = 1, last = 0,   -- chunks[first .. last]
    offset = 0,                         -- bytes of the first chunk that are gone
    size = 0,                           -- bytes there are
    scan = 1, scanned = 0, carry = "",  -- the search: next chunk, bytes before it, its tail
  }, Buffer)
end

function Buffer:push(data)
  if data == "" then return end
  local last = self.last + 1
  self.last = last
  self.chunks[last] = data
  self.size = self.size + #data
end

local function drop_first(self)
  local first = self.first
  self.chunks[first] = nil
  self.offset = 0
  if first == self.last then
    self.first, self.last = 1, 0
  else
    self.first = first + 1
  end
end

--- Takes `count` bytes; there must be as many.
function Buffer:take(count)
  if count == 0 then return "" end
  local chunk, offset = self.chunks[self.first], self.offset
  local have = #chunk - offset
  self.size = self.size - count
  if count < have then
    self.offset = offset + count
    return sub(chunk, offset + 1, offset + count)
  end
  drop_first(self)
  if offset > 0 then chunk = sub(chunk, offset + 1) end
  if count == have then return chunk end
  local pieces, n = { chunk }, 1
  count = count - have
  while count > 0 do
    chunk = self.chunks[self.first]
    n = n + 1
    if count < #chunk then
      pieces[n] = sub(chunk, 1, count)
      self.offset = count
      break
    end
    pieces[n] = chunk
    count = count - #chunk
    drop_first(self)
  end
  return concat(pieces)
end

--- Takes a line, if it came in one piece and is all there is: the usual case.
-- @return the line without its LF; or nil, and nothing was taken
function Buffer:take_line()
  local chunk = self.chunks[self.first]
  if self.first ~= self.last or self.offset > 0 or find(chunk, "\n", 1, true) ~= #chunk then return nil end
  self.size = 0
  drop_first(self)
  return (sub(chunk, 1, -2)) -- in brackets: LuaJIT gives up on code that ends with a call of such a function
end

function Buffer:take_all()
  return self:take(self.size)
end

function Buffer:clear()
  while self.last > 0 do drop_first(self) end
  self.size = 0
end

--- Begins a search at the first byte.  Between this and the last search()
-- nothing may be taken.
function Buffer:rewind()
  self.scan, self.scanned, self.carry = self.first, 0, ""
end

-- Goes on in the next chunk.
-- @return the number of bytes before what is wanted; nil: it is not there; and whether the limit was reached
local function search_chunk(self, wanted, keep, limit)
  local text, from = self.chunks[self.scan], 1
  if self.scan == self.first then from = self.offset + 1 end
  local length = #text - from + 1
  local cut = limit and self.scanned + length > limit
  if cut then length = limit - self.scanned end
  if keep > 0 or cut then
    if from > 1 or cut then text = sub(text, from, from + length - 1) end
    if self.carry ~= "" then text = self.carry .. text end
    from = 1
  end
  local found = find(text, wanted, from, true)
  if found then return self.scanned - #self.carry + found - from end
  if cut then return nil, true end
  if keep > 0 then self.carry = sub(text, -keep) end
  self.scanned, self.scan = self.scanned + length, self.scan + 1
  return nil, false
end

-- What search does beyond the first chunk.
local function search_rest(self, wanted, keep, limit)
  while self.scan <= self.last and (not limit or self.scanned < limit) do
    local found, is_over = search_chunk(self, wanted, keep, limit)
    if found or is_over then return found end
  end
  return nil
end

--- Goes on searching for a string.
-- @param limit look at that many bytes from the start of the buffer and no further (nil: all)
-- @return the number of bytes before it, or nil
function Buffer:search(wanted, limit)
  local keep = #wanted - 1
  if self.scan > self.last or limit and self.scanned >= limit then return nil end
  -- Mostly that is all. LuaJIT compiles no function with a loop that is over so soon, so the others are looked through apart.
  local found, is_over = search_chunk(self, wanted, keep, limit)
  if found or is_over or self.scan > self.last then return found end
  return search_rest(self, wanted, keep, limit)
end

--- After a search that saw everything and found nothing: how many of the last
-- bytes may be the beginning of what was searched for.
function Buffer:held(wanted)
  local carry = self.carry
  for count = math.min(#carry, #wanted - 1), 1, -1 do
    if sub(carry, -count) == sub(wanted, 1, count) then return count end
  end
  return 0
end

return buffer
