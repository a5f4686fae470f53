--- Finds the healthy instances of a service in Consul, and follows them by blocking queries.
--
--   resolver = consul { service = "web", address = "127.0.0.1", port = 8500, token = "…", tag = "v2" }
local cueball = require "cueball"
local http = require "examples.discovery.http"

-- A backend for each instance; its weight is what the service says.
local function backends_of(entries)
  local list = {}
  for _, entry in ipairs(entries) do
    local service = entry.Service
    list[#list + 1] = {
      address = service.Address ~= "" and service.Address or entry.Node.Address, port = service.Port,
      name = entry.Node.Node, weight = math.max(1, service.Weights and service.Weights.Passing or 1),
      provenance = ("Consul's %s on %s"):format(service.Service, entry.Node.Node),
    }
  end
  return list
end

return function(options)
  local at = { address = options.address or "127.0.0.1", port = options.port or 8500, timeout_ms = 70000, headers = {} }
  if options.token then at.headers[1] = "X-Consul-Token: " .. options.token end

  -- Asks; with an index, Consul waits until something is newer than that, for up to a minute.
  local function ask(host, index)
    local tag = options.tag and "&tag=" .. options.tag or ""
    local path = ("/v1/health/service/%s?passing=1&index=%d&wait=60s%s"):format(options.service, index, tag)
    local answer, message = http.ask(host, at, "GET", path)
    if not answer then return nil, message end
    local entries
    entries, message = answer:rest()
    if not entries then return nil, message end
    return backends_of(entries), tonumber(answer.headers["x-consul-index"]) or 0
  end

  return cueball.resolver.watch {
    name = options.service,
    list = function(sink) return ask(sink.host, 0) end,
    follow = function(sink, index)
      local list, next_index = ask(sink.host, index)
      if not list then return nil, next_index end
      if next_index < index then return false end -- Consul began to count anew
      if next_index > index then sink:set(list) end
      return math.max(1, next_index)
    end,
  }
end
