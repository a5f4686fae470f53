--- assert.trace(world, text): the trace of a world is this text, line by line; how the text is indented does not matter.
-- world:trace() gives it.
local luassert = require "luassert"
local say = require "say"

local function trimmed(text)
  local lines = {}
  for line in text:gmatch "[^\n]+" do
    line = line:match "^%s*(.-)%s*$"
    if line ~= "" then lines[#lines + 1] = line end
  end
  return table.concat(lines, "\n")
end

--- For asserts of the same kind: is the last of the arguments the text?
local function compare(arguments, text)
  arguments[1], arguments[2] = trimmed(arguments[#arguments]), text
  arguments.n, arguments.nofmt = 2, { true, true }
  return arguments[1] == text
end

say:set("assertion.trace.positive", "It should be:\n%s\nIt is:\n%s")
luassert:register("assertion", "trace", function(_, arguments)
  return compare(arguments, arguments[1]:trace())
end, "assertion.trace.positive")

return { compare = compare, message = "assertion.trace.positive" }
