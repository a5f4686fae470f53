--- Backends on stdout: lines for scripts, aligned and coloured columns for a terminal, JSON.
--
-- Nothing but results goes to stdout.  output:say(text) and output:complain(text) write to stderr.
local address = require "cueball.address"
local ffi = require "ffi"
local status = require "cueball.cli.status"

local output = {}

local Output = {}
Output.__index = Output

local COLORS = { bold = "1", dim = "2", red = "31", green = "32", yellow = "33", cyan = "36" }
local EVENT_COLOR = { added = "green", removed = "red", changed = "yellow" }
local KEY_ORDER = { "time", "event", "name", "service", "backends", "address", "port", "key", "priority", "weight", "why",
  "provenance", "record", "owner", "ttl", "server", "is_additional", "targets_from", "srv_name", "srv_ttl", "srv_server",
  "removal" }
local EPIPE = 32
-- What the numbers in `why` stand for: cueball_targets_from, cueball_removal (src/include/cueball_tracker.h).
output.names = {
  targets_from = { [0] = "domain", "srv", "nxdomain", "nodata", "notimp" },
  removal = { "target", "address", "name", "family", "no_service" },
}

--- Whether colour is wanted there: the option decides, then NO_COLOR (no-color.org), then whether a person looks.
function output.is_colored(system, file, color)
  if color ~= "auto" then return color == "always" end
  local no_color = system.environment "NO_COLOR"
  if no_color and no_color ~= "" or system.environment "TERM" == "dumb" then return false end
  return system.is_terminal(file)
end

--- @param system as cueball.cli.system
-- @param options { color = "auto" | "always" | "never", json =, why = }
function output.new(system, options)
  return setmetatable({
    system = system,
    is_json = options.json,
    has_why = options.why,
    is_aligned = system.is_terminal(system.stdout),
    is_colored = output.is_colored(system, system.stdout, options.color or "auto"),
    is_error_colored = output.is_colored(system, system.stderr, options.color or "auto"),
  }, Output)
end

local function paint(is_on, color, text)
  if not is_on then return text end
  return ("\27[%sm%s\27[0m"):format(COLORS[color], text)
end

function Output:paint(color, text)
  return paint(self.is_colored, color, text)
end

--- A line for the person, on stderr.
function Output:say(text)
  self.system.stderr:write(text, "\n")
end

--- A line about what went wrong, on stderr.
function Output:complain(text)
  self:say(paint(self.is_error_colored, "red", "cueball:") .. " " .. text)
end

--- Text to stdout, at once.
-- @return true; or nil, "closed" when nobody reads any more, or nil and what went wrong
function Output:put(text)
  local stdout = self.system.stdout
  local ok, message, number = stdout:write(text)
  if ok then ok, message, number = stdout:flush() end
  if ok then return true end
  if number == EPIPE then return nil, "closed" end
  return nil, "stdout cannot be written: " .. tostring(message)
end
-- LuaJIT, in compiled code, does once more what has failed; fflush succeeds then, as what could not be written is gone.
jit.off(Output.put)

--- The exit status for what output:put or one like it returned; what went wrong is told.
function Output:status_of(ok, message)
  if ok then return status.found end
  if message == "closed" then return status.reader_gone end
  self:complain(message)
  return status.failed
end

--- How a command without a prompt prints: results and output to stdout, the rest to stderr. Where stdout takes no more, it is over.
-- @param made function(words) → text, for words that come from elsewhere; or nil
-- @return function(words, kind)
function output.printer(system, made)
  local out = output.new(system, {})
  return function(words, kind)
    local line = (made and made(words) or words) .. "\n"
    if kind == "error" or kind == "note" then
      system.stderr:write(line)
      return system.stderr:flush()
    end
    local ok, message = out:put(line)
    if not ok then system.exit(out:status_of(ok, message)) end
  end
end

-- Order ----------------------------------------------------------------------------------

local binary = ffi.new "unsigned char[16]"

-- Text that sorts as the address does: 10.0.0.2 before 10.0.0.10, IPv4 before IPv6 before paths.
local function sort_key(host)
  local family = address.family(host)   -- fills nothing in, but says which it is
  if not family then return "u" .. host end
  local AF_INET, AF_INET6 = 2, ffi.os == "OSX" and 30 or ffi.os == "BSD" and 28 or 10
  ffi.C.inet_pton(family == 4 and AF_INET or AF_INET6, host, binary)
  return family .. ffi.string(binary, family == 4 and 4 or 16)
end

--- A copy of the list by priority, then address, port and key: the same backends always look the same.
function output.sorted(backends)
  local sorted, keys = {}, {}
  for index, backend in ipairs(backends) do
    sorted[index] = backend
    keys[backend] = sort_key(backend.address)
  end
  table.sort(sorted, function(a, b)
    local first, second = a.priority or 0, b.priority or 0
    if first ~= second then return first < second end
    if keys[a] ~= keys[b] then return keys[a] < keys[b] end
    if a.port ~= b.port then return a.port < b.port end
    return a.key < b.key
  end)
  return sorted
end

-- JSON -----------------------------------------------------------------------------------

--- Every member of any object, as a set: the manual page has them all.
output.members = {}
for _, name in ipairs(KEY_ORDER) do output.members[name] = true end

local function encode(value)
  return require "dkjson".encode(value, { keyorder = KEY_ORDER }) .. "\n"
end

-- Why it is there, or gone. What was typed in comes without.
local function provenance_of(backend)
  return backend.provenance or "given as an address"
end

-- The backend as the manual page documents it.
function Output:object_of(backend)
  local object = {
    address = backend.address, port = backend.port, key = backend.key, name = backend.name,
    priority = backend.priority or 0, weight = backend.weight or 1,
  }
  if self.has_why then
    object.why = { provenance = provenance_of(backend) }
    local has_srv = backend.why and backend.why.srv_server ~= ""
    for name, value in pairs(backend.why or {}) do
      local names = output.names[name]
      if names then value = names[value] end
      if value ~= "" and (name ~= "srv_ttl" or has_srv) then object.why[name] = value end
    end
  end
  return object
end

-- The answer -----------------------------------------------------------------------------

local COLUMNS = {
  { title = "ADDRESS", color = "cyan", text = function(backend) return backend.address end },
  { title = "PORT", color = "cyan", is_number = true, text = function(backend) return tostring(backend.port) end },
  { title = "KEY", text = function(backend) return backend.key end },
  { title = "NAME", text = function(backend) return backend.name or backend.key end,
    is_telling = function(backend) return backend.name and backend.name ~= backend.key end },
  { title = "PRIORITY", is_number = true, text = function(backend) return tostring(backend.priority or 0) end,
    is_telling = function(backend) return (backend.priority or 0) ~= 0 end },
  { title = "WEIGHT", is_number = true, text = function(backend) return tostring(backend.weight or 1) end,
    is_telling = function(backend) return (backend.weight or 1) ~= 1 end },
}

-- Columns in which there is something to tell, each with its width.
local function columns_for(backends)
  local columns = {}
  for _, column in ipairs(COLUMNS) do
    local is_telling, width = not column.is_telling, #column.title
    for _, backend in ipairs(backends) do
      is_telling = is_telling or column.is_telling(backend)
      width = math.max(width, #column.text(backend))
    end
    if is_telling then columns[#columns + 1] = { column = column, width = width } end
  end
  return columns
end

local function padded(text, column, width, is_last)
  local pad = (" "):rep(width - #text)
  if column.is_number then return pad .. text end
  return is_last and text or text .. pad
end

function Output:row(columns, text_of, color_of)
  local cells = {}
  for index, one in ipairs(columns) do
    local text, color = padded(text_of(one.column), one.column, one.width, index == #columns), color_of(one.column)
    cells[index] = color and self:paint(color, text) or text
  end
  return table.concat(cells, "  ") .. "\n"
end

function Output:why_lines(backend)
  local lines = {}
  for part in (provenance_of(backend) .. "; "):gmatch "(.-); " do lines[#lines + 1] = self:paint("dim", "  " .. part) .. "\n" end
  return table.concat(lines)
end

function Output:table_of(backends)
  local columns = columns_for(backends)
  local lines = { self:row(columns, function(column) return column.title end, function() return "bold" end) }
  for _, backend in ipairs(backends) do
    lines[#lines + 1] = self:row(columns, function(column) return column.text(backend) end,
      function(column) return column.color end)
    if self.has_why then lines[#lines + 1] = self:why_lines(backend) end
  end
  return table.concat(lines)
end

function Output:lines_of(backends)
  local lines = {}
  for _, backend in ipairs(backends) do
    lines[#lines + 1] = ("%s %d %s\n"):format(self:paint("cyan", backend.address), backend.port, backend.key)
    if self.has_why then lines[#lines + 1] = self:why_lines(backend) end
  end
  return table.concat(lines)
end

--- All backends at once.
-- @param asked { name =, service = } for JSON; either may be nil
-- @return as output:put
function Output:backends(list, asked)
  list = output.sorted(list)
  if self.is_json then
    local null = require "dkjson".null
    local objects = {}
    for index, backend in ipairs(list) do objects[index] = self:object_of(backend) end
    return self:put(encode { name = asked.name or null, service = asked.service or null, backends = objects })
  end
  return self:put(self.is_aligned and self:table_of(list) or self:lines_of(list))
end

-- Following ------------------------------------------------------------------------------

--- "2026-11-22T19:35:00.123Z"
-- @param time seconds since 1970
function output.timestamp(time)
  local ms = math.floor(time * 1000 + 0.5)
  return ("%s.%03dZ"):format(os.date("!%Y-%m-%dT%H:%M:%S", math.floor(ms / 1000)), ms % 1000)
end

--- One line: what became of a backend.
-- @param event "added", "removed" or "changed"
-- @return as output:put
function Output:event(event, backend)
  local time = output.timestamp(self.system.time())
  if self.is_json then
    local object = self:object_of(backend)
    object.time, object.event = time, event
    return self:put(encode(object))
  end
  local word = self:paint(EVENT_COLOR[event], self.is_aligned and ("%-7s"):format(event) or event)
  local line = ("%s %s %s %s"):format(self:paint("dim", time), word, address.join(backend.address, backend.port), backend.key)
  if self.has_why then
    line = line .. " " .. self:paint("dim", provenance_of(backend))
  end
  return self:put(line .. "\n")
end

return output
