--- docs/testing.md: its spec, as it stands there, run by busted.
local shell = require "spec.support.shell"
local blocks_of = require("spec.support.manual").blocks_of

-- What busted wrote about the page's two programs, and its status.
local function run(catalog, spec)
  local folder = shell.must "mktemp -d"
  shell.write(folder .. "/catalog.lua", catalog)
  shell.write(folder .. "/catalog_spec.lua", spec)
  shell.write(folder .. "/run.lua", 'require "busted.runner" { standalone = false }')
  local command = "cd '%s' && LUA_PATH=\"$LUA_PATH;./?.lua\" luajit run.lua catalog_spec.lua"
  local output, status = shell.run(command:format(folder))
  shell.must("rm -rf '" .. folder .. "'")
  return output, status
end

describe("docs/testing.md", function()
  local programs = {}
  for _, block in ipairs(blocks_of(shell.text_of "docs/testing.md")) do
    if block.language == "lua" then programs[#programs + 1] = block.text end
  end

  it("has a spec that holds", function()
    assert.equal(2, #programs)
    local output, status = run(programs[1], programs[2])
    assert.equal(0, status, output)
    assert.is_truthy(output:find "5 successes / 0 failures / 0 errors", output)
  end)

  it("has a spec that finds a mistake", function()
    local output = run(programs[1]:gsub("self%.known%[thing%] = price", "self.known[thing] = 1"), programs[2])
    assert.is_truthy(output:find "[1-9] failure", output)
  end)
end)
