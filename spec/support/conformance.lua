--- Programs that run both in a real nginx and here: what they hear must be the same.
local nginx = require "spec.support.nginx"

local conformance = {}

--- What such a program begins with. It defines `text(value)`, calls `note` for what is to be compared, and gets its chance from `state`,
-- so that a seed is a run. `lines` is what it returns.
conformance.HEAD = [==[
local lines, state, text = {}
local function note(name, fn, ...)
  local given, got = {}, { pcall(fn, ...) }
  if not got[1] then got[2] = tostring(got[2]):gsub("^.-%.lua:%d+: ", ""):gsub("argument #(%d) to '[^']*'", "argument #%1") end
  for index = 1, select("#", ...) do given[index] = text((select(index, ...))) end
  for index = 1, 4 do got[index] = text(got[index]) end
  lines[#lines + 1] = ("%s(%s): %s"):format(name, table.concat(given, ", "), table.concat(got, ", ", 1, 4))
end
local function random(count)
  state = state * 16807 % 2147483647
  return state % count
end
local function one_of(list) return list[random(#list) + 1] end
]==]

--- A seed for this run.
function conformance.seed()
  return 1 + require("luv").hrtime() % 2147483646
end

--- What the program says in nginx.
-- @param program   its text: a chunk that returns a function, which returns `lines`
-- @param arguments Lua text of the function's arguments, as they are there
-- @param http      nil, or directives of nginx
function conformance.said(program, arguments, http)
  local there = nginx.start {
    files = { ["program.lua"] = program }, http = http,
    server = ([[location /run { content_by_lua_block { ngx.print(table.concat(require "program"(%s), "\0\n")) } }]]):format(arguments),
  }
  local ok, said = pcall(there.ask, there, "/run")
  there:stop()
  return assert(ok and said, said)
end

--- Raises an error at the first line that differs.
-- @param said what the program said in nginx
-- @param here its lines here
function conformance.compare(seed, said, here)
  local index = 0
  for line in (said .. "\0\n"):gmatch "(.-)%z\n" do
    index = index + 1
    if line ~= here[index] then error(("seed %d: nginx says\n  %s\nand here\n  %s"):format(seed, line, tostring(here[index])), 0) end
  end
  assert(#here == index, ("seed %d: nginx says %d lines, and there are %d here"):format(seed, index, #here))
end

return conformance
