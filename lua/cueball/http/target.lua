--- What a request asks for: "/plan?pool=db&remove=10.0.0.1%3A80" taken apart.
local target = {}

local ARGUMENTS_MAX = 100

-- A text without its percent-encoding; nil: the encoding is broken.
local function decode(given)
  local plain = given:gsub("%%%x%x", "")
  if plain:find("%", 1, true) then return nil end
  return (given:gsub("+", " "):gsub("%%(%x%x)", function(digits) return string.char(tonumber(digits, 16)) end))
end

local Arguments = {}
Arguments.__index = Arguments

--- The value of a name: the last one given; nil: there is none.
function Arguments:get(name)
  local values = self.values[name]
  return values and values[#values]
end

--- All values of a name, in order.
function Arguments:all(name)
  return self.values[name] or {}
end

--- The names that were given, in the order of their first value.
function Arguments:names()
  return self.order
end

-- @return the arguments; or nil, message
local function arguments_of(query)
  local self, count = setmetatable({ values = {}, order = {} }, Arguments), 0
  for part in query:gmatch "[^&]+" do
    local name, value = part:match "^([^=]*)=(.*)$"
    name, value = decode(name or part), decode(value or "")
    if not name or not value then return nil, "the query is not percent-encoded" end
    count = count + 1
    if count > ARGUMENTS_MAX then return nil, ("the query has more than %d arguments"):format(ARGUMENTS_MAX) end
    if not self.values[name] then
      self.values[name] = {}
      self.order[#self.order + 1] = name
    end
    table.insert(self.values[name], value)
  end
  return self
end

--- Takes a target apart.
-- @param given as it stands in the request: "/path?query", or "http://host/path?query" as proxies are sent
-- @return path (percent-encoding undone), arguments, the authority or nil; or nil, message
function target.parse(given)
  local authority
  if given:sub(1, 1) ~= "/" then
    local host, rest = given:match "^[hH][tT][tT][pP][sS]?://([^/?#]*)(.*)$"
    if not host then return nil, "the target is no path" end
    authority, given = host, rest:sub(1, 1) == "/" and rest or "/" .. rest
  end
  local path, query = given:match "^([^?#]*)%??([^#]*)"
  path = decode((path:gsub("+", "%%2B")))
  if not path or path:find "%z" then return nil, "the path is not percent-encoded" end
  local arguments, message = arguments_of(query)
  if not arguments then return nil, message end
  return path, arguments, authority
end

return target
