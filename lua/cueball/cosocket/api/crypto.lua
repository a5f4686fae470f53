--- OpenSSL's libcrypto, loaded when it is first needed. Its symbols are global then: client libraries expect them in ffi.C, as nginx has
-- them.
local clib = require "cueball.cosocket.api.clib"
local misuse = require "cueball.misuse"

local crypto = {}

--- @return the library; or nil, message
function crypto.load()
  return clib.load(true, "libssl3", "libcrypto.so.3", "libcrypto.so.1.1")
end

--- The same; raises an error where it is missing.
-- @param what for which it is needed
function crypto.library(what)
  local lib, message = crypto.load()
  if not lib then misuse.raise(("%s: OpenSSL's %s"):format(what, message)) end
  return lib
end

return crypto
