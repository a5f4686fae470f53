--- Bytes of a terminal, as keys.
--
--   local decoder = require("cueball.console.editor.keys").new()
--   decoder:feed "a\27[A"     → { { name = "text", text = "a" }, { name = "up" } }
--
-- What was pasted is one key: { name = "paste", text = … }, where the terminal marks pastes ("\27[?2004h" asks it to). A character or a
-- sequence of which not all bytes have come waits for the others.
local characters = require "cueball.console.editor.characters"

local keys = {}

local PASTE_BEGINS, PASTE_ENDS = "\27[200~", "\27[201~"
local PASTE_MAX = 4 * 1024 * 1024
local SEQUENCE_MAX = 32

local CONTROLS = {
  [1] = "home", [2] = "left", [3] = "interrupt", [4] = "end_of_input", [5] = "end", [6] = "right", [7] = "cancel", [8] = "erase",
  [9] = "tab", [10] = "enter", [11] = "cut_end", [12] = "clear", [13] = "enter", [14] = "down", [16] = "up", [18] = "search",
  [20] = "swap", [21] = "cut_begin", [23] = "cut_word", [25] = "insert_cut", [127] = "erase",
}

--- The names of sequences, by what stands behind "\27[" or "\27O".
keys.SEQUENCES = {
  A = "up", B = "down", C = "right", D = "left", H = "home", F = "end", Z = "tab_back",
  ["1~"] = "home", ["7~"] = "home", ["4~"] = "end", ["8~"] = "end", ["3~"] = "delete", ["5~"] = "page_up", ["6~"] = "page_down",
  ["1;5C"] = "word_right", ["1;5D"] = "word_left", ["1;3C"] = "word_right", ["1;3D"] = "word_left", ["3;5~"] = "delete_word",
  ["5C"] = "word_right", ["5D"] = "word_left",
}

-- Behind "\27", which is also the Alt key.
local ALTS = { b = "word_left", f = "word_right", d = "delete_word", ["\127"] = "cut_word", ["\r"] = "line", ["\n"] = "line",
  ["<"] = "first", [">"] = "last" }

local Decoder = {}
Decoder.__index = Decoder

--- @param given nil; or { has_bytes = true }: somebody else makes keys of what was not pasted: { name = "bytes", text = … }
function keys.new(given)
  return setmetatable({ rest = "", pasting = nil, has_bytes = given and given.has_bytes or false }, Decoder)
end

-- What stands between the marks of a paste.
local function read_paste(self, list)
  local stop, behind = self.rest:find(PASTE_ENDS, 1, true)
  if stop then
    list[#list + 1] = { name = "paste", text = self.pasting .. self.rest:sub(1, stop - 1) }
    self.rest, self.pasting = self.rest:sub(behind + 1), nil
    return true
  end
  local kept = math.max(0, #self.rest - #PASTE_ENDS + 1) -- the end of it may be half of the mark
  if #self.pasting < PASTE_MAX then self.pasting = self.pasting .. self.rest:sub(1, kept) end
  self.rest = self.rest:sub(kept + 1)
  return false
end

-- Everything up to a paste, as it is.
-- @return whether there is one
local function read_bytes(self, list)
  local rest = self.rest
  local start, stop = rest:find(PASTE_BEGINS, 1, true)
  local kept = start or rest:match "()\27%[2?0?0?$" or #rest + 1 -- the end of it may be half of the mark
  if kept > 1 then list[#list + 1] = { name = "bytes", text = rest:sub(1, kept - 1) } end
  self.rest = rest:sub(start and stop + 1 or kept)
  if start then self.pasting = "" end
  return start ~= nil
end

-- An escape sequence at the beginning of the rest.
-- @return its key or false, and its length; nil: not all of it has come
local function sequence(rest)
  if rest:sub(1, #PASTE_BEGINS) == PASTE_BEGINS then return "paste_begins", #PASTE_BEGINS end
  local introducer = rest:sub(2, 2)
  if introducer == "" then return nil end
  if introducer == "[" or introducer == "O" then
    local parameters, final = rest:match("^([%d;<=>?]*)(.?)", 3)
    local length = 2 + #parameters
    if final == "" and length <= SEQUENCE_MAX then return nil end
    if not final:find "^[@-~]$" then return false, length end -- it is none
    return keys.SEQUENCES[parameters .. final] or false, length + 1
  end
  return ALTS[introducer] or false, 2
end

-- One key off the rest.
-- @return whether there was one
local function read_key(self, list)
  local rest = self.rest
  if rest == "" then return false end
  local first = rest:byte()
  if first == 27 then
    local name, length = sequence(rest)
    if name == nil then return false end
    self.rest = rest:sub(length + 1)
    if name == "paste_begins" then
      self.pasting = ""
    elseif name then
      list[#list + 1] = { name = name }
    end
    return true
  end
  if first < 32 or first == 127 then
    self.rest = rest:sub(2)
    if CONTROLS[first] then list[#list + 1] = { name = CONTROLS[first] } end
    return true
  end
  if first >= 0xc2 and first < 0xf5 and characters.length(rest, 1) == 1 then
    local wanted = first < 0xe0 and 2 or first < 0xf0 and 3 or 4
    if #rest < wanted and not rest:find("[%z\1-\127\192-\255]", 2) then return false end
  end
  local length = characters.length(rest, 1)
  -- Plain characters one behind the other are one key: a paste where the terminal does not mark it.
  local stop = rest:find("[%z\1-\31\127-\255]", length + 1)
  if first < 128 then length = (stop or #rest + 1) - 1 end
  list[#list + 1] = { name = "text", text = rest:sub(1, length) }
  self.rest = rest:sub(length + 1)
  return true
end

--- @param bytes that came
-- @return a list of keys, each { name =, text = of "text" and "paste" }
function Decoder:feed(bytes)
  local list, goes_on, read = {}, true, self.has_bytes and read_bytes or read_key
  self.rest = self.rest .. bytes
  while goes_on do
    if self.pasting then goes_on = read_paste(self, list) else goes_on = read(self, list) end
  end
  return list
end

--- What came of a key, or of a paste, whose end will not come: Ctrl-C has the terminal throw away what was not read yet, that end too.
function Decoder:forget()
  self.rest, self.pasting = "", nil
end

return keys
