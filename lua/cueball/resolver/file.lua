--- Backends from a file, followed as it changes.
--
--   resolver.file { path = "/etc/db.backends", default_port = 5432 }
--
-- A backend a line, and what is known of it behind; # begins a comment:
--
--   10.0.0.1:5432
--   10.0.0.2:5432 weight=2 priority=1 name=db2   # the slow one
--
-- The file is best replaced as a whole, by rename: else half of it may be read.
local made_of = require "cueball.made_of"
local misuse = require "cueball.misuse"
local address = require "cueball.address"
local options = require "cueball.options"
local poll = require "cueball.resolver.poll"
local said = require("cueball.text").format
local text_of_file = require("cueball.file").text
local trimmed = require("cueball.text").trimmed

local WHAT = "cueball.resolver.file"
local INTERVAL_MS = 1000
local NUMBERS = { weight = true, priority = true }
local TEXTS = { name = true, key = true }

local function read_line(line, default_port)
  local host, port = address.split(line:match "^%S+")
  if not host then return nil, port end
  local backend = { address = host, port = port or default_port }
  if not backend.port then return nil, "there is no port, and no default_port" end
  for word in line:gmatch "%s(%S+)" do
    local field, value = word:match "^(%l+)=(.+)$"
    if NUMBERS[field] and tonumber(value) then
      backend[field] = tonumber(value)
    elseif TEXTS[field] then
      backend[field] = value
    else
      return nil, said("%q is not understood; there are key=, name=, priority=, weight=", word)
    end
  end
  return address.backend(backend)
end

-- @return a list; or nil, message
local function read_text(text, path, default_port)
  local list, number = {}, 0
  for line in (text .. "\n"):gmatch "(.-)\r?\n" do
    number = number + 1
    line = trimmed(line:match "^[^#]*")
    if line ~= "" then
      local backend, message = read_line(line, default_port)
      if not backend then return nil, ("%s:%d: %s"):format(path, number, message) end
      backend.provenance = ("%s:%d"):format(path, number)
      list[#list + 1] = backend
    end
  end
  return list
end

local OPTIONS = {
  path = options.of_type "string",
  interval_ms = options.number(1, 86400000, "milliseconds"),
  default_port = options.whole(0, 65535),
  name = options.of_type "string",
}
options.note(WHAT, OPTIONS)

--- Makes a resolver.
-- @param given a path, or
--   path          of the file
--   interval_ms   how often it is looked at, 1000 by default
--   default_port  of lines without one
--   name          of the service
-- A file that cannot be read, or with a line that is no backend, fails the resolver: the last known backends stay.
-- @return a resolver; mistakes in the options raise an error at the caller's line
local function file(given)
  if type(given) == "string" then given = { path = given } end
  given = options.check(WHAT, given, OPTIONS)
  if given.path == nil then misuse.raise(WHAT .. ": option 'path' is required: the path of a file") end
  local resolver = poll {
    interval_ms = given.interval_ms or INTERVAL_MS, name = given.name,
    step = function()
      local text, message = text_of_file(given.path)
      if not text then return nil, message end
      return read_text(text, given.path, given.default_port)
    end,
  }
  return made_of.note(resolver, WHAT, given)
end

return file
