--- Mistakes of the program, told in words at the line that made them.
--
-- Whoever finds a mistake raises it with misuse.raise, however deep within cueball: the line is that of whoever called cueball. So no
-- function has to be told how far away its caller's caller is.
local misuse = {}

-- What the names of cueball's own files begin with; nil where they have none (a program with its modules compiled in): no line is told.
local OWN_FILES = debug.getinfo(1, "S").source:match "^(.*)misuse%.lua$"

local function is_own(info)
  return info.source:sub(1, #OWN_FILES) == OWN_FILES
end

--- Whether a function is cueball's own.
-- @param info of debug.getinfo(…, "S")
function misuse.is_own(info)
  return OWN_FILES ~= nil and is_own(info)
end

-- Where cueball was called: "file:line: "; "" if that is not known, as with error(): a function in C called it (pcall, say), or nobody.
local function place_of_call()
  local level = 3 -- who called misuse.raise
  while OWN_FILES do
    local info = debug.getinfo(level, "Sl")
    if not info then return "" end
    local calls_own = info.what == "C" and debug.getinfo(level + 1, "S") or info -- a C function that a file of cueball's own called
    if not calls_own or not is_own(calls_own) then
      return info.currentline > 0 and ("%s:%d: "):format(info.short_src, info.currentline) or ""
    end
    level = level + 1
  end
  return ""
end

--- Raises an error at the line that called cueball.
-- @param message what the program did wrong
function misuse.raise(message)
  error(place_of_call() .. message, 0)
end

--- Where cueball was called: "file:line", or "?" if that is not known.
function misuse.site()
  local place = place_of_call()
  return place ~= "" and place:sub(1, -3) or "?"
end

--- Raises an error: a method was called with a dot for the colon.
-- @param method "pool:claim"
function misuse.colon(method)
  misuse.raise(("%s: it must be called with a colon, on its object: %s(…), not %s(…)"):format(method, method, (method:gsub(":", "."))))
end

--- Makes methods check what they are called on.  They take three arguments at most.
-- @param class the metatable of its objects
-- @param noun "pool"
-- @param names of the methods
function misuse.guard(class, noun, names)
  for _, name in ipairs(names) do
    local method, words = class[name], noun .. ":" .. name
    class[name] = function(self, a, b, c)
      if getmetatable(self) ~= class then misuse.colon(words) end
      return method(self, a, b, c)
    end
  end
end

return misuse
