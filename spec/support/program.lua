--- C programs as specs: compiled, run, and their output told if they find a fault.
--
--     local program = require "spec.support.program"
--     setup(program.setup) teardown(program.teardown)
--     program.run("timers_test", "spec/core/timers_test.c src/core/kit/timers.c")   -- raises with what it wrote
--     program.linked("mailbox_test", "spec/threaded/mailbox_test.c")   -- the same, with the library
--     program.must "cc -c file.c"                   -- any command, from the root: what it wrote; raises if it fails
--     program.write("file.c", text)                 -- into a folder of the spec's own: the file's path
--     program.folder()

local program = {}

local shell = require "spec.support.shell"
local quote = shell.quote
local folder

-- A sanitizer loaded into LuaJIT is not for the programs, nor for the compiler.
local CLEAN = "unset LD_PRELOAD; cd %s && "

function program.must(command)
  return shell.must(CLEAN:format(quote(shell.root)) .. command)
end
local must = program.must

function program.folder()
  return folder
end

function program.write(name, text)
  local path = folder .. "/" .. name
  shell.write(path, text)
  return path
end

function program.setup()
  folder = must "mktemp -d"
end

function program.teardown()
  shell.must("rm -rf " .. quote(folder))
end

--- Compiles the sources (and flags), all from the root, and runs the program with these arguments. Returns what it wrote.
function program.run(name, sources, arguments)
  local path = quote(folder .. "/" .. name)
  must(("${CC:-cc} -std=c11 -O1 -g -DCUEBALL_CHECKS=1 -Isrc/include -Isrc/core -o %s %s -lm"):format(path, sources))
  return must(path .. " " .. (arguments or ""))
end

-- A library with a sanitizer can only be loaded into a program that has it, too.
local function sanitizers(build)
  local found = shell.read(build .. "/CMakeCache.txt"):match "CUEBALL_SANITIZE:STRING=([%w,]+)"
  return found and "-fsanitize=" .. found .. " -fno-sanitize-recover=all" or ""
end

--- The same for a program that is linked with the libcueball that was built.
function program.linked(name, sources, arguments)
  local build = os.getenv "CUEBALL_BUILD" or shell.root .. "/build"
  local flags = ("%s -L%s -lcueball -Wl,-rpath,%s -pthread"):format(sanitizers(build), quote(build), quote(build))
  return program.run(name, sources .. " " .. flags, arguments)
end

return program
