--- The globals of a session: a table of its own that falls back to those of the Lua state, and whose `print` and `io.write` show text above
-- the line that is being typed.
local loaders = require "cueball.loaders"
local text = require "cueball.text"

local environment = {}

local function joined(...)
  local parts = {}
  for index = 1, select("#", ...) do parts[index] = text.of((select(index, ...))) end
  return parts
end

-- io.write and io.stdout:write: what has no line end yet waits for it.
local function writer(session)
  local pending = ""
  return function(...)
    pending = pending .. table.concat(joined(...))
    local lines = pending:match "^(.*)\n"
    if lines then
      pending = pending:sub(#lines + 2)
      session:print(lines)
    end
  end
end

local function io_of(session)
  local write = writer(session)
  local file = setmetatable({}, { __index = function(_, name)
    local member = io.stdout[name]
    return type(member) == "function" and function(_, ...) return member(io.stdout, ...) end or member
  end })
  function file.write(self, ...)
    write(...)
    return self
  end
  return setmetatable({ stdout = file, write = function(...) return file:write(...) end }, { __index = io })
end

local function unwrap(ok, ...)
  if not ok then error((...), 0) end
  return ...
end

-- Where an error in a coroutine of nginx's coroutine.wrap ends the whole task, no xpcall hears of it.
local function wrap(fn)
  local co = coroutine.create(fn)
  return function(...) return unwrap(coroutine.resume(co, ...)) end
end

--- Makes the globals of a session.
function environment.new(session)
  local globals = setmetatable({}, { __index = _G })
  globals._G = globals
  globals.cueball = require "cueball"
  globals.world = session.world
  function globals.print(...) session:print(table.concat(joined(...), "\t")) end
  globals.io = io_of(session)
  globals.coroutine = setmetatable({ wrap = wrap }, { __index = coroutine })
  -- What they load may be interrupted like what is typed. A fault in a file is raised as Lua does: the message has its place.
  loaders.add(globals, session.adopt, function(message) error(message, 0) end)
  return globals
end

return environment
