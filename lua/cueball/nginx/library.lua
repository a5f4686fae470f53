--- Client libraries written for cosockets, in nginx: they are simply required. host.library of docs/hosts.md.
local library = {}

--- Finds a library: resty.NAME, else nginx.NAME, as Debian has it.
-- @return the library, and the value that it has for nulls; or nil, what require said
function library.load(name)
  local messages = ""
  for _, prefix in ipairs { "resty.", "nginx." } do
    local ok, found = pcall(require, prefix .. name)
    if ok then return found, ngx.null end
    messages = messages .. "\n\t" .. found
  end
  return nil, messages
end

return library
