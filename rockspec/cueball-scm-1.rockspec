rockspec_format = "3.0"
package = "cueball"
version = "scm-1"
source = {
  -- Not published yet: `luarocks make rockspec/cueball-scm-1.rockspec` in a clone builds what is there.
  url = "git+https://example.invalid/cueball.git",
}
description = {
  summary = "A Lua-scriptable pool of connections to a service with many nodes",
  detailed = [[
    Spreads connections evenly over the nodes of a service, hands them out one claimer at a time, and goes on doing so
    while nodes come, go, hang and die. The pool is a C state machine without I/O; resolvers and connection factories
    are Lua. Needs LuaJIT, CMake and a C compiler; runs on libuv if luv is installed.]],
  license = "MIT",
}
dependencies = {
  "lua >= 5.1",
  "argparse >= 0.7", -- the cueball command
  "dkjson >= 2.5",
  -- Not needed, and used where it is found: readline (lua-readline 3 with GNU readline), the editor of the command's prompts.
}
-- bin/cueball finds its modules itself, and runs under LuaJIT: LuaRocks would have it run by the Lua it is set to.
deploy = {
  wrap_bin_scripts = false,
}
build = {
  type = "cmake",
  variables = {
    CMAKE_BUILD_TYPE = "RelWithDebInfo",
    CMAKE_INSTALL_PREFIX = "$(PREFIX)",
    CUEBALL_LUADIR = "$(LUADIR)",
    CUEBALL_CLIBDIR = "$(LIBDIR)",
  },
}
