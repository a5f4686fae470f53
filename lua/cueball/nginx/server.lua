--- What the workers of one nginx know of each other and share, and the request that is being answered: host.workers and host.http.
local process = require "cueball.host.process"

local server = { http = {} }

-- What a process knows of itself and of others, and what nginx knows besides.
local workers = setmetatable({ is_shared = true }, { __index = process })
server.workers = workers

--- The lua_shared_dict of that name, with ngx_lua's methods.
-- @return it; or nil, message
function workers.dict(name)
  local dict = ngx.shared[name]
  if dict then return dict end
  return nil, ("there is no lua_shared_dict %q: put `lua_shared_dict %s 1m;` into the http block of nginx.conf"):format(name, name)
end

--- Opens that memory for something in which workers take part: cueball.nginx.workers.
function workers.open(...)
  return require("cueball.nginx.workers").open(...)
end

--- The process's id; no two workers that live have the same.
function workers.pid()
  return ngx.worker.pid()
end

--- The worker's number, from 0; after a reload old and new workers share them. nil in processes that are no workers.
function workers.number()
  return ngx.worker.id()
end

--- How many workers there are to be.
function workers.count()
  return ngx.worker.count and ngx.worker.count() or 1
end

--- Is this worker to end, since nginx stops or was reloaded?
function workers.is_exiting()
  return ngx.worker.exiting()
end

--- Seconds since 1970, the same clock for all.
function workers.time_s()
  return ngx.now()
end

local FAR_S = 86400

--- fn() is called when this worker begins to exit: what waits for a timer is told then, and later timers do not go off.
function workers.on_exit(fn)
  local function tell(premature)
    if premature then return fn() end
    ngx.timer.at(FAR_S, tell)
  end
  ngx.timer.at(FAR_S, tell)
end

--- A header of the request; nil: it has none.
function server.http.header(name)
  return ngx.var["http_" .. name:lower():gsub("-", "_")]
end

--- An argument of the request, "json" of ?format=json; nil: there is none.
function server.http.argument(name)
  return ngx.var["arg_" .. name]
end

--- Answers the request, in content_by_lua.
function server.http.answer(status, content_type, text)
  ngx.status = status
  ngx.header["Content-Type"] = content_type
  ngx.header["Content-Length"] = #text
  ngx.print(text)
end

local function nothing() end

--- The request as a whole. From now on its code runs to the end, also if the client leaves and lua_check_client_abort is on: else nginx
-- would end it in the middle, and what it began for others with it.
-- @return { method, target = as it stands in the request, headers = by name in small letters, minor = of the version of HTTP, has_body,
--   address = of who asks }
function server.http.request()
  ngx.on_abort(nothing) -- nil, message: nginx does not look whether clients leave, or somebody has said what is to be done then
  local headers = {}
  for name, value in pairs(ngx.req.get_headers(0, true)) do
    headers[name:lower()] = type(value) == "table" and table.concat(value, ", ") or value
  end
  return {
    method = ngx.req.get_method(), target = ngx.var.request_uri, headers = headers, minor = ngx.req.http_version() >= 1.1 and 1 or 0,
    has_body = headers["transfer-encoding"] ~= nil or tonumber(headers["content-length"] or 0) ~= 0, address = ngx.var.remote_addr,
  }
end

--- Begins the answer to the request; what is sent of it comes in pieces.
-- @param headers a list of { name, value }
-- @return function(piece) → whether the client is still there: to be called in the request's own code; it waits until the client has taken
--   most of what there was
function server.http.begin(status, headers)
  ngx.status = status
  for _, header in ipairs(headers) do ngx.header[header[1]] = header[2] end
  local is_over = false
  return function(piece)
    is_over = is_over or not ngx.print(piece)
    if not is_over then ngx.flush(true) end -- of HTTP/1.0 nginx keeps all until the end, for its length, and does not flush
    return not is_over
  end
end

--- Makes the connection of the request, in content_by_lua, one for another protocol: what comes next on it is the caller's. From now on the
-- request's code runs to the end, as with http.request: who reads from the socket hears that the client has left.
-- @param protocol its name, for the header Upgrade
-- @return a socket, and { address = of who connected }; or nil, message
function server.http.upgrade(protocol)
  local address = ngx.var.remote_addr
  ngx.on_abort(nothing)
  local stream, message = ngx.req.socket(true)
  if not stream then return nil, message end
  local sent
  sent, message = stream:send(("HTTP/1.1 101 Switching Protocols\r\nUpgrade: %s\r\nConnection: Upgrade\r\n\r\n"):format(protocol))
  if not sent then return nil, message end
  return stream, { address = address }
end

--- Calls fn(...) in a second light thread of the request, which may use its socket. The request is over when both have ended.
function server.http.beside(fn, ...)
  ngx.thread.spawn(fn, ...)
end

--- Ends the request, whatever its light threads wait for.
function server.http.cut()
  ngx.exit(ngx.ERROR)
end

return server
