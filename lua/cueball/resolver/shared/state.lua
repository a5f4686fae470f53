--- What a resolver knows, as a text that lies in shared memory.
--
--   line 1:  version of this format, who wrote it, "failed" or "well", the failure's message
--   "+"      a backend: key, name, address, port, weight, priority, provenance
--   "-"      one that went not long ago: key, how that is known
--
-- Fields are separated by tabs.
local state = {}

local FORMAT = "cueball 1"

local ESCAPES = { ["\\"] = "\\\\", ["\t"] = "\\t", ["\n"] = "\\n" }
local UNESCAPES = { ["\\\\"] = "\\", ["\\t"] = "\t", ["\\n"] = "\n" }

-- Few fields need it, and looking is cheap.
local function escape(text)
  return text:find "[\\\t\n]" and text:gsub("[\\\t\n]", ESCAPES) or text
end

local function unescape(text)
  return text:find("\\", 1, true) and text:gsub("\\.", UNESCAPES) or text
end

local function line_of(...)
  local fields = { ... }
  for index, field in ipairs(fields) do fields[index] = escape(tostring(field)) end
  return table.concat(fields, "\t")
end

local function fields_of(line)
  local fields = {}
  for field in (line .. "\t"):gmatch "(.-)\t" do fields[#fields + 1] = unescape(field) end
  return fields
end

--- A text of it all.
-- @param writer   who writes, a text
-- @param failure  nil; or why the backends cannot be found at present
-- @param backends a list, each as cueball.address.backend returns it
-- @param gone     how those that went are known to be gone, by key
function state.write(writer, failure, backends, gone)
  local lines = { line_of(FORMAT, writer, failure and "failed" or "well", failure or "") }
  for _, one in ipairs(backends) do
    lines[#lines + 1] = line_of("+", one.key, one.name, one.address, one.port, one.weight, one.priority, one.provenance or "")
  end
  local keys = {} -- in order: the same facts are the same text
  for key in pairs(gone) do keys[#keys + 1] = key end
  table.sort(keys)
  for _, key in ipairs(keys) do lines[#lines + 1] = line_of("-", key, gone[key]) end
  return table.concat(lines, "\n")
end

local function read_line(line, found)
  local fields = fields_of(line)
  if fields[1] == "-" then
    found.gone[fields[2]] = fields[3]
  elseif fields[1] == "+" then
    found.is_whole = found.is_whole and tonumber(fields[5]) and tonumber(fields[6]) and tonumber(fields[7]) and fields[8] ~= nil
    found.backends[#found.backends + 1] = {
      key = fields[2], name = fields[3], address = fields[4], port = tonumber(fields[5]), weight = tonumber(fields[6]),
      priority = tonumber(fields[7]), provenance = fields[8] ~= "" and fields[8] or nil,
    }
    found.lines[fields[2]] = line
  end
end

--- Reads it.
-- @return { writer, failure, backends, gone, lines = { the backend's line, by key } }; nil: it is something else
function state.read(text)
  local found = { backends = {}, gone = {}, lines = {}, is_whole = true }
  for line in text:gmatch "[^\n]+" do
    if found.writer then
      read_line(line, found)
    else
      local head = fields_of(line)
      if head[1] ~= FORMAT then return nil end
      found.writer, found.failure = head[2], head[3] == "failed" and head[4] or nil
    end
  end
  return found.writer and found.is_whole and found or nil
end

return state
