--- The HTTP that stands before a console's lines, so that the same client talks to a location of nginx and to a socket. Both sides of it.
--
-- libcueball_http reads it, and is loaded when HTTP is first spoken. Where a build has none, consoles on sockets do without: their lines
-- need no HTTP.
local protocol = require "cueball.console.protocol"

local upgrade = {}

local HEAD_MAX, HEADERS_MAX = 8192, 50

--- Whether this line is the first of an HTTP request. It is no Lua.
function upgrade.is_http(line)
  return line:find "^%u+ %S+ HTTP/" ~= nil
end

--- Reads the rest of a request, whose first line was read.
-- @param left_ms function() → how long that may take
-- @return the request, as of cueball.http.reader; nil: the peer is gone, or too slow; nil, message, the status to answer
function upgrade.read(lines, first, left_ms)
  local is_loaded, reader = pcall(require, "cueball.http.reader")
  if not is_loaded then return nil, "This program has no libcueball_http: begin with a hello.", 501 end
  local one = reader.new(HEAD_MAX, HEADERS_MAX)
  local request, message, status = one:feed(first .. "\r\n")
  while not request and not message do
    local piece = lines:piece(left_ms())
    if not piece then break end
    request, message, status = one:feed(piece)
  end
  lines:put_back(one.rest)
  one:free()
  return request, message, status
end

--- What a request wants. What a browser sends has an Origin, or asks for something else.
-- @return "console", "snapshot", or nil: nothing that there is
function upgrade.wanted(request)
  local headers = request.headers
  if request.method ~= "GET" or headers.origin then return nil end
  if request.path == "/snapshot" then return not headers["sec-fetch-site"] and "snapshot" or nil end
  return request.minor == 1 and headers.upgrade == protocol.UPGRADE and "console" or nil
end

--- What is answered to who wants a console.
upgrade.ACCEPTED = ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: %s\r\nConnection: Upgrade\r\n\r\n"):format(protocol.UPGRADE)

--- Asks for a console, as its client.
-- @param path of the location in nginx
-- @return true: lines may be sent; or nil, message
function upgrade.ask(stream, lines, path)
  local is_loaded, answer = pcall(require, "cueball.http.answer")
  if not is_loaded then return true end
  stream:send(("GET %s HTTP/1.1\r\nHost: cueball\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n"):format(path, protocol.UPGRADE))
  local got, message = answer.read(stream, { head_max = HEAD_MAX, headers_max = HEADERS_MAX })
  if not got then return nil, message .. ": is it a console, and may you use it?" end
  if got.status == 501 then return nil, "the program there has no libcueball_http" end
  if got.status == 503 then return nil, "it has as many consoles as it may have (connections_max), or it is overloaded" end
  if got.status ~= 101 then return nil, ("it is no console: it answers %d"):format(got.status) end
  lines:put_back(got:behind())
  return true
end

return upgrade
