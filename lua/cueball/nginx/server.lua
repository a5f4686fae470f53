--- What the workers of one nginx share, and the request that is being answered: host.shared, host.worker and host.http.
local server = { worker = {}, http = {} }

--- The lua_shared_dict of that name, with ngx_lua's methods.
-- @return it; or nil, message
function server.shared(name)
  local dict = ngx.shared[name]
  if dict then return dict end
  return nil, ("there is no lua_shared_dict %q: put `lua_shared_dict %s 1m;` into the http block of nginx.conf"):format(name, name)
end

--- The process's id; no two workers that live have the same.
function server.worker.pid()
  return ngx.worker.pid()
end

--- Its number, from 0; after a reload old and new workers share them. nil in processes that are no workers.
function server.worker.id()
  return ngx.worker.id()
end

--- Is it to end, since nginx stops or was reloaded?
function server.worker.is_exiting()
  return ngx.worker.exiting()
end

--- Seconds since 1970, the same clock for all.
function server.worker.time_s()
  return ngx.now()
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

return server
