--- C programs that use libcueball_runtime, compiled with what the library was built with, and run.
--
--     local runtime = require "spec.support.runtime"
--     setup(runtime.setup) teardown(runtime.teardown)
--     runtime.run("claims_test", "'pools.lua' 127.0.0.1:7001")   -- spec/runtime/claims_test.c: what it wrote; raises if it fails
--     runtime.run_there "hello"                                   -- hello.c in that folder
--     runtime.script "cueball.pool {…}"                           -- a script in a file of the spec's own: its path
local program = require "spec.support.program"
local shell = require "spec.support.shell"

local runtime = { setup = program.setup, teardown = program.teardown }

local build = os.getenv "CUEBALL_BUILD" or shell.root .. "/build"

-- A sanitized library can only be loaded into a program that is sanitized, too.
local function sanitizers()
  local found = shell.read(build .. "/CMakeCache.txt"):match "CUEBALL_SANITIZE:STRING=([%w,]+)"
  return found and "-fsanitize=" .. found .. " -fno-sanitize-recover=all" or ""
end

local FLAGS = ("-D_GNU_SOURCE -pthread -rdynamic %s -L%s -lcueball_runtime -lcueball -Wl,-rpath,%s"):format(sanitizers(),
  shell.quote(build), shell.quote(build))

--- Compiles spec/runtime/NAME.c, and runs it with these arguments.
-- @return what it wrote
function runtime.run(name, arguments)
  return program.run(name, ("spec/runtime/%s.c %s"):format(name, FLAGS), arguments)
end

--- Compiles NAME.c of the folder of the spec's own, and runs it there.
-- @return what it wrote
function runtime.run_there(name)
  local path = shell.quote(program.folder() .. "/" .. name)
  program.must(("${CC:-cc} -std=c11 -O1 -g -Wall -Wextra -Werror -Isrc/include -o %s %s.c %s"):format(path, path, FLAGS))
  return program.must(("cd %s && CUEBALL_LOG=warn %s"):format(shell.quote(program.folder()), path))
end

local scripts = 0

--- Writes a script that begins with what every one needs.
-- @return its path, quoted
function runtime.script(text)
  scripts = scripts + 1
  return shell.quote(program.write(("script_%d.lua"):format(scripts), 'local cueball = require "cueball"\n' .. text))
end

return runtime
