--- Finds the ready endpoints of a Kubernetes service, and follows them by a watch on its EndpointSlices. In a pod it needs no option
-- but the service's name; its service account has to be allowed to list and watch endpointslices.
--
--   resolver = kubernetes { service = "db", namespace = "shop", port_name = "postgres" }
local cueball = require "cueball"
local http = require "examples.discovery.http"

local ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount/"

local function read(path)
  local file, message = io.open(path)
  if not file then return nil, message end
  local text = file:read "*a"
  file:close()
  return text:match "%S+"
end

local function is_ready(endpoint)
  return not endpoint.conditions or endpoint.conditions.ready ~= false
end

-- The backends of all slices together.
local function backends_of(slices, port_name)
  local list, seen = {}, {}
  for _, slice in pairs(slices) do
    for _, port in ipairs(slice.ports or {}) do
      for _, endpoint in ipairs(not port_name and slice.endpoints or port.name == port_name and slice.endpoints or {}) do
        for _, address in ipairs(is_ready(endpoint) and endpoint.addresses or {}) do
          local key = address .. " " .. port.port -- an endpoint may be in two slices for a moment
          if not seen[key] then
            seen[key] = true
            list[#list + 1] = { address = address, port = port.port, name = endpoint.targetRef and endpoint.targetRef.name }
          end
        end
      end
    end
  end
  return list
end

return function(options)
  local path = ("/apis/discovery.k8s.io/v1/namespaces/%s/endpointslices?labelSelector=kubernetes.io%%2Fservice-name%%3D%s")
    :format(options.namespace or read(ACCOUNT .. "namespace") or "default", options.service)
  local at = {
    address = options.address or os.getenv "KUBERNETES_SERVICE_HOST", port = options.port or tonumber(os.getenv "KUBERNETES_SERVICE_PORT"),
    name = options.name or "kubernetes.default.svc", tls = options.tls, timeout_ms = 330000,
  }
  if options.tls == nil then at.tls = assert(require("cueball.tls").context { ca_file = ACCOUNT .. "ca.crt" }) end

  local function ask(host, more)
    local token = options.token or read(ACCOUNT .. "token") -- read each time: it is renewed every hour
    at.headers = token and { "Authorization: Bearer " .. token } or {}
    return http.ask(host, at, "GET", path .. more)
  end

  local function list(sink)
    local answer, message = ask(sink.host, "")
    if not answer then return nil, message end
    local found
    found, message = answer:rest()
    if not found then return nil, message end
    local slices = {}
    for _, slice in ipairs(found.items or {}) do slices[slice.metadata.name] = slice end
    return backends_of(slices, options.port_name), { version = found.metadata.resourceVersion, slices = slices }
  end

  local function follow(sink, position)
    local answer, message = ask(sink.host, "&watch=1&allowWatchBookmarks=true&timeoutSeconds=300&resourceVersion=" .. position.version)
    if not answer then return nil, message end
    while true do
      local event
      event, message = answer:line()
      if not event then break end
      if event.type == "ERROR" then return false end -- "410 Gone": that version is too old
      local slice = event.object
      position.version = slice.metadata.resourceVersion
      if event.type ~= "BOOKMARK" then
        position.slices[slice.metadata.name] = event.type ~= "DELETED" and slice or nil
        sink:set(backends_of(position.slices, options.port_name))
      end
    end
    answer:close()
    if message ~= "closed" then return nil, message end
    return sink:sleep(1000) and position -- the server ends a watch after timeoutSeconds: go on from here
  end

  return cueball.resolver.watch { name = options.service, list = list, follow = follow }
end
