--- A session as a Lua file: what went well, in order; or as a spec for busted, which repeats it in virtual time.
local script = {}

-- An expression stands in a file only as an argument.
local function statement(one)
  return one.is_expression and ("print(%s)"):format(one.text) or one.text
end

local function indented(words, margin)
  return (words:gsub("[^\n]+", margin .. "%0"))
end

--- @param is_spec whether it is to be a spec
function script.of(session, is_spec)
  local lines = {}
  for _, one in ipairs(session.recorded) do lines[#lines + 1] = statement(one) end
  local body = table.concat(lines, "\n")
  local seed = session.world and session.seed or 1
  if is_spec then
    return ([[
local cueball = require "cueball"

describe("a session", function()
  it("goes as it went", function()
    local world = require("cueball.host.sim").new { seed = %d, task_errors = "log" }
    local before = require("cueball.host").use(world)
    world.run(function()
%s
    end)
    require("cueball.host").use(before)
    world.close()
  end)
end)
]]):format(seed, indented(body, "      "))
  end
  local world = session.world and ('local world = require("cueball.host.sim").new { seed = %d, task_errors = "log" }\n'
    .. 'require("cueball.host").use(world)\n'):format(seed) or ""
  return ('local cueball = require "cueball"\n%s\n%s(function()\n%s\nend)\n'):format(world, session.world and "world.run" or "cueball.run",
    indented(body, "  "))
end

return script
