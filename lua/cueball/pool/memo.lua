--- context.memo: what a factory has learnt of a connection in its greeting, for whenever the connection is taken again. It lives as long as
-- the pool's connection does, so it is bounded.
local options = require "cueball.options"
local text = require "cueball.text"

local memo = {}

local MEMBERS_MAX, BYTES_MAX = 32, 4096

local KINDS = { string = true, number = true, boolean = true }

--- What is wrong with a memo that a factory has filled: a message; nil: nothing.
function memo.fault(given)
  if type(given) ~= "table" then return "context.memo must stay a table, not " .. options.show(given) end
  local members, bytes = 0, 0
  for name, value in next, given do
    if type(name) ~= "string" or not KINDS[type(value)] then
      return ("context.memo takes strings, numbers and booleans under names, not a %s under %s"):format(type(value), text.show(name))
    end
    members, bytes = members + 1, bytes + #name + (type(value) == "string" and #value or 0)
  end
  if members > MEMBERS_MAX then return ("context.memo has %d members, and may have %d"):format(members, MEMBERS_MAX) end
  if bytes > BYTES_MAX then return ("context.memo has %d bytes of names and texts, and may have %d"):format(bytes, BYTES_MAX) end
  return nil
end

return memo
