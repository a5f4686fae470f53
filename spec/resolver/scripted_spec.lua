--- resolver.poll, resolver.watch, resolver.file, and resolver.shared in one process.
local cueball = require "cueball"
local sim_town = require "spec.support.sim_town"

local town, world
local keys = sim_town.keys

local function open(resolver, options)
  local pool = town:open({ resolver = resolver, recovery = { default = { spread = 0 } } }, options)
  world.settle()
  return pool
end

local function blames(words, fn)
  local ok, message = pcall(fn)
  assert.is_false(ok)
  assert.is_truthy(tostring(message):find("scripted_spec.lua", 1, true), message)
  assert.is_truthy(tostring(message):find(words, 1, true), message)
end

before_each(function()
  town = sim_town.new()
  world = town.world
end)

after_each(function() town:stop() end)

describe("resolver.poll", function()
  it("looks again every interval_ms", function()
    local looks = {}
    local pool = open(cueball.resolver.poll { name = "web", interval_ms = 1000, step = function()
      looks[#looks + 1] = world.time_ms()
      return { ("10.0.0.%d:80"):format(#looks) }
    end })
    assert.equal("cueball.pool (web, running)", tostring(pool))
    world.advance(2500)
    assert.same({ 0, 1000, 2000 }, looks)
    assert.equal("10.0.0.3:80", keys(pool))
  end)

  it("fails with what the step says, once, and tries again with longer and longer pauses; claims wait for the first list", function()
    local looks, list = {}, nil
    local pool = open(cueball.resolver.poll { interval_ms = 60000, step = function()
      looks[#looks + 1] = world.time_ms()
      if list then return list end
      return nil, "the directory does not answer"
    end })
    world.advance(1000)
    assert.equal("starting", pool:state())
    assert.same({ 0, 100, 300, 700 }, looks)
    assert.equal("the directory does not answer", pool:resolver().message)
    local said = 0
    for _, one in ipairs(world.logs) do if one.message:find("does not answer", 1, true) then said = said + 1 end end
    assert.equal(1, said)
    list = { "10.0.0.1:80" }
    world.advance(1000)
    assert.equal("10.0.0.1:80", keys(pool))
    assert.is_false(pool:resolver().failing)
  end)

  it("fails where the step gives nothing, or what is no list, and keeps what it had", function()
    local answers = { { "10.0.0.1:80" }, nil, "text", { a = 1 } }
    local count, messages = 0, {}
    local pool = open(cueball.resolver.poll { interval_ms = 10, step = function()
      count = count + 1
      return answers[count] or count > 4 and answers[1] or nil
    end })
    pool:subscribe(function(event) if event.kind == "resolver_failed" then messages[#messages + 1] = pool:resolver().message end end)
    world.advance(800)
    assert.equal("10.0.0.1:80", keys(pool))
    assert.equal("the step returned neither a list nor a message", messages[1])
  end)

  it("refuses mistakes at the caller's line", function()
    blames("option 'step' is required", function() cueball.resolver.poll {} end)
    blames("option 'interval_ms' must be", function() cueball.resolver.poll { step = print, interval_ms = 0 } end)
  end)
end)

describe("resolver.watch", function()
  it("lists once, and follows from there", function()
    local lists, from, changes = 0, {}, { "10.0.0.2:80", "10.0.0.3:80" }
    local pool = open(cueball.resolver.watch {
      list = function()
        lists = lists + 1
        return { "10.0.0.1:80" }, 7
      end,
      follow = function(sink, position)
        from[#from + 1] = position
        if not changes[position - 6] then
          sink:sleep(math.huge)
          return false
        end
        sink:sleep(1000)
        sink:add(changes[position - 6])
        return position + 1
      end,
    })
    world.advance(5000)
    assert.same({ 7, 8, 9 }, from)
    assert.equal(1, lists)
    assert.equal("10.0.0.1:80 10.0.0.2:80 10.0.0.3:80", keys(pool))
  end)

  it("lists anew, with longer and longer pauses, where following ends at once", function()
    local lists = {}
    local pool = open(cueball.resolver.watch {
      list = function()
        lists[#lists + 1] = world.time_ms()
        return { "10.0.0.1:80" }, 1
      end,
      follow = function() return nil, "the stream broke" end,
    })
    world.advance(1000)
    assert.same({ 0, 100, 300, 700 }, lists)
    assert.equal("the stream broke", pool:resolver().message)
    assert.equal("10.0.0.1:80", keys(pool))
  end)

  it("lists anew at once where following lasted", function()
    local lists = {}
    open(cueball.resolver.watch {
      list = function()
        lists[#lists + 1] = world.time_ms()
        return { "10.0.0.1:80" }, 1
      end,
      follow = function(sink)
        sink:sleep(30000)
        return false
      end,
    })
    world.advance(70000)
    assert.same({ 0, 30000, 60000 }, lists)
  end)

  it("waits for the first list as claims do", function()
    local pool = open(cueball.resolver.watch { list = function() return nil, "away" end, follow = function() end })
    world.advance(1000)
    assert.equal("starting", pool:state())
    assert.equal("away", pool:resolver().message)
  end)

  it("refuses mistakes at the caller's line", function()
    blames("option 'list' is required", function() cueball.resolver.watch { follow = print } end)
    blames("option 'follow' is required", function() cueball.resolver.watch { list = print } end)
  end)
end)

describe("resolver.file", function()
  local path

  local function write(text)
    local file = assert(io.open(path, "wb"))
    file:write(text)
    file:close()
  end

  before_each(function() path = os.tmpname() end)
  after_each(function() os.remove(path) end)

  it("has a backend a line, with what is known of it", function()
    write "# two nodes\n10.0.0.1:80\n\n10.0.0.2 weight=2 priority=1 name=db2 key=second  # slow\r\n"
    local pool = open(cueball.resolver.file { path = path, default_port = 81, name = "db" })
    assert.equal("cueball.pool (db, running)", tostring(pool))
    assert.equal("10.0.0.1:80 second", keys(pool))
    for _, backend in ipairs(pool:backends()) do
      if backend.key == "second" then
        assert.same({ 81, 2, 1, "db2", path .. ":4" },
          { backend.port, backend.weight, backend.priority, backend.name, backend.provenance })
      end
    end
  end)

  it("is followed, and keeps what it had while it is wrong or gone", function()
    write "10.0.0.1:80\n"
    local pool = open(cueball.resolver.file(path))
    write "10.0.0.2:80\n"
    world.advance(1100)
    assert.equal("10.0.0.2:80", keys(pool))
    for text, words in pairs {
      ["10.0.0.3:80 wight=2"] = ':1: "wight=2" is not understood; there are key=, name=, priority=, weight=',
      ["10.0.0.3"] = ":1: there is no port",
      ["10.0.0.3:80\nx"] = ':2: "x" is not an address', ["10.0.0.3:80 weight=0"] = "its weight must be",
    } do
      write(text)
      world.advance(30000)
      assert.is_truthy(pool:resolver().message:find(words, 1, true), pool:resolver().message)
      assert.equal("10.0.0.2:80", keys(pool))
    end
    os.remove(path)
    world.advance(30000)
    assert.is_truthy(pool:resolver().message:find("No such file", 1, true))
    write "10.0.0.4:80\n"
    world.advance(31000)
    assert.equal("10.0.0.4:80", keys(pool))
  end)

  it("refuses mistakes at the caller's line", function()
    blames("option 'path' is required", function() cueball.resolver.file {} end)
    blames("unknown option", function() cueball.resolver.file { path = path, port = 1 } end)
  end)
end)

describe("resolver.shared in one process", function()
  local runs, looks, say

  local function inner()
    runs, looks, say = 0, 0, nil
    return cueball.resolver.shared { name = "web", resolver = function(sink)
      runs = runs + 1
      say = sink
      repeat
        looks = looks + 1
        sink:set { "10.0.0.1:80", ("10.0.0.%d:80"):format(looks + 1) }
      until not sink:sleep(1000)
    end }
  end

  it("has one run, whose answers go to all, also to those that come later", function()
    local shared = inner()
    local one = open(shared)
    world.advance(2500)
    local two = open(shared)
    assert.equal("10.0.0.1:80 10.0.0.4:80", keys(one))
    assert.equal(keys(one), keys(two))
    say:fail "the directory is away"
    world.settle()
    assert.same({ "the directory is away", "the directory is away" }, { one:resolver().message, two:resolver().message })
    local three = open(shared)
    assert.equal("the directory is away", three:resolver().message)
    world.advance(1000)
    assert.same({ false, false, false }, { one:resolver().failing, two:resolver().failing, three:resolver().failing })
    assert.same({ 1, 4 }, { runs, looks })
  end)

  it("goes on when the first pool ends, and ends with the last", function()
    local shared = inner()
    local one, two = open(shared), open(shared)
    one:stop()
    world.advance(1500)
    assert.equal(2, looks)
    two:stop()
    world.advance(5000)
    assert.equal(2, looks)
    local three = open(shared)
    assert.equal(2, runs)
    assert.equal("10.0.0.1:80 10.0.0.4:80", keys(three))
  end)

  it("is left by a pool that takes another resolver", function()
    local shared = inner()
    local one = open(shared)
    one:replace { resolver = cueball.resolver.static { "10.0.0.9:80" } }
    world.advance(5000)
    assert.equal(1, looks)
    assert.equal("10.0.0.9:80", keys(one))
  end)
end)
