--- Functions of Lua that one call of which could take all memory, or minutes, made to refuse that: for consoles that must not hurt the
-- program they look at. A hook ends what Lua does without end; a function in C it cannot end.
--
-- A string that is made has 256 KiB at most. A pattern is refused where matching could take more than about 10 million steps: each "*", "+"
-- and "-" may try every rest of the text, each start anew; each "?" doubles that; and what stands between them may be compared each time.
local misuse = require "cueball.misuse"

local bounded = {}

local BYTES_MAX = 256 * 1024
local STEPS_MAX, BYTES_A_STEP = 1e7, 4
local PLAIN_MAX = 2e9 -- bytes compared
local RESULTS_MAX = 200
local SORTED_MAX = 1000 -- entries, in one go

local byte, concat, find, format, gmatch, gsub, match, rep, sub = string.byte, table.concat, string.find, string.format, string.gmatch,
  string.gsub, string.match, string.rep, string.sub

--- What a string may have.
bounded.BYTES_MAX = BYTES_MAX

--- Ends what was typed once its time is over: the hook that counts instructions does not see how long a function in C takes.
function bounded.look() end

local function looked(...)
  bounded.look()
  return ...
end

local function too_long(who)
  misuse.raise(("%s: a string may have %d bytes at most in this console"):format(who, BYTES_MAX))
end

-- What matching a pattern may cost: how often it may begin to try anew at each place, how often it may go two ways, and the longest piece
-- in between, in bytes, which may be compared each time.
local function costs_of(pattern)
  local repeats, choices, longest, from, at, is_set = 0, 0, 0, 1, 1, false
  local function ends_piece()
    longest, from = math.max(longest, at - from), at + 1
  end
  while at <= #pattern do
    local one = sub(pattern, at, at)
    if one == "%" then
      at = at + 1
      if find(pattern, "^[b%d]", at) then -- "%1" compares as much as was captured
        repeats = repeats + 1
        ends_piece()
      end
    elseif is_set then
      is_set = one ~= "]"
    elseif one == "[" then
      is_set = true
      if sub(pattern, at + 1, at + 1) == "^" then at = at + 1 end
      if sub(pattern, at + 1, at + 1) == "]" then at = at + 1 end
    elseif one == "*" or one == "+" or one == "-" then
      repeats = repeats + 1
      ends_piece()
    elseif one == "?" then
      choices = choices + 1
    end
    at = at + 1
  end
  ends_piece()
  return repeats, choices, longest
end

local function check_pattern(who, value, pattern)
  if type(pattern) == "number" then pattern = tostring(pattern) end
  if type(value) ~= "string" and type(value) ~= "number" or type(pattern) ~= "string" then return end -- Lua says what is wrong
  local size = #tostring(value) + 1
  local starts = sub(pattern, 1, 1) == "^" and 0 or 1
  local repeats, choices, longest = costs_of(pattern)
  local piece = math.max(1, math.min(longest, size) / BYTES_A_STEP)
  if size ^ (starts + repeats) * 2 ^ choices * piece <= STEPS_MAX then return end
  misuse.raise(("%s: this pattern may take too long on a text of %d bytes; use a shorter text, or a shorter pattern with fewer of * + - ?")
    :format(who, size - 1))
end

-- Without a pattern it is the machine's own search.
local function check_plain(value, wanted)
  if type(value) ~= "string" or type(wanted) ~= "string" or #value * #wanted <= PLAIN_MAX then return end
  misuse.raise(("string.find: looking for %d bytes may take too long in a text of %d bytes"):format(#wanted, #value))
end

local String = {}
for name, fn in pairs(string) do
  if name ~= "dump" then String[name] = fn end
end
bounded.string = String

function String.find(value, pattern, from, is_plain)
  if is_plain then check_plain(value, pattern) else check_pattern("string.find", value, pattern) end
  return looked(find(value, pattern, from, is_plain))
end

function String.match(value, pattern, from)
  check_pattern("string.match", value, pattern)
  return looked(match(value, pattern, from))
end

function String.gmatch(value, pattern)
  check_pattern("string.gmatch", value, pattern)
  local following = gmatch(value, pattern)
  return function() return looked(following()) end
end
String.gfind = nil

-- Counts what is put in the place of matches.
local function counted(replacement)
  local total = 0
  return function(...)
    local made
    if type(replacement) == "table" then made = rawget(replacement, (...)) else made = replacement(...) end
    if type(made) == "string" then total = total + #made end
    if total > BYTES_MAX then too_long "string.gsub" end
    return made
  end
end

function String.gsub(value, pattern, replacement, count)
  check_pattern("string.gsub", value, pattern)
  if type(replacement) == "table" or type(replacement) == "function" then
    replacement = counted(replacement)
  elseif type(value) == "string" and (#value + 1) * #tostring(replacement) > 4 * BYTES_MAX then
    too_long "string.gsub"
  end
  return looked(gsub(value, pattern, replacement, count))
end

function String.rep(value, count, separator)
  local size = (type(value) == "string" or type(value) == "number") and #tostring(value) or 0
  size = size + (type(separator) == "string" and #separator or 0)
  local number = tonumber(count)
  if number and size * number > BYTES_MAX then too_long "string.rep" end
  if number and number > BYTES_MAX then return "" end -- nothing, so often: Lua would count
  return looked(rep(value, count, separator))
end

function String.format(pattern, ...)
  local size = type(pattern) == "string" and #pattern or 0
  for index = 1, select("#", ...) do
    local one = select(index, ...)
    size = size + (type(one) == "string" and 4 * #one or 110) -- %q makes four bytes of one
  end
  if size > 4 * BYTES_MAX then too_long "string.format" end
  local values = { n = select("#", ...), ... }
  for index = 1, values.n do
    local kind = type(values[index])
    if kind == "table" or kind == "function" or kind == "userdata" or kind == "cdata" then values[index] = kind end
  end
  return looked(format(pattern, unpack(values, 1, values.n)))
end

function String.byte(value, from, to)
  local size = type(value) == "string" and #value or 0
  local first, last = from or 1, to or from or 1
  if type(first) == "number" and type(last) == "number" then
    if first < 0 then first = size + first + 1 end
    if last < 0 then last = size + last + 1 end
    if math.min(last, size) - first >= RESULTS_MAX then misuse.raise("string.byte: at most " .. RESULTS_MAX .. " bytes at a time") end
  end
  return byte(value, from, to)
end

local Table = {}
bounded.table = Table

Table.maxn = table.maxn

-- A long list, in the order that is worst for it, would take minutes in C.
function Table.sort(list, precedes)
  if precedes ~= nil or type(list) ~= "table" or #list <= SORTED_MAX then return table.sort(list, precedes) end
  table.sort(list, function(a, b)
    bounded.look()
    return a < b
  end)
end

-- From a place far below 1 Lua would move a billion values that are not there.
local function check_place(who, list, place)
  if type(list) ~= "table" or place == nil then return end
  local number = tonumber(place)
  if number and (number < 1 or number > #list + 1) then misuse.raise(who .. ": this place is outside of the list") end
end

function Table.insert(list, ...)
  if type(list) == "table" and debug.getmetatable(list) ~= nil then misuse.raise "table.insert: this table cannot be changed" end
  if select("#", ...) > 1 then check_place("table.insert", list, (...)) end
  return table.insert(list, ...)
end

function Table.remove(list, place)
  check_place("table.remove", list, place)
  return table.remove(list, place)
end

function Table.concat(list, separator, from, to)
  if type(list) ~= "table" then return concat(list, separator, from, to) end
  local size, gap = 0, type(separator) == "string" and #separator or 0
  for index = from or 1, to or #list do
    local one = rawget(list, index)
    if type(one) ~= "string" and type(one) ~= "number" then break end -- Lua says what is wrong
    size = size + #tostring(one) + gap
    if size > BYTES_MAX then too_long "table.concat" end
  end
  return looked(concat(list, separator, from, to))
end

function bounded.unpack(list, from, to)
  local first = from or 1
  local last = to or type(list) == "table" and #list or 0
  if type(first) == "number" and type(last) == "number" and last - first >= RESULTS_MAX then
    misuse.raise("unpack: at most " .. RESULTS_MAX .. " values at a time")
  end
  return unpack(list, from, to)
end

--- tostring that tells no addresses of the process.
function bounded.tostring(value)
  local kind = type(value)
  if kind == "string" or kind == "number" or kind == "boolean" or kind == "nil" then return tostring(value) end
  return kind
end

-- ------------------------------------------------------------------- concatenation --

-- `a .. b` is an instruction and no function, so a text that is typed has `a ..JOINT.. b` in its place. It goes from the right: JOINT .. b
-- makes a half, and a .. half joins the two, with a look at how long they are.
local Half = {}
local joint = setmetatable({}, Half)
Half.__metatable = "joint"

function Half.__newindex() misuse.raise "this table cannot be changed" end

local function is_text(value)
  return type(value) == "string" or type(value) == "number"
end

function Half.__concat(left, right)
  if left == joint then return setmetatable({ right }, Half) end
  local value = type(right) == "table" and rawget(right, 1)
  if not is_text(left) then misuse.raise(("attempt to concatenate a %s value"):format(type(left))) end
  if not is_text(value) then misuse.raise(("attempt to concatenate a %s value"):format(type(value))) end
  left, value = tostring(left), tostring(value)
  if #left + #value > BYTES_MAX then too_long ".." end
  return looked(left .. value)
end

--- The name that it has in a text; nobody types it.
bounded.JOINT = "_ENV_joint"
bounded.joint = joint

-- The place behind a string, a comment or a long bracket that begins at `at`; nil: none does.
local function behind(text, at)
  local equals = match(text, "^%-%-%[(=*)%[", at) or match(text, "^%[(=*)%[", at)
  if equals then
    local _, stop = find(text, "]" .. equals .. "]", at, true)
    return stop and stop + 1 or #text + 1
  end
  if sub(text, at, at + 1) == "--" then return find(text, "[\r\n]", at) or #text + 1 end
  local quote = match(text, "^[\"']", at)
  if not quote then return nil end
  at = at + 1
  while at <= #text do
    local one = sub(text, at, at)
    if one == quote then return at + 1 end -- where a line ends in it unescaped, Lua says so
    at = at + (one == "\\" and 2 or 1)
  end
  return #text + 1
end

--- The text of a program, with its concatenations bounded. Lines stay where they are.
function bounded.rewritten(text)
  local parts, from, at = {}, 1, 1
  while true do
    at = find(text, "[%-%[\"'.]", at)
    if not at then break end
    local dots = match(text, "^%.+", at)
    if dots and #dots == 2 then
      parts[#parts + 1] = sub(text, from, at - 1) .. ".." .. bounded.JOINT .. ".."
      from, at = at + 2, at + 2
    elseif dots then
      at = at + #dots
    else
      at = behind(text, at) or at + 1
    end
  end
  return concat(parts) .. sub(text, from)
end

return bounded
