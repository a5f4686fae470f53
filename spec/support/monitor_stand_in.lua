--- A program whose monitor answers what a file says: for `cueball top`, which wants hostile names, and events when a spec likes.
--
--   luajit spec/support/monitor_stand_in.lua PORT FOLDER
--
-- It says "ready" when it listens.
-- FOLDER/snapshot is the answer to /snapshot as JSON, or "401" and the like; FOLDER/events the stream of /events, from its beginning on.
local uv = require "luv"

local port, folder = tonumber(arg[1]), arg[2]

local function content(name)
  local file = io.open(folder .. "/" .. name, "rb")
  local text = file and file:read "*a"
  if file then file:close() end
  return text
end

local function answer(client, code, body)
  client:write(("HTTP/1.1 %s X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"):format(code, #body, body),
    function() if not client:is_closing() then client:close() end end)
end

-- What is added to the file goes to the client, in pieces as HTTP has them.
local function stream(client)
  local sent, timer = 0, uv.new_timer()
  client:write "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
  timer:start(0, 50, function()
    local text = content "events" or ""
    if client:is_closing() then return timer:close() end
    if #text == sent then return end
    local piece = text:sub(sent + 1)
    sent = #text
    client:write(("%x\r\n%s\r\n"):format(#piece, piece))
  end)
  client:read_stop()
  client:read_start(function(_, data) if not data and not client:is_closing() then client:close() end end)
end

local server = uv.new_tcp()
assert(server:bind("127.0.0.1", port))
assert(server:listen(64, function()
  local client, head = uv.new_tcp(), ""
  server:accept(client)
  client:read_start(function(_, data)
    if not data then if not client:is_closing() then client:close() end return end
    head = head .. data
    if not head:find("\r\n\r\n", 1, true) then return end
    local path = head:match "^GET (%S+)"
    local wants = content "token"
    if wants and not head:find("\r\nAuthorization: Bearer " .. wants .. "\r\n", 1, true) then return answer(client, 401, "{}") end
    local snapshot = content "snapshot" or "404"
    if path == "/events" and content "events" then return stream(client) end
    if path == "/events" then return answer(client, 503, "{}") end
    if path ~= "/snapshot" then return answer(client, 404, "{}") end
    if snapshot:find "^%d%d%d$" then return answer(client, snapshot, '{"error":"no"}') end
    answer(client, 200, snapshot)
  end)
end))
print "ready"
io.stdout:flush()
uv.run()
