--- What several who ask the monitor at once share: in virtual time.
local detail = require "cueball.monitor.detail"
local routes = require "cueball.monitor.routes"
local sim = require "cueball.host.sim"

describe("a snapshot that several ask for", function()
  local world, server, made, snapshot

  before_each(function()
    world, made, snapshot = sim.new { seed = 1 }, 0, detail.snapshot
    server = { host = world, kept = {}, kept_count = 0, is_wanted = function() return true end }
    detail.snapshot = function()
      made = made + 1
      world.sleep(1000)
      return { version = "1", time_s = made, process = {}, pools = {} }
    end
  end)

  after_each(function()
    detail.snapshot = snapshot
    world.close()
  end)

  local function ask() return routes.snapshot_text(server, { limit = 1 }) end

  -- Three who ask, a tenth of a second apart. → when each was answered, in ms; in the task of run
  local function ask_thrice(on_task)
    local began, answered = world.now(), {}
    for number = 1, 3 do
      local task = world.spawn(function()
        ask()
        answered[number] = math.floor((world.now() - began) / 1e6 + 0.5)
      end)
      if on_task then on_task(number, task) end
      world.sleep(100)
    end
    world.sleep(20000)
    return answered
  end

  it("is made once", function()
    assert.same({ 1000, 1000, 1000 }, world.run(ask_thrice))
    assert.equal(1, made)
  end)

  it("is made by another if the one who makes it ended in the middle", function()
    local answered = world.run(function()
      return ask_thrice(function(number, task)
        if number == 1 then world.spawn(function() world.sleep(500) world.kill(task) end) end
      end)
    end)
    assert.same({ [2] = 11100, [3] = 11100 }, answered)
    assert.same({ 2, 1 }, { made, server.kept_count })
  end)
end)
