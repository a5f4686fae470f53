--- Files that are read whole.
local file = {}

--- What a file has in it.
-- @return a string; or nil, message, which begins with the path: it is not there, may not be read, or is a folder
function file.text(path)
  local opened, message = io.open(path, "rb")
  if not opened then return nil, message end
  local content
  content, message = opened:read "*a"
  opened:close()
  if not content then return nil, ("%s: %s"):format(path, message) end
  return content
end

return file
