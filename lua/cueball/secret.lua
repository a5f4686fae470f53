--- Secrets of connection factories, such as passwords: texts, or functions that are asked for them at each connect. What goes wrong is told
-- without them.
local text = require "cueball.text"
local pcall, type = pcall, type

local secret = {}

local NOT_SHOWN = " (the rest is not shown: a secret may be in it)"
local TELLING = 8 -- bytes of a secret that a message may not have: servers shorten what they repeat
local STARS = "***"
local LENGTH_MIN = 4 -- of a secret that is looked for in any message: a shorter one is in many by chance

--- A rule for options.check.
secret.RULE = {
  range = "a string or a function", is_secret = true,
  check = function(value) return type(value) == "string" or type(value) == "function" end,
}

-- What a function that is asked made of it.
local function answered(name, ok, value, message)
  if not ok then return nil, ("%s: its function threw: %s"):format(name, text.message(value)) end
  if type(value) == "string" then return value end
  if value then return nil, ("%s: its function must return a string, not a %s"):format(name, type(value)) end
  return nil, ("%s: %s"):format(name, message ~= nil and text.message(message) or "its function returned nothing")
end

--- Asks for a secret, in a task: a function may wait.
-- @param name  of the option, for messages
-- @param given what the option is
-- @param abandoned function: if the task is killed while the function waits
-- @param backend, context of the attempt, which the function gets
-- @return the secret; or nil, message
function secret.ask(name, given, abandoned, backend, context)
  if type(given) == "string" then return given end
  if type(given) ~= "function" then
    return nil, ("%s: it must be a string or a function, not %s"):format(name, given == nil and "nil" or "a " .. type(given))
  end
  local host, waiting = context.host, { abort = abandoned }
  host.guard(waiting)
  local ok, value, message = pcall(given, backend, context)
  host.unguard(waiting)
  return answered(name, ok, value, message)
end

local function has(message, value)
  return value ~= nil and value ~= "" and message:find(value:sub(1, TELLING), 1, true) ~= nil
end

--- What a server said, without the secrets that it was sent: if they are in it, all but the code that it begins with is left out.
-- @param message of the server
-- @param one, other the secrets; nil: none
function secret.hide(message, one, other)
  if not has(message, one) and not has(message, other) then return message end
  local code = message:match "^%l*:? ?%u+%f[%s]" or ""
  if has(code, one) or has(code, other) then code = "" end
  return (code == "" and "an error" or code) .. NOT_SHOWN
end

--- The same of an answer to the secrets themselves. A server that does not know the command repeats what it was sent, in quotes and changed
-- (shortened, without line ends): nothing is shown from the first quote or colon on.
function secret.hide_echo(message, one, other)
  local shown = message:match "^[^'`\":]*"
  return secret.hide(shown == message and message or text.trimmed_end(shown) .. NOT_SHOWN, one, other)
end

--- A secret as messages would have it, which are clean; nil: it is too short to be looked for.
function secret.shown(value)
  if #value < LENGTH_MIN then return nil end
  return text.clean(value)
end

local function pattern_of(words) return (words:gsub("%W", "%%%0")) end

--- A message for people, of one line or more, without this secret. Where it has the whole secret, which may be a word like any other, it
-- has STARS instead; a line that has its beginning ends there.
-- @param shown of secret.shown
function secret.cut(message, shown)
  local start = shown:sub(1, TELLING)
  if not message:find(start, 1, true) then return message end
  message = message:gsub(pattern_of(shown), STARS)
  if not message:find(start, 1, true) then return message end
  return (message:gsub("[^\n]+", function(line)
    local at = line:find(start, 1, true)
    return at and text.trimmed_end(line:sub(1, at - 1)) .. NOT_SHOWN or nil
  end))
end

return secret
