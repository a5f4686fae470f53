--- What a sink does for those who script: pauses, endings, failures before the first list, lists of any kind.
local cueball = require "cueball"
local sim_town = require "spec.support.sim_town"

local town, world, pool

local function open(resolver, options)
  town = sim_town.new()
  world = town.world
  pool = town:open({ name = "db", resolver = resolver }, options)
  world.settle()
  return pool
end

after_each(function() town:stop() end)

local function warnings()
  local list = {}
  for _, one in ipairs(world.logs) do
    if one.level == "warn" then list[#list + 1] = one.message end
  end
  return list
end

describe("sink:pause", function()
  local function pauses(recovery, count, reset_at)
    local list, last = {}, nil
    open(function(sink)
      for number = 1, count do
        if number == reset_at then sink:set { "10.0.0.1:80" } end
        last = world.time_ms()
        sink:pause()
        list[number] = ("%.4g"):format(world.time_ms() - last)
      end
      sink:sleep(math.huge)
    end, { recovery = recovery })
    world.advance(3600e3)
    return table.concat(list, " ")
  end

  it("doubles from delay_ms up to max_delay_ms of the pool's recovery.default, and a good answer begins anew", function()
    local recovery = { default = { delay_ms = 50, max_delay_ms = 400, spread = 0 } }
    assert.equal("50 100 200 400 400", pauses(recovery, 5))
    assert.equal("50 100 50 100", pauses(recovery, 4, 3))
  end)

  it("goes up to 30 s where nothing was said, give or take the spread", function()
    assert.equal("100 200 400 800 1600 3200 6400 1.28e+04 2.56e+04 3e+04 3e+04", pauses({ default = { spread = 0 } }, 11))
    local spread = pauses(nil, 1)
    assert.is_true(spread ~= "100" and tonumber(spread) >= 80 and tonumber(spread) <= 120, spread)
  end)

  it("ends with the resolver, as a sleep does", function()
    local answer
    open(function(sink) answer = sink:pause() end)
    pool:stop()
    world.settle()
    assert.is_false(answer)
  end)
end)

describe("sink:on_end", function()
  it("is called once, the latest first, when the resolver is to end while it waits in something else", function()
    local ended = {}
    open(function(sink)
      sink:set { "10.0.0.1:80" }
      sink:on_end(function() ended[#ended + 1] = "one" end)
      local take_back = sink:on_end(function() ended[#ended + 1] = "two" end)
      sink:on_end(function() ended[#ended + 1] = "three" end)
      take_back()
      world.waiter():wait()
    end)
    world.advance(1000)
    assert.same({}, ended)
    pool:stop()
    world.settle()
    assert.same({ "three", "one" }, ended)
    pool:stop()
    assert.equal(2, #ended)
  end)

  it("is called when another resolver takes its place, and before one that threw is started again", function()
    local ended, runs = {}, 0
    open(function(sink)
      runs = runs + 1
      local number = runs
      sink:on_end(function() ended[#ended + 1] = number end)
      if runs == 1 then error "a slip" end
      sink:sleep(math.huge)
    end)
    world.advance(1000)
    assert.same({ 1 }, ended)
    pool:replace { resolver = cueball.resolver.static { "10.0.0.1:80" } }
    assert.same({ 1, 2 }, ended)
  end)

  it("is called at once if it is too late, and what throws in it is said and no more", function()
    local sink, ended = nil, 0
    open(function(one)
      sink = one
      one:on_end(function() error "cannot close" end)
    end)
    pool:stop()
    world.settle()
    local said = {}
    for _, one in ipairs(world.logs) do said[#said + 1] = one.message end
    assert.is_truthy(table.concat(said, "\n"):find("cannot close", 1, true))
    sink:on_end(function() ended = ended + 1 end)
    assert.equal(1, ended)
    assert.has_error(function() sink:on_end "no function" end)
  end)
end)

describe("sink:fail with not_yet", function()
  it("lets claims wait before the first list, and is a failure after it", function()
    open(function(sink)
      sink:fail("still looking", { not_yet = true })
      sink:sleep(500)
      sink:set { "10.0.0.1:80" }
      sink:sleep(500)
      sink:set {}
      sink:fail("lost it", { not_yet = true })
      sink:sleep(math.huge)
    end)
    local got, message
    local failures = 0
    pool:subscribe(function(event) if event.kind == "resolver_failed" then failures = failures + 1 end end)
    world.spawn(function()
      local lease
      lease, message = pool:claim { timeout_ms = 2000 }
      got = lease and world.time_ms()
      if lease then lease:release() end
    end)
    world.advance(10)
    assert.equal("starting", pool:state())
    assert.same({ true, "still looking" }, { pool:resolver().failing, pool:resolver().message })
    world.advance(900)
    assert.is_true(got ~= nil and got >= 500 and got < 900, tostring(got) .. " " .. tostring(message))
    world.advance(500)
    assert.same({ true, "lost it" }, { pool:resolver().failing, pool:resolver().message })
    assert.equal(1, failures) -- the second alone is the pool's business
  end)

  it("is as without where nothing is said", function()
    open(function(sink)
      sink:fail "gone"
      sink:sleep(math.huge)
    end)
    assert.equal("failed", pool:state())
    assert.has_error(function() pool.sink:fail("x", true) end)
  end)
end)

describe("sink:set", function()
  local function set(...)
    local answers = {}
    local given = { ... }
    open(function(sink)
      sink:set { "10.0.0.1:80", "10.0.0.2:80" }
      for index, one in ipairs(given) do answers[index] = { sink:set(one) } end
      sink:sleep(math.huge)
    end)
    return answers
  end

  it("takes texts, as resolver.static does", function()
    assert.same({ { true, 0, {} } }, set { "10.0.0.3:80", "[::1]:81", { address = "10.0.0.4", port = 82, weight = 2 } })
    assert.equal("10.0.0.3:80 10.0.0.4:82 [::1]:81", town:keys())
  end)

  it("says how many were passed over, and why", function()
    local answer = set({ "10.0.0.3:80", "10.0.0", 7, { address = "10.0.0.4" } })[1]
    assert.same({ true, 3 }, { answer[1], answer[2] })
    assert.equal(3, #answer[3])
    assert.is_truthy(answer[3][1]:find("is not an address", 1, true))
    assert.equal("10.0.0.3:80", town:keys())
  end)

  it("refuses a map, one backend, a list with gaps or names, and a list of nothing but rubbish, and changes nothing", function()
    local answers = set({ a = { address = "10.0.0.9", port = 80 } }, { address = "10.0.0.9", port = 80 },
      { [1] = "10.0.0.9:80", [3] = "x" }, { "10.0.0.9:80", extra = { address = "10.0.0.8", port = 80 } }, { "rubbish", 7 })
    for index, words in ipairs { 'the key "a"', "one backend", "the key 3", 'the key "extra"', "none of 2 is a backend" } do
      assert.is_nil(answers[index][1])
      assert.equal("invalid", answers[index][3])
      assert.is_truthy(answers[index][2]:find(words, 1, true), answers[index][2])
    end
    assert.equal("10.0.0.1:80 10.0.0.2:80", town:keys())
  end)

  it("takes an empty list for what it is", function()
    assert.same({ { true, 0, {} } }, set {})
    assert.equal("", town:keys())
  end)

  it("complains once of the same, and again once it is something else", function()
    local good, bad = { "10.0.0.1:80" }, { "10.0.0.1:80", "rubbish" }
    set(bad, bad, { "10.0.0.1:80", "other" }, good, bad)
    local list = {}
    for _, line in ipairs(warnings()) do list[#list + 1] = line:match '"(%a+)" is not' end
    assert.same({ "rubbish", "other", "rubbish" }, list)
  end)
end)
