--- load, loadstring, loadfile and dofile of an environment of its own: what they make has its globals, unless others are given.
local loaders = {}

--- Puts them into the globals of a session or a script.
-- @param adopt function(chunk) → chunk: hears of every piece of Lua that is loaded, before it runs
-- @param fail  function(message): raises what is wrong with the file of a dofile
function loaders.add(globals, adopt, fail)
  local function made(chunk, message)
    if not chunk then return nil, message end
    return adopt(chunk)
  end
  function globals.load(chunk, name, mode, of) return made(load(chunk, name, mode, of or globals)) end
  function globals.loadstring(chunk, name) return made(load(chunk, name, "bt", globals)) end
  function globals.loadfile(path, mode, of) return made(loadfile(path, mode, of or globals)) end
  function globals.dofile(path)
    local chunk, message = globals.loadfile(path)
    if not chunk then fail(message) end
    return chunk()
  end
end

return loaders
