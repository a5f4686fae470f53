--- Pages of the manual: their programs, and the servers that those of postgres.md and first-program.md need.
local host = require "cueball.host.uv"
local postgres = require "spec.support.postgres"
local redis = require "spec.support.redis"

local manual = {}

--- The fenced blocks of a page: list of { language =, text =, line = }.
function manual.blocks_of(text)
  local blocks, block, number = {}, nil, 0
  for line in (text .. "\n"):gmatch "(.-)\n" do
    number = number + 1
    local language = line:match "^%s*```(.*)$"
    if language and not block then
      block = { language = language, line = number + 1, lines = {} }
    elseif language then
      blocks[#blocks + 1] = { language = block.language, line = block.line, last = number,
        text = table.concat(block.lines, "\n") .. (#block.lines > 0 and "\n" or "") }
      block = nil
    elseif block then
      block.lines[#block.lines + 1] = line
    end
  end
  assert(not block, "a fenced block does not end")
  return blocks
end

local PROSE_MAX, ROW_MAX = 160, 240 -- characters of a line

--- Lines of prose that are too long: list of "NUMBER: CHARACTERS". Code and pictures cannot be broken. Rows of tables may be longer, and
-- their code and the targets of their links do not count: names are as long as they are.
function manual.long_prose(text)
  local long, number, in_block = {}, 0, false
  for line in (text .. "\n"):gmatch "(.-)\n" do
    number = number + 1
    if line:find "^%s*```" then
      in_block = not in_block
    elseif not in_block and not line:find "^!%[[^%]]*%]%([^)]*%)$" then
      local is_row = line:find "^%s*|"
      if is_row then line = line:gsub("%]%([^)]*%)", "]"):gsub("`[^`]*`", "``") end
      local _, count = line:gsub("[^\128-\191]", "") -- the first byte of each character
      if count > (is_row and ROW_MAX or PROSE_MAX) then long[#long + 1] = ("%d: %d"):format(number, count) end
    end
  end
  return long
end

--- A page without its fenced blocks.
function manual.without_blocks(text)
  return (("\n" .. text):gsub("\n%s*```[^\n]*\n.-\n%s*```", "\n"))
end

-- The address that a page names, and what starts a server in its place.
local ADDRESSES = { ["docs/postgres.md"] = "127.0.0.1:5432", ["docs/first-program.md"] = "127.0.0.1:6379" }
local START = { ["docs/postgres.md"] = postgres.start, ["docs/first-program.md"] = redis.start }
local servers = {}

--- A program of a page, with the server of a spec in place of the one that it names.
function manual.runnable(path, text)
  local address = ADDRESSES[path]
  if not address then return text end
  servers[path] = servers[path] or START[path]()
  host.log_to(function() end)
  return (text:gsub(address:gsub("%.", "%%."), servers[path].backend))
end

--- Ends what that began.
function manual.stop()
  host.log_to(nil)
  postgres.remove_all()
  if servers["docs/first-program.md"] then servers["docs/first-program.md"]:stop() end
  servers = {}
end

return manual
