--- Members of the host that not every program needs: loaded when first asked for.
local LATER = {
  dns = function(host) return require("cueball.nginx.dns").new(host) end,
  shared = function() return require("cueball.nginx.server").shared end,
  worker = function() return require("cueball.nginx.server").worker end,
  http = function() return require("cueball.nginx.server").http end,
}

--- Has them found in this host.
local function later(host)
  return setmetatable(host, { __index = function(_, name)
    local load = LATER[name]
    if not load then return nil end
    host[name] = load(host)
    return host[name]
  end })
end

return later
