--- Client libraries written for OpenResty's cosockets, unmodified, on any host.
--
-- nginx requires them (cueball.nginx.library). Elsewhere their files are loaded once for each host, with an environment of their own: in it
-- `ngx` stands on the host's sockets, clocks and tasks (cueball.cosocket.api), and `require` loads other such libraries in the same way. No
-- global is set: it would make other libraries believe that they run in nginx.
--
--   local http = require("cueball.cosocket.library").load(host, "resty.http")
--   local redis, null = require("cueball.cosocket.library").load(host, "redis")   resty.redis, or nginx.redis as Debian has it
--
-- Which modules are such libraries? Those named resty.*, nginx.* or ngx.*, those of the same family as the one that requires them
-- (pgmoon.arrays of pgmoon), those whose file has a word "ngx" or "resty" in it, and those that require one of these. All others are
-- required as they are, and shared with the program.
local api = require "cueball.cosocket.api"
local modules = require "cueball.cosocket.api.modules"
local misuse = require "cueball.misuse"
local text = require "cueball.text"
local text_of_file = require("cueball.file").text

local library = {}

local FAMILIES = { ["resty"] = true, ["nginx"] = true, ["ngx"] = true }
local OTHER_NAMES = { ["^resty%."] = "nginx.", ["^nginx%."] = "resty." } -- Debian's packages have their own

local LOADING = {} -- stands for a module while its file runs

local Loader = {}
Loader.__index = Loader

-- ---------------------------------------------------------------- files --

-- A module that is compiled into the program, as bytecode; nil: there is none, or it is in C.
local function preloaded(name)
  local fn = package.preload[name]
  local ok, source = pcall(string.dump, fn)
  return ok and source or nil
end

-- The file of a module: its path and its text; nil, where it was sought; nil, message, true: it cannot be read.
local function find_file(name)
  local source = preloaded(name)
  if source then return "package.preload." .. name, source end
  local path, looked_at = package.searchpath(name, package.path)
  if not path then return nil, looked_at end
  local message
  source, message = text_of_file(path)
  if not source then return nil, "\n\t" .. message, true end
  return path, (source:gsub("^#", "--#"))
end

-- The same under the other of its two names: also that name.
local function find_any_file(name)
  local path, source, is_unreadable = find_file(name)
  if path or is_unreadable then return path, source, name end
  for pattern, prefix in pairs(OTHER_NAMES) do
    if name:find(pattern) then
      local other = name:gsub(pattern, prefix)
      local its_path, found = find_file(other)
      if its_path then return its_path, found, other end
      source = source .. found
    end
  end
  return nil, source, name
end

local function family_of(name)
  return name:match "^[^.]*"
end

local found_cosockets = {} -- by path of a module: does it, or what it requires, use cosockets?

local uses_cosockets

local function requires_one_that_does(source)
  for name in source:gmatch "%f[%w_]require%s*%(?%s*[\"']([%w_.%-]+)[\"']" do
    if FAMILIES[family_of(name)] then return true end
    local path, found = find_file(name)
    if path and uses_cosockets(path, found) then return true end
  end
  return false
end

-- @param source of the module
function uses_cosockets(path, source)
  if found_cosockets[path] == nil then
    found_cosockets[path] = false -- for those that require each other
    found_cosockets[path] = source:find "%f[%w_]ngx%f[^%w_]" ~= nil or source:find "%f[%w_]resty%f[^%w_]" ~= nil
      or requires_one_that_does(source)
  end
  return found_cosockets[path]
end

-- --------------------------------------------------------- environments --

-- A function that compiles Lua, such that the result has the library's environment where it is given none.
local function compiler(compile, environment)
  return function(...)
    local chunk, message = compile(...)
    if not chunk then return nil, message end
    local has_own = compile == load and select("#", ...) >= 4
    return has_own and chunk or setfenv(chunk, environment)
  end
end

-- The table that `resty.mongol` is among globals, as module() makes it.
local function global_table(globals, name)
  local at = globals
  for part in name:gmatch "[^.]+" do
    if type(rawget(at, part)) ~= "table" then rawset(at, part, {}) end
    at = rawget(at, part)
  end
  return at
end

-- Lua 5.1's module(), for the globals of a library.
local function module_of(loader, environment)
  return function(name, ...)
    local made = rawget(loader.loaded, name)
    if type(made) ~= "table" or made == LOADING then
      made = global_table(loader.globals, name)
      rawset(loader.loaded, name, made)
    end
    made._NAME, made._M, made._PACKAGE = name, made, name:match "^(.*%.)[^.]*$" or ""
    for index = 1, select("#", ...) do
      local option = select(index, ...)
      if option == package.seeall then setmetatable(made, { __index = environment }) else option(made) end
    end
    setfenv(2, made)
  end
end

local COMPILERS = { "load", "loadstring", "loadfile" }

local function environment_of(loader, name, family)
  local view = api.view(loader.own, name)
  local environment = {
    ["ngx"] = view,
    print = function(...) view.log(view.NOTICE, ...) end, -- as in nginx
    ndk = setmetatable({}, { __index = function(_, key)
      misuse.raise(("%s: ndk.%s is not there outside of nginx"):format(name, tostring(key)))
    end }),
    require = function(wanted) return loader:require(wanted, family) end,
    package = setmetatable({ loaded = loader.loaded }, { __index = package }),
  }
  for _, compile in ipairs(COMPILERS) do environment[compile] = compiler(_G[compile], environment) end
  environment.dofile = function(path)
    local chunk, message = environment.loadfile(path)
    if not chunk then error(message, 0) end
    return chunk()
  end
  environment.module = module_of(loader, environment)
  environment._G = environment
  -- What one library sets as a global, others of the same host see, and the program does not.
  return setmetatable(environment, { __index = loader.globals, __newindex = loader.globals })
end

-- -------------------------------------------------------------- loading --

local function run(loader, name, path, source, family)
  local chunk, message = loadstring(source, "@" .. path)
  if not chunk then error(("error loading module '%s' from file '%s':\n\t%s"):format(name, path, message), 0) end
  local loaded = loader.loaded
  rawset(loaded, name, LOADING)
  setfenv(chunk, environment_of(loader, name, family))
  local ok, found = pcall(chunk, name, path)
  local kept = rawget(loaded, name)
  if not ok then
    rawset(loaded, name, nil)
    error(found, 0)
  end
  if found == nil then found = kept ~= LOADING and kept or true end
  rawset(loaded, name, found)
  return found
end

-- The FFI that stands for `ffi`, where a library asks for it.
local function foreign()
  return require "cueball.cosocket.api.foreign"
end

--- What `require` is in a library.
-- @param family of the library
function Loader:require(name, family)
  if type(name) ~= "string" then misuse.raise("require: expected a name, got " .. text.show(name)) end
  local found = rawget(self.loaded, name)
  if found == LOADING then error(("loop or previous error loading module '%s'"):format(name), 0) end
  if found ~= nil then return found end
  if name == "ffi" then return foreign() end
  if self.shared[name] then return require(name) end -- libraries require in the middle of what they do, too
  if modules.is_own(name) then
    found = modules.make(self.own, name)
    if found == nil then error(("module '%s' not found: it is a part of nginx, and not there outside of it"):format(name), 0) end
    rawset(self.loaded, name, found)
    return found
  end
  local own_family = family_of(name)
  local path, source, real = find_any_file(name)
  if real ~= name then
    found = self:require(real, family)
    rawset(self.loaded, name, found)
    return found
  end
  if path and (FAMILIES[own_family] or own_family == family or uses_cosockets(path, source)) then
    return run(self, name, path, source, own_family)
  end
  local is_in_c = package.preload[name] or package.searchpath(name, package.cpath)
  if not path and FAMILIES[own_family] and not is_in_c then error(("module '%s' not found:%s"):format(name, source), 0) end
  found = require(name)
  self.shared[name] = true
  return found
end

local function new_loader(host)
  return setmetatable({
    own = api.of(host),
    loaded = setmetatable({}, { __index = package.loaded }), -- by name; what the program has required is seen too
    shared = {}, -- names of modules that were required as they are
    globals = setmetatable({}, { __index = _G }),
  }, Loader)
end

--- host.library of a host that has none of its own.
-- @return function(name) → the library, the value that it has for nulls, the API that it stands on; or nil, message. A name without a dot
-- stands for resty.NAME, or nginx.NAME as Debian has it
function library.on(host)
  local loader
  return function(name)
    if type(name) ~= "string" then misuse.raise("library: expected a name, got " .. text.show(name)) end
    loader = loader or new_loader(host)
    local full = name:find(".", 1, true) and name or "resty." .. name
    if not name:find(".", 1, true) and not find_any_file(full) and find_file(name) then full = name end -- pgmoon
    local ok, found = pcall(loader.require, loader, full, family_of(full))
    if not ok then return nil, text.of(found) end
    loader.view = loader.view or api.view(loader.own, "the program")
    return found, api.null, loader.view
  end
end

--- Finds a library, once for each host.
-- @param host whose sockets the library is to use
-- @param name "redis", "resty.http" …
-- @return the library, the value that it has for nulls, and the API that it stands on; or nil, message
function library.load(host, name)
  local found, null, own = host.library(name)
  if found ~= nil then return found, null, own end
  local short = name:match "^resty%.([%w_-]+)$" or name:match "^nginx%.([%w_-]+)$" or name:match "^[%w_-]+$"
  local missing = null:match "module '([^']*)' not found" or ""
  if not short or not missing:find(short, 1, true) then return nil, null end -- it is there, and says itself what is wrong
  return nil, ("the client library was not found as resty.%s or nginx.%s; install lua-resty-%s, or Debian's lua-nginx-%s: %s")
    :format(short, short, short, short, null)
end

return library
