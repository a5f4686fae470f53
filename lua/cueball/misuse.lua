--- Mistakes of the program, told in words at the line that made them.
local misuse = {}

--- Raises an error: a method was called with a dot for the colon.
-- @param method "pool:claim"
-- @param level whom to blame, as error() counts: 2 is the caller of the caller of this
function misuse.colon(method, level)
  error(("%s: it must be called with a colon, on its object: %s(…), not %s(…)"):format(method, method, (method:gsub(":", "."))), level + 1)
end

--- Makes methods check what they are called on.  They take three arguments at most.
-- @param class the metatable of its objects
-- @param noun "pool"
-- @param names of the methods
function misuse.guard(class, noun, names)
  for _, name in ipairs(names) do
    local method, words = class[name], noun .. ":" .. name
    class[name] = function(self, a, b, c)
      if getmetatable(self) ~= class then misuse.colon(words, 2) end
      return method(self, a, b, c)   -- a tail call: whom an error blames stays the same
    end
  end
end

return misuse
