--- Texts that come from outside (a server's error, what a script throws, a name), made fit to be shown to people: in a log, on
-- a terminal, in JSON and in metrics.  They are escaped once, where they enter.
local byte, find, format, gsub, sub = string.byte, string.find, string.format, string.gsub, string.sub

local text = {}

local LENGTH_MAX = 1000   -- of a message, in bytes

local NAMED = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function escape(character)
  return NAMED[character] or format("\\x%02x", byte(character))
end

-- How many bytes the UTF-8 character at this place has; nil: none begins there, or one that acts on a terminal: C1 controls
-- and the two line ends of Unicode.
local function length_at(value, at)
  local first = byte(value, at)
  local length = first >= 0xc2 and (first < 0xe0 and 2 or first < 0xf0 and 3 or first < 0xf5 and 4) or nil
  if not length then return nil end
  for index = at + 1, at + length - 1 do
    local following = byte(value, index)
    if not following or following < 0x80 or following > 0xbf then return nil end
  end
  local second = byte(value, at + 1)
  local is_overlong = first == 0xe0 and second < 0xa0 or first == 0xf0 and second < 0x90
  local is_no_character = first == 0xed and second > 0x9f or first == 0xf4 and second > 0x8f
  local is_control = first == 0xc2 and second < 0xa0 or find(value, "^\226\128[\168\169]", at) ~= nil
  return not (is_overlong or is_no_character or is_control) and length or nil
end

-- What is no good in UTF-8, byte by byte.
local function escape_high(value)
  local parts, at, from = {}, 1, 1
  while at <= #value do
    local length = byte(value, at) < 0x80 and 1 or length_at(value, at)
    if not length then
      parts[#parts + 1] = sub(value, from, at - 1)
      parts[#parts + 1] = escape(sub(value, at, at))
      from = at + 1
    end
    at = at + (length or 1)
  end
  parts[#parts + 1] = sub(value, from)
  return table.concat(parts)
end

local function clean(value, controls)
  if find(value, controls) then value = gsub(value, controls, escape) end
  if find(value, "[\128-\255]") then value = escape_high(value) end
  return value
end

--- A string without control characters (C0, C1, line ends) and broken UTF-8: each such byte is escaped, "\x1b".
function text.clean(value)
  return clean(value, "[%z\1-\31\127]")
end

--- The same, for what has several lines of ours (a traceback): line ends and tabs stay.
function text.clean_lines(value)
  return clean(value, "[%z\1-\8\11-\31\127]")
end

--- Is it a string that may be shown as it is?
function text.is_clean(value)
  return type(value) == "string" and text.clean(value) == value
end

--- tostring(value) that does not throw, whatever the value's __tostring does.
function text.of(value)
  if type(value) == "string" then return value end
  local ok, made = pcall(tostring, value)
  return ok and type(made) == "string" and made or format("a %s without a text", type(value))
end

--- What went wrong, for people: clean, and bounded in length.
function text.message(value)
  local made = text.of(value)
  if #made > LENGTH_MAX then
    local last = LENGTH_MAX
    while last > LENGTH_MAX - 4 and byte(made, last + 1) >= 0x80 and byte(made, last + 1) < 0xc0 do last = last - 1 end
    made = sub(made, 1, last) .. " …"
  end
  return text.clean(made)
end

--- The same of its first line.
function text.first_line(value)
  return text.message((text.of(value):match "^[^\r\n]*"))
end

--- Without the blanks behind it. A pattern that ends with %s+$ would look at a long run of blanks once for each of them, which takes
-- minutes for what a peer may send: spec/tidy_spec.lua refuses such patterns.
function text.trimmed_end(value)
  local to = #value
  while to > 0 and find(value, "^%s", to) do to = to - 1 end
  return sub(value, 1, to)
end

--- Without the blanks before and behind it.
function text.trimmed(value)
  local from = find(value, "%S")
  return from and text.trimmed_end(sub(value, from)) or ""
end

--- Its parts between separators, without blanks around them: "a, b" → { "a", "b" }
-- @param separator a string, no pattern
function text.parts(value, separator)
  local parts, from = {}, 1
  repeat
    local at, last = find(value, separator, from, true)
    parts[#parts + 1] = text.trimmed(sub(value, from, (at or #value + 1) - 1))
    from = (last or 0) + 1
  until not at
  return parts
end

--- For xpcall, where an error goes on: a string gets a traceback. An error that is no string (busted's are tables) stays what it is.
function text.traced(thrown)
  return type(thrown) == "string" and debug.traceback(thrown, 2) or thrown
end

--- For xpcall: the message and the traceback.
function text.traceback(thrown)
  return debug.traceback(text.message(thrown), 2)
end

--- string.format for messages: what %q quotes is on one line and clean.
function text.format(pattern, ...)
  return text.clean((gsub(format(pattern, ...), "\\\n", "\\n")))
end

--- A value as a message about an option shows it: strings in quotes.
function text.show(value)
  if type(value) ~= "string" then return text.message(value) end
  return text.message((gsub(format("%q", value), "\\\n", "\\n")))
end

return text
