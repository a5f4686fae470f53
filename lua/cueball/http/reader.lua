--- The requests of one connection, as tables, read by libcueball_http.
--
--   local one = reader.new(8192, 64)
--   one:feed(data)    → a request; nil; nil, message, status
--   one.rest          what was fed, and is behind that request
--   one:free()
local head = require "cueball.http.head"
local library = require "cueball.http.library"
local target = require "cueball.http.target"
local text = require "cueball.text"
local lib, ffi = library.lib, require "ffi"

local reader = {}

local Reader = {}
Reader.__index = Reader

local bytes_of = ffi.typeof "const char *"
local made, taken = ffi.new "cueball_http *[1]", ffi.new "size_t[1]"
local request = ffi.new "cueball_http_request"

--- @param head_max, headers_max how many bytes the head of a request may have, and how many headers
function reader.new(head_max, headers_max)
  local code = lib.cueball_http_new(head_max, headers_max, made)
  if code ~= lib.CUEBALL_OK then error("cueball.http: " .. ffi.string(require("cueball.native").lib.cueball_error_message(code)), 0) end
  return setmetatable({ pointer = ffi.gc(made[0], lib.cueball_http_free), rest = "", has_body = false }, Reader)
end

-- The request whose head was read; or nil, message, status.
local function request_of(self)
  lib.cueball_http_request_of(self.pointer, request)
  local path, arguments, authority = target.parse(ffi.string(request.target, request.target_size))
  if not path then return nil, arguments, 400 end
  local found = {
    method = ffi.string(request.method), path = path, arguments = arguments, minor = request.minor,
    keeps_alive = request.keeps_alive, has_body = request.has_body,
  }
  found.headers, found.counts = head.headers(self.pointer)
  if authority then found.headers.host, found.counts.host = authority, 1 end
  return found
end

--- Reads what came, behind what came before and was not read yet.
-- @param data nil: nothing more
-- @return { method, path, arguments, minor, keeps_alive, has_body, headers = by name in small letters, counts }; nil: it is not whole;
--   nil, message, the status to answer: it is no request, or too much
function Reader:feed(data)
  local given = data and self.rest .. data or self.rest
  local result = lib.cueball_http_feed(self.pointer, ffi.cast(bytes_of, given), #given, taken)
  self.rest = given:sub(tonumber(taken[0]) + 1)
  if result == lib.CUEBALL_HTTP_WANT then return nil end
  if result == lib.CUEBALL_HTTP_REQUEST then return request_of(self) end
  return nil, text.message(ffi.string(lib.cueball_http_error(self.pointer))), lib.cueball_http_status(self.pointer)
end

--- Is nothing there yet of the next request?
function Reader:is_between()
  return self.rest == "" and lib.cueball_http_is_between(self.pointer)
end

--- Frees the reader, which is used no more.
function Reader:free()
  lib.cueball_http_free(ffi.gc(self.pointer, nil))
  self.pointer = nil
end

return reader
