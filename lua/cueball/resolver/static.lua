--- A fixed list of backends.
--
--   resolver.static { "10.0.0.1:5432", "[fe80::1]:5432", "unix:/run/db.sock" }
--   resolver.static { { address = "10.0.0.1", port = 5432, weight = 2 }, "10.0.0.2", default_port = 5432 }
local made_of = require "cueball.made_of"
local misuse = require "cueball.misuse"
local address = require "cueball.address"
local options = require "cueball.options"

local function read_one(given, default_port)
  if type(given) == "string" then
    local host, port = address.split(given)
    if not host then return nil, port end
    given = { address = host, port = port }
  end
  if type(given) == "table" and given.port == nil then
    local copy = {}
    for name, value in pairs(given) do copy[name] = value end
    copy.port = default_port
    given = copy
  end
  local backend, message = address.backend(given)
  if backend and not backend.provenance then backend.provenance = "static list" end
  return backend, message
end

--- Makes a resolver.
-- @param list backends in its array part, each "IP:PORT", "IP" (with default_port), "unix:/PATH" or
--   { address=, port=, name=, key=, weight=, priority= }; and
--     default_port  for those that name none, 0 to 65535
--     name          of the service, and so of the pool, by default
-- @return a resolver; mistakes in the list raise an error at the caller's line
local function static(list)
  if type(list) ~= "table" then misuse.raise("cueball.resolver.static: expected a list of backends, got " .. type(list)) end
  for name in pairs(list) do
    local is_number = type(name) == "number"
    if is_number and (name % 1 ~= 0 or name < 1 or name > #list) then
      misuse.raise(("cueball.resolver.static: expected a list without gaps, got one of %d with a number %s"):format(#list, name))
    elseif not is_number and name ~= "default_port" and name ~= "name" then
      misuse.raise(("cueball.resolver.static: unknown option '%s'; there are default_port, name"):format(tostring(name)))
    end
  end
  if list.name ~= nil and type(list.name) ~= "string" then
    misuse.raise(("cueball.resolver.static: option 'name' must be a string, not %s"):format(options.show(list.name)))
  end
  local port = list.default_port
  if port ~= nil and (type(port) ~= "number" or port % 1 ~= 0 or port < 0 or port > 65535) then
    misuse.raise(("cueball.resolver.static: option 'default_port' must be a whole number from 0 to 65535, not %s")
      :format(options.show(port)))
  end
  local backends, seen = {}, {}
  for index = 1, #list do
    local backend, message = read_one(list[index], port)
    if not backend then misuse.raise(("cueball.resolver.static: number %d: %s"):format(index, message)) end
    if seen[backend.key] then misuse.raise(("cueball.resolver.static: number %d: the key %q is given twice"):format(index, backend.key)) end
    seen[backend.key] = true
    backends[index] = backend
  end
  local resolver = { name = list.name }
  function resolver.run(_, sink)
    sink:set(backends)
  end
  return made_of.note(resolver, "cueball.resolver.static", list)
end

return static
