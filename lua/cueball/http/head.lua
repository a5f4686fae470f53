--- What is in the head of a request or an answer that libcueball_http has read.
local library = require "cueball.http.library"
local lib, ffi = library.lib, require "ffi"

local head = {}

local header = ffi.new "cueball_http_header"

--- Headers by name in small letters. What comes twice is joined with ", ".
-- @return headers, how often each came
function head.headers(pointer)
  local headers, counts = {}, {}
  local index = 0
  while lib.cueball_http_header_at(pointer, index, header) do
    local name = ffi.string(header.name, header.name_size):lower()
    local value = ffi.string(header.value, header.value_size)
    headers[name] = headers[name] and headers[name] .. ", " .. value or value
    counts[name] = (counts[name] or 0) + 1
    index = index + 1
  end
  return headers, counts
end

return head
