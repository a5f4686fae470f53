--- What balancer_by_lua knows of the request it proxies. A host may bring its own, as `host.proxy`.
local nginx = rawget(_G, "ngx")

local proxy = {}

local function ngx_balancer()
  return require "ngx.balancer"
end

--- A table of this request, from phase to phase. An internal redirect empties it.
function proxy.context()
  local context = nginx.ctx
  local all = context.cueball
  if not all then
    all = {}
    context.cueball = all
  end
  return all
end

--- The request goes there.
-- @return true; or nil, message
function proxy.go_to(address, port)
  if address:find(":", 1, true) and address:sub(1, 5) ~= "unix:" then address = "[" .. address .. "]" end
  return ngx_balancer().set_current_peer(address, port)
end

--- So many more tries may follow. proxy_next_upstream_tries may allow fewer.
function proxy.more_tries(count)
  return ngx_balancer().set_more_tries(count)
end

--- What became of the try before: nil: this is the first; true: it answered, if not as wished; false: it failed.
function proxy.last_try()
  local state = ngx_balancer().get_last_failure()
  if state == nil then return nil end
  return state == "next"
end

-- nginx lists one value for each try: "0.010, 0.002 : 0.001".
local function last_of(value)
  return value and value:match "([^,: ]+)%s*$" or nil
end

--- What became of the last try, in log_by_lua.
-- @return true: it answered; false: it failed; nil: that cannot be told (the client left); how long it took, in milliseconds, or nil;
--   the status, a number, or nil
function proxy.outcome()
  local var = nginx.var
  local status, header, took = last_of(var.upstream_status), last_of(var.upstream_header_time), last_of(var.upstream_response_time)
  local took_ms = tonumber(took) and tonumber(took) * 1000 or nil
  if tonumber(header) then return true, took_ms, tonumber(status) end
  if status == "502" or status == "504" then return false, took_ms, tonumber(status) end
  return nil, took_ms
end

local NGX_BUSY = -3

--- There is nobody to go to: the request ends with 502, as it does where nginx finds none itself. (Any status would become 500 here.)
function proxy.refuse()
  return nginx.exit(NGX_BUSY)
end

return proxy
