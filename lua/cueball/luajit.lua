--- LuaJIT's FFI, or an error that says in one sentence what is missing: required first by the modules that programs begin with.
-- Any Lua from 5.1 on can read this file.
if not jit then
  error(("cueball needs LuaJIT, since it calls its C core through LuaJIT's FFI; this is %s"):format(_VERSION), 0)
end
return require "ffi"
