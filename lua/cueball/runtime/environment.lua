--- What one run of a script lives in: globals of its own, which fall back to those of the Lua state; a cueball of its own; and modules that
-- lie beside the script's file, loaded anew for each run.
local loaders = require "cueball.loaders"
local misuse = require "cueball.misuse"

local environment = {}

-- Nothing beside a script stands in the way of these, nor of cueball's own modules.
local OF_LUA = {}
for name in ("_G bit coroutine debug ffi io jit math os package string table"):gmatch "%S+" do OF_LUA[name] = true end

-- The file of a module that lies beside the script; nil: there is none.
local function file_beside(folder, name)
  if not folder or OF_LUA[name] or name:find "^cueball%." or name:find "^jit%." then return nil end
  local start = folder .. "/" .. name:gsub("%.", "/")
  for _, path in ipairs { start .. ".lua", start .. "/init.lua" } do
    local file = io.open(path, "rb")
    if file and file:read(0) then
      file:close()
      return path
    end
    if file then file:close() end -- a folder, or an empty file
  end
  return nil
end

-- As Lua's own: a module that is being loaded has a mark in the place of its value.
local function require_in(self, name)
  local loaded, LOADING = self.loaded, self.LOADING
  local value = rawget(loaded, name)
  if value == LOADING then misuse.raise(("loop or previous error loading module '%s'"):format(name)) end
  if value ~= nil then return value end
  local path = type(name) == "string" and file_beside(self.folder, name)
  if not path then return require(name) end
  local chunk, message = loadfile(path, "bt", self.globals)
  if not chunk then misuse.raise(("error loading module '%s' from file '%s':\n\t%s"):format(name, path, message)) end
  loaded[name] = LOADING
  value = self.adopt(chunk)(name, path)
  if value ~= nil then
    loaded[name] = value
  elseif loaded[name] == LOADING then
    loaded[name] = true
  end
  return loaded[name]
end

--- Makes the environment of one run.
-- @param given
--   cueball  what `require "cueball"` gives there
--   folder   whose modules belong to the script; nil: none
--   adopt    function(chunk) → chunk: hears of every piece of Lua that the script loads, before it runs
-- @return { globals = the environment, loaded = by name: its own modules, … }
function environment.new(given)
  local self = {
    globals = {}, folder = given.folder, adopt = given.adopt, loaded = { cueball = given.cueball },
    LOADING = setmetatable({}, { __tostring = function() return "a module that is being loaded" end }),
  }
  local globals = setmetatable(self.globals, { __index = _G })
  setmetatable(self.loaded, { __index = package.loaded })
  globals._G = globals
  globals.package = setmetatable({ loaded = self.loaded }, { __index = package, __newindex = package })
  function globals.require(name) return (require_in(self, name)) end
  loaders.add(globals, self.adopt, misuse.raise)
  self.injected = {} -- the names of what is not the script's own
  for name in pairs(globals) do self.injected[name] = true end
  return self
end

return environment
