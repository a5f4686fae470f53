--- A console and a monitor that are polled each second, for eight hours of virtual time: 28,800 polls leave memory as it was.
local connection = require "cueball.console.connection"
local cueball = require "cueball"
local json = require "cueball.monitor.json"
local memory = require "spec.support.memory"
local routes = require "cueball.monitor.routes"
local settings = require "cueball.console.settings"
local sim = require "cueball.host.sim"

local POLLS, ROUND, ALLOWED_KIB = 28800, 4000, 16

local world, pool

local REQUESTS = {
  { run = "leases { older = '1s' }" }, { run = ":backends form=json" }, { run = "x = #pools() return x", form = "json" },
  { complete = "back", position = 4 }, { run = "waiters()", form = "lua" }, { run = "nothing.there" },
}

describe("eight hours of polls", function()
  before_each(function()
    world = sim.new {}
    for index = 1, 2 do world.server("10.0.0." .. index, 80) end
    pool = cueball.pool {
      name = "db", host = world, max_connections = 4, connect = cueball.connection.tcp {},
      resolver = cueball.resolver.static { "10.0.0.1:80", "10.0.0.2:80" },
    }
    world.spawn(function()
      while true do -- it works meanwhile
        pool:with(function() world.sleep(4000) end)
        world.sleep(6000)
      end
    end)
    world.advance(1000)
  end)
  after_each(function()
    world.spawn(function() pool:stop() end)
    world.advance(60000)
    world.close()
  end)

  it("leave the console's memory as it was", function()
    local count, answers, sizes = 0, 0, {}
    local stream = { settimeouts = function() end }
    function stream.receiveany()
      count = count + 1
      if count == 1 then return '{"hello":1}\n' end
      if count % ROUND == 0 then sizes[#sizes + 1] = memory.heap_kib() end
      if count > POLLS then return nil, "closed" end
      world.sleep(1000)
      local asked = REQUESTS[count % #REQUESTS + 1]
      asked.id = count
      return json.encode(asked) .. "\n"
    end
    function stream.send(_, bytes)
      answers = answers + select(2, bytes:gsub('"done":true', ""))
      return #bytes
    end
    local set = settings.of("spec", { budget_ms = 5000 }, world)
    world.spawn(function() connection.serve(stream, { address = "spec" }, set) end)
    for _ = 1, POLLS + 10 do world.advance(1000) end
    assert.equal(POLLS - 1, answers)
    assert.is_true(memory.least_growth(sizes) < ALLOWED_KIB, ("%d KiB more"):format(memory.least_growth(sizes)))
  end)

  it("leave the monitor's memory as it was", function()
    local server = { host = world, kept = {}, kept_count = 0, is_wanted = function() return true end }
    local sizes, size, is_over = {}, nil, nil
    world.spawn(function()
      for number = 1, POLLS do
        size = #routes.snapshot_text(server, { where = false, limit = 100 })
        if number % ROUND == 0 then sizes[#sizes + 1] = memory.heap_kib() end
        world.sleep(1000)
      end
      is_over = true
    end)
    for _ = 1, POLLS + 10 do world.advance(1000) end
    assert.is_true(is_over and size > 500)
    assert.is_true(memory.least_growth(sizes) < ALLOWED_KIB, ("%d KiB more"):format(memory.least_growth(sizes)))
  end)
end)
