--- The monitor within a server of somebody else's: a location of nginx that has the dashboard, and what its page asks for.
--
-- The happy path: a request is made what cueball.http.server would have made of it, and answered as one of the monitor's own server is
-- (cueball.monitor.server). A reader of events has its request for as long as it stays, and a worker that is to exit sends it away.
-- What can go wrong: the next request may come to another worker. /metrics is of all workers; the rest is of the one that answers, which
-- says which one it is.
local json = require "cueball.monitor.json"
local monitor_server = require "cueball.monitor.server"
local target = require "cueball.http.target"

local location = {}

-- An answer, as cueball.http.response has it.
local Response = {}
Response.__index = Response

function Response:answer(status, headers, body)
  local pieces, size = type(body) == "table" and body or { body }, 0
  for _, piece in ipairs(pieces) do size = size + #piece end
  local all = { unpack(headers) }
  if status ~= 304 then all[#all + 1] = { "Content-Length", size } end
  local send = self.http.begin(status, all)
  if self.is_head then return true end
  for _, piece in ipairs(pieces) do
    if not send(piece) then return nil, "closed" end
  end
  return true
end

function Response:stream(status, headers)
  self.send = self.http.begin(status, { { "X-Accel-Buffering", "no" }, unpack(headers) }) -- a proxy before this one keeps nothing back
  return true
end

function Response:write(piece)
  if piece == "" or self.is_head then return true end
  return self.send(piece) or nil
end

-- One for each set of options: locations of the same path, in two servers of one nginx, may differ in what they show, and to whom.
local servers = {}

local function key_of(given)
  local parts = { given.at, given.token or "", given.streams_max or "" }
  for _, list in ipairs { given.hosts or false, given.pools or false } do
    parts[#parts + 1] = list and #list or "all"
    for _, name in ipairs(list or {}) do parts[#parts + 1] = name end
  end
  return table.concat(parts, "\0")
end

local function server_of(host, given, view)
  local key = key_of(given)
  local made = servers[key]
  if not made then
    made = monitor_server.new(host, "", given, view)
    servers[key] = made
    host.workers.on_exit(function() made:close() end)
  end
  return made
end

--- Answers the request that is being served.
-- @param given { at = the path of the location; token, hosts, pools, streams_max }
-- @param view  function(pause) → all workers; nil: they do not know each other
function location.answer(host, http, given, view)
  local request = http.request()
  local response = setmetatable({ http = http, is_head = request.method == "HEAD", keeps_alive = true, send = nil }, Response)
  local path, arguments = target.parse(request.target)
  local is_here = path and path:sub(1, #given.at) == given.at
  if not is_here then
    return response:answer(path and 404 or 400, { { "Content-Type", "application/json" } },
      json.encode { error = path and "there is nothing at this path" or arguments, name = path and "not_found" or "bad_request" } .. "\n")
  end
  request.path, request.arguments, request.counts = path:sub(#given.at), arguments, { host = 1 }
  local connection = { peer = { address = request.address }, socket = { abort = function() end } }
  monitor_server.handle(server_of(host, given, view), request, response, connection)
end

return location
