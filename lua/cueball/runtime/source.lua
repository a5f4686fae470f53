--- Where a script comes from: a file or a text, read anew for each run.
local source = {}

local function compile_file(path, globals)
  local chunk, message = loadfile(path, "bt", globals)
  if not chunk then return nil, message end
  return chunk
end

--- @param given { file = its path } or { text =, name = what messages call it, "script" by default }; arguments = a list, `n` long
-- @return { name =, folder = whose modules belong to it, or nil; arguments =, compile = function(globals) → chunk; or nil, message }
function source.of(given)
  local self = { name = nil, folder = nil, arguments = given.arguments, compile = nil }
  if given.file then
    self.name, self.folder = given.file, given.file:match "^(.*)/[^/]*$" or "."
    function self.compile(globals) return compile_file(given.file, globals) end
  else
    self.name = given.name or "script"
    function self.compile(globals) return load(given.text, "=" .. self.name, "t", globals) end
  end
  return self
end

return source
