--- The user's inputrc, before GNU readline reads it: readline 8.2 follows a file that includes itself until the process crashes.
--
--   local fault = require("cueball.cli.editor.inputrc").fault(os.getenv)
--
-- Conditions ($if) are not looked at: whoever includes himself only where a condition does not hold is told, too.
local inputrc = {}

local READ_MAX = 1024 * 1024 -- bytes of a file

local function text_of(path)
  local file = io.open(path, "rb")
  local text = file and file:read(READ_MAX)
  if file then file:close() end
  return text
end

-- As readline has it: "~" is the home folder; that of somebody else is not looked up.
local function expanded(path, environment)
  local rest = path:match "^~(/.*)$"
  return rest and (environment "HOME" or "") .. rest or path
end

-- The file that readline reads.
local function first(environment)
  local path = environment "INPUTRC"
  if path and path ~= "" then return expanded(path, environment) end
  path = expanded("~/.inputrc", environment)
  return text_of(path) and path or "/etc/inputrc"
end

-- @param above the files that this one is included by, by path
-- @param done  those that were looked at
-- @return the file that includes itself, or nil
local function look(path, environment, above, done)
  if above[path] then return path end
  if done[path] then return nil end
  above[path] = true
  for line in (text_of(path) or ""):gmatch "[^\n]+" do
    local name, included = line:match "^%s*%$%s*(%a+)%s+(.*)$"
    local found = name and name:lower() == "include" and look(expanded(included, environment), environment, above, done)
    if found then return found end
  end
  above[path], done[path] = nil, true
end

--- Whether readline cannot read it.
-- @param environment function(name) → value or nil
-- @return what is wrong with it; or nil
function inputrc.fault(environment)
  local found = look(first(environment), environment, {}, {})
  return found and found .. " includes itself" or nil
end

return inputrc
