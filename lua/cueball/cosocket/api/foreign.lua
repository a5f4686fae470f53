--- The FFI as client libraries see it that were written for nginx: functions that nginx has in its process are found in `C`.
--
-- OpenSSL's libcrypto is loaded where one asks for what the process does not have, as resty.sha256, resty.aes and resty.random do. A
-- declaration that was made before is not made again: libraries are loaded once for each host.
local ffi = require "ffi"
local crypto = require "cueball.cosocket.api.crypto"
local misuse = require "cueball.misuse"

local registry = debug.getregistry()
local declared = registry["cueball.declared"] or {} -- texts; they outlive this module
registry["cueball.declared"] = declared

-- Functions of nginx itself that libraries call, by name.
local OWN = {}

-- u_char *ngx_hex_dump(u_char *dst, const u_char *src, size_t len)
function OWN.ngx_hex_dump(to, from, length)
  to, from = ffi.cast("uint8_t *", to), ffi.cast("const uint8_t *", from)
  local digits = "0123456789abcdef"
  for index = 0, tonumber(length) - 1 do
    local byte = from[index]
    to[2 * index], to[2 * index + 1] = digits:byte(math.floor(byte / 16) + 1), digits:byte(byte % 16 + 1)
  end
  return to + 2 * length
end

local function text_of(line, length)
  return type(line) == "string" and line:sub(1, tonumber(length)) or ffi.string(line, length)
end

-- intptr_t ngx_atoi(const u_char *line, size_t n): -1 where it is no number
function OWN.ngx_atoi(line, length)
  local digits = text_of(line, length)
  local number = digits:find "^%d+$" and tonumber(digits)
  return number and number < 2 ^ 63 and number or -1
end

-- intptr_t ngx_hextoi(const u_char *line, size_t n): likewise
function OWN.ngx_hextoi(line, length)
  local digits = text_of(line, length)
  return digits:find "^%x+$" and #digits <= 16 and tonumber(digits, 16) or -1
end

-- int ngx_http_lua_ffi_exec_regex(ngx_http_lua_regex_t *re, int flags, const u_char *s, size_t len, int pos): of resty.core.regex
function OWN.ngx_http_lua_ffi_exec_regex(regex, _, subject, length, from)
  subject = text_of(subject, length)
  local groups, message = regex:match(subject, from)
  return groups or (message and -10 or -1)
end

local function find_in_process(name)
  return ffi.C[name]
end

-- libcrypto's symbols are global once it is loaded, so that C has them.
local function find(name)
  local ok, found = pcall(find_in_process, name)
  if ok then return found end
  local message = found
  if crypto.load() then
    ok, found = pcall(find_in_process, name)
    if ok then return found end
  end
  misuse.raise((message:gsub("^[^:]*:%d+: ", "")))
end

local function is_function(value)
  return type(value) == "cdata" and tostring(ffi.typeof(value)):find("()", 1, true) ~= nil
end

local C = setmetatable({}, {
  __index = function(self, name)
    local value = OWN[name]
    if value == nil then value = find(name) end
    if type(value) == "function" or is_function(value) then rawset(self, name, value) end -- a variable is looked up each time
    return value
  end,
  __newindex = function(_, name, value) ffi.C[name] = value end,
})

local foreign = setmetatable({ C = C }, { __index = ffi })

function foreign.cdef(text, ...)
  if select("#", ...) == 0 and declared[text] then return end
  ffi.cdef(text, ...)
  declared[text] = true
end

function foreign.metatype(kind, methods)
  local ok, made = pcall(ffi.metatype, kind, methods)
  if ok then return made end
  if made:find("protected metatable", 1, true) then return ffi.typeof(kind) end -- the library was loaded before
  misuse.raise((made:gsub("^[^:]*:%d+: ", "")))
end

return foreign
