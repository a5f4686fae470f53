--- libcueball_tls, through FFI. It is loaded when TLS is first wanted, and not before: it needs OpenSSL 3.
local native = require "cueball.native"

local ADVICE = "The build makes it where it finds OpenSSL 3 (Debian: `apt install libssl-dev` to build, `libssl3` to run); "
  .. "then build or install cueball anew."

return native.other("cueball_tls", ADVICE)
