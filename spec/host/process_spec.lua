--- What a process knows of itself and of others: names that do not come again, and who lives.
local process = require "cueball.host.process"

describe("a process", function()
  it("has a name that no other process ever has, and is known to live or not", function()
    local own = process.name()
    assert.matches("^%d+%.%d+$", own)
    assert.is_true(process.is_alive(own))
    assert.is_false(process.is_alive(own:match "^%d+" .. ".1")) -- its number was another's before
    local pipe = io.popen "echo $$; cat /proc/$$/stat"
    local pid, stat = pipe:read "*l", pipe:read "*a"
    pipe:close()
    local fields = {}
    for field in stat:match("%) (.*)"):gmatch "%S+" do fields[#fields + 1] = field end
    assert.is_false(process.is_alive(pid .. "." .. fields[20]))
    assert.is_nil(process.is_alive "something else")
  end)

  it("shares nothing outside of nginx", function()
    assert.is_nil(process.dict "cueball")
    assert.is_false(process.is_exiting())
    assert.equal(1, process.count())
  end)
end)
