--- A toy server for docs/tutorial.md: words under names, in lines. Whoever has not logged in may do nothing else.
--   examples/run examples/support/line_server.lua [PORT]       7000 by default
--
--   LOGIN ann sesame   OK, or DENIED          BEGIN, COMMIT    OK: what is set between them is seen by others after COMMIT
--   PING               PONG                   DRAIN, FILL      OK: from DRAIN to FILL it answers UNAVAILABLE, to whoever asks for words
--   GET color          VALUE blue, or NONE    SET color red    OK
--   VERSION            VERSION 3
local uv = require "luv"

local USER, PASSWORD = "ann", "sesame"

local words, is_drained = { color = "blue" }, false

local function answer_to(client, line)
  local verb, rest = line:match "^(%S+) ?(.*)$"
  if verb == "LOGIN" then
    client.is_known = rest == USER .. " " .. PASSWORD
    return client.is_known and "OK" or "DENIED"
  elseif not client.is_known then
    return "DENIED: log in first"
  elseif verb == "PING" then
    return "PONG"
  elseif verb == "VERSION" then
    return "VERSION 3"
  elseif verb == "DRAIN" or verb == "FILL" then
    is_drained = verb == "DRAIN"
    return "OK"
  elseif is_drained then
    return "UNAVAILABLE: closed for today"
  elseif verb == "BEGIN" then
    client.changes = {}
    return "OK"
  elseif verb == "COMMIT" then
    for name, value in pairs(client.changes or {}) do words[name] = value end
    client.changes = nil
    return "OK"
  elseif verb == "GET" then
    local value = client.changes and client.changes[rest] or words[rest]
    return value and "VALUE " .. value or "NONE"
  elseif verb == "SET" and rest:find "^%S+ ." then
    local name, value = rest:match "^(%S+) (.*)$"
    local where = client.changes or words
    where[name] = value
    return "OK"
  end
  return "WHAT: there are LOGIN, PING, VERSION, GET, SET, BEGIN, COMMIT, DRAIN and FILL"
end

local listener = uv.new_tcp()
assert(listener:bind("127.0.0.1", tonumber(arg and arg[1]) or 7000))
assert(listener:listen(128, function()
  local stream, client, text = uv.new_tcp(), {}, ""
  listener:accept(stream)
  stream:read_start(function(_, data)
    if not data then return stream:close() end
    text = (text .. data):gsub("([^\n]-)\r?\n", function(line)
      stream:write(answer_to(client, line) .. "\n")
      return ""
    end)
  end)
end))
print("listening on 127.0.0.1:" .. listener:getsockname().port)
io.stdout:flush()
uv.run()
