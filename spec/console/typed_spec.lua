--- Verbs typed as commands: behind a colon there may be words, or the table that the function takes.
local cueball = require "cueball"
local dkjson = require "dkjson"
local host = require "cueball.host.uv"
local seat = require "cueball.console.seat"

-- What a seat shows for each of these lines, in a program with one pool.
-- @param budget_ms how long one may take; it counts the time of other processes, too
local function typed(lines, allow, budget_ms)
  local shown = {}
  host.run(function()
    local pool = cueball.pool { name = "db", max_connections = 2, connect = function() return {} end,
      resolver = cueball.resolver.static { "127.0.0.1:1", "127.0.0.1:2" } }
    pool:ready { connections = 2 }
    local one = seat.new {
      host = host, allow = allow or "read", who = "spec", budget_ms = budget_ms or 5000,
      output = function(words, kind) shown[#shown] = shown[#shown] .. (kind == "error" and "! " or "") .. words end,
    }
    for index, line in ipairs(lines) do
      shown[index] = ""
      one:run(line)
    end
    one:close()
    pool:stop()
  end)
  return unpack(shown)
end

describe("a verb behind a colon", function()
  before_each(function() host.log_to(function() end) end)
  after_each(function() host.log_to(nil) end)

  it("takes words, or a table, and means the same", function()
    for _, allow in pairs { "read", "write" } do
      local words, one, all = typed({ ":pools state=failed", ':pools { state = "failed" }', ":pools {}" }, allow)
      assert.equal("none", words)
      assert.equal("none", one)
      assert.matches("^POOL.*\ndb ", all)
    end
  end)

  it("tells in words what the planner would do", function()
    local words, given, json = typed {
      ":plan remove=127.0.0.1:1", ':plan { remove = { "127.0.0.1:1" } }', ":plan remove=127.0.0.1:1 form=json",
    }
    assert.matches("^remove 127%.0%.0%.1:1:\n  127%.0%.0%.1:%d  1 %-> ", words)
    assert.matches("^remove 127%.0%.0%.1:1:\n  127%.0%.0%.1:%d  1 %-> ", given)
    assert.matches("^remove 127%.0%.0%.1:1:\n", dkjson.decode(json).text)
  end)

  it("changes with a table, too, where one may", function()
    local paused, state, refused = typed({ ':pause { pool = "db" }', ":pools form=lua", ":pause {" }, "write")
    assert.equal("done", paused)
    assert.matches("paused = true", state)
    assert.matches("^! ?", refused)
    assert.matches("for looking only", (typed { ':pause { pool = "db" }' }))
  end)

  it("says what is wrong with a table", function()
    local option, syntax, value = typed { ":pools { stat = 1 }", ":pools { stat = }", ":pools {} and 5" }
    assert.matches("^! .*unknown option 'stat'; did you mean 'state'%?", option)
    assert.matches("^! :pools:1: unexpected symbol", syntax)
    assert.equal("! give a table, or NAME=VALUE", value)
  end)

  it("runs no longer than any command of a reader", function()
    assert.matches("ran for more than 50 ms", (typed({ ":pools { pool = (function() while true do end end)() }" }, "read", 50)))
    assert.matches("a string may have", (typed { ':pools { pool = ("x"):rep(1e9) }' }))
    assert.matches("attempt to index", (typed { ":pools { pool = io.open('/etc/passwd') }" }))
  end)
end)
