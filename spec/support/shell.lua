--- Files and commands, for specs and what they stand on.
--
--   local shell = require "spec.support.shell"
--   shell.root, shell.build        the repository, and where it was built
--   shell.read(path)               a file's text, anywhere; raises if it is not there
--   shell.text_of "docs/lua.md"    that of a file of the repository
--   shell.write(path, text)
--   shell.run(command)             → what it wrote, to stderr too, without the last line's end; its status
--   shell.must(command)            → what it wrote; raises with that if it fails
--   shell.quote(text)              as one word of a command
local shell = {}

shell.root = os.getenv "CUEBALL_ROOT" or "."
shell.build = os.getenv "CUEBALL_BUILD" or shell.root .. "/build"

function shell.read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

function shell.text_of(path)
  return shell.read(shell.root .. "/" .. path)
end

function shell.write(path, text)
  local file = assert(io.open(path, "wb"))
  assert(file:write(text))
  file:close()
end

function shell.run(command)
  local pipe = assert(io.popen("{ " .. command .. "\n} 2>&1; echo \"status $?\""))
  local text = pipe:read "*a"
  pipe:close()
  local output, status = text:match "^(.-)\n?status (%d+)\n$"
  return output, tonumber(status)
end

function shell.must(command)
  local output, status = shell.run(command)
  assert(status == 0, command .. "\n" .. output)
  return output
end

function shell.quote(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

return shell
