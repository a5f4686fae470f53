--- Client libraries written for cosockets, in nginx: they are simply required. host.library of docs/hosts.md.
local library = {}

-- The names under which a library may be: Debian's packages have their own.
local function names_of(name)
  if not name:find(".", 1, true) then return { "resty." .. name, "nginx." .. name, name } end
  local rest = name:match "^resty%.(.+)$"
  if rest then return { name, "nginx." .. rest } end
  rest = name:match "^nginx%.(.+)$"
  return rest and { name, "resty." .. rest } or { name }
end

--- Finds a library.
-- @param name "resty.http", or "redis" for resty.redis
-- @return the library, what it has for nulls, and the API that it stands on; or nil, what require said
function library.load(name)
  local messages = ""
  for _, one in ipairs(names_of(name)) do
    local ok, found = pcall(require, one)
    if ok then return found, ngx.null, ngx end
    if not tostring(found):find(("module '%s' not found"):format(one), 1, true) then return nil, tostring(found) end
    messages = messages .. "\n\t" .. found
  end
  return nil, messages
end

return library
