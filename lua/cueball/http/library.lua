--- libcueball_http, through FFI. It is loaded when HTTP is first wanted, and not before: not every build has llhttp.
local native = require "cueball.native"

local ADVICE = "The build makes it where it finds llhttp (Debian: `apt install node-llhttp`); then build or install cueball anew."

return native.other("cueball_http", ADVICE)
