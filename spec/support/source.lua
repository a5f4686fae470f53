--- The text of the tree's files, for specs that check it.
local source = {}

local shell = require "spec.support.shell"
local root = shell.root

source.root = root

source.read = shell.read

function source.lines_of(command)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local lines = {}
  for line in pipe:lines() do
    lines[#lines + 1] = line
  end
  pipe:close()
  return lines
end

function source.files(folder, pattern)
  return source.lines_of(("cd '%s' && find %s -name '%s' -type f | sort"):format(root, folder, pattern))
end

function source.line_number(text, position)
  return select(2, text:sub(1, position - 1):gsub("\n", "")) + 1
end

--- Blanks, but for line ends, so that positions stay.
function source.blank(text)
  return (text:gsub("[^\n]", " "))
end

--- Where the string ends whose quote stands at this position, in Lua or C.
function source.end_of_string(text, position)
  local quote, stop = text:sub(position, position), position
  repeat
    stop = stop + 1
    local byte = text:sub(stop, stop)
    if byte == "\\" then stop = stop + 1 end
  until byte == quote or stop >= #text
  return stop
end

--- Blanks comments and strings, but for strings that name a module.
function source.strip_lua(text)
  local out, position = {}, 1
  while position <= #text do
    local level = text:match("^%[(=*)%[", position)
    local comment_level = text:match("^%-%-%[(=*)%[", position)
    local quote = text:match("^[\"']", position)
    local stop
    if comment_level then
      stop = select(2, text:find("]" .. comment_level .. "]", position, true)) or #text
    elseif text:find("^%-%-", position) then
      stop = (text:find("\n", position, true) or #text + 1) - 1
    elseif level then
      stop = select(2, text:find("]" .. level .. "]", position, true)) or #text
    elseif quote then
      stop = source.end_of_string(text, position)
    end
    if stop then
      local piece, before = text:sub(position, stop), table.concat(out):sub(-40)
      local names_module = before:match "%f[%w_]require[%s(,]*$" or before:match "%f[%w_]loaded%s*%[%s*$"
        or before:match "%f[%w_]_G%s*%[%s*$"
      local is_comment = piece:find "^%-%-"
      out[#out + 1] = not is_comment and names_module and piece or source.blank(piece)
      position = stop + 1
    else
      local stop_plain = (text:find("[%[%-\"']", position + 1) or #text + 1) - 1
      out[#out + 1] = text:sub(position, stop_plain)
      position = stop_plain + 1
    end
  end
  return table.concat(out)
end

return source
