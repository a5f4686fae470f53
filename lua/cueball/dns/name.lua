--- Names of the DNS as people write them: are they fit to be asked for?
local address = require "cueball.address"
local said = require("cueball.text").format

local name = { LENGTH_MAX = 253 }

local LABEL_MAX, NAME_MAX = 63, name.LENGTH_MAX

-- "\." and "\ddd" stand for one octet each (RFC 1035, 5.1).
local function octets_of(text)
  return #text:gsub("\\%d%d%d", "x"):gsub("\\.", "x")
end

-- The labels: dots within one are written "\.".
local function labels_of(text)
  local hidden = text:gsub("\\%d%d%d", "\1\1\1\1"):gsub("\\.", "\1\1")
  local labels, from = {}, 1
  for position in (hidden .. "."):gmatch "()%." do
    labels[#labels + 1] = text:sub(from, position - 1)
    from = position + 1
  end
  return labels
end

local function octets_fault(text)
  if text:find "[\128-\255]" then return "it has letters beyond ASCII: write the name in its xn-- form (RFC 5890)" end
  if text:find "[%s%c]" then return "there are blanks in it" end
  for first, more in text:gmatch "\\(.)(%d?%d?)" do
    if first:find "%d" and (#more < 2 or tonumber(first .. more) > 255) then
      return ("\\%s is no octet: expected a backslash and three digits up to 255"):format(first .. more)
    end
  end
  local odd = text:gsub("\\.", ""):match "[^%w%-_.]"
  if odd then return said("%q is no part of a host name", odd) end
end

--- What is wrong with a name, as the end of a sentence; nil if nothing is.
-- A name whose last label is all digits is no name of a host (RFC 3696, 2): it is
-- an address with a slip in it.
-- @param text of any type; a dot at its end is fine
function name.fault(text)
  if type(text) ~= "string" then return "it is no string but " .. type(text) end
  if text == "" or text == "." then return "it is empty" end
  if address.family(text) then return "it is an address, not a name" end
  local fault = octets_fault(text)
  if fault then return fault end
  local labels = labels_of(text)
  if labels[#labels] == "" then labels[#labels] = nil end
  local length = #labels - 1
  for _, label in ipairs(labels) do
    local size = octets_of(label)
    if size == 0 then return "two dots stand side by side, or one at its beginning" end
    if size > LABEL_MAX then return said("the part %q has %d octets, and %d are the most", label, size, LABEL_MAX) end
    length = length + size
  end
  if length > NAME_MAX then return ("it has %d octets, and %d are the most"):format(length, NAME_MAX) end
  if labels[#labels]:find "^%d+$" then return "its last part is a number, so it looks like an IPv4 address, but is none" end
end

--- The same for a service: "_http._tcp".
function name.service_fault(text)
  if type(text) ~= "string" then return "it is no string but " .. type(text) end
  local service, protocol = text:match "^_([%w%-]+)%._([%w%-]+)$"
  if not service then return "a service is two parts with underscores" end
  if #service >= LABEL_MAX or #protocol >= LABEL_MAX then return ("a part has more than %d octets"):format(LABEL_MAX) end
end

--- Without case and without a dot at the end, for comparing.
function name.folded(text)
  return (text:lower():gsub("%.$", ""))
end

return name
