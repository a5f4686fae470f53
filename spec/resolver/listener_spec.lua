--- Whoever a sink tells: plain tables and texts come, by four methods, and what they answer goes to the resolver.
local collect = require "spec.support.collect"
local sim = require "cueball.host.sim"
local sink = require "cueball.resolver.sink"

local world, said, refusal, logs

before_each(function()
  world, said, refusal, logs = sim.new { seed = 1 }, {}, nil, {}
end)

after_each(function()
  world.close()
end)

-- A listener that writes down what it is told, and answers with `refusal` if that is set.
local function listener_of()
  local heard = {}
  local function answer(text)
    said[#said + 1] = text
    if refusal then return nil, refusal[1], refusal[2] end
    return true
  end
  function heard.added(_, backend)
    assert.equal("table", type(backend))
    return answer(("added %s %s:%d *%d (%s)"):format(backend.key, backend.address, backend.port, backend.weight, backend.provenance or "-"))
  end
  function heard.removed(_, key, provenance) return answer(("removed %s (%s)"):format(key, provenance or "-")) end
  function heard.replaced(_, backends)
    local keys = {}
    for index, backend in ipairs(backends) do keys[index] = backend.key end
    return answer("replaced " .. table.concat(keys, " "))
  end
  function heard.failing(_, message, is_not_yet)
    return answer(("failing %s%s"):format(tostring(message), is_not_yet and " (not yet)" or ""))
  end
  return heard
end

local function start(given)
  given.host, given.log = world, function(level, message) logs[#logs + 1] = level .. ": " .. message end
  local made = sink.new(given)
  sink.start(made)
  return made
end

describe("a listener", function()
  it("is told what a resolver says, in plain tables", function()
    start { listener = listener_of(), resolver = function(given)
      assert(given:add { address = "10.0.0.1", port = 80, weight = 2, provenance = "a file" })
      assert(given:set { "10.0.0.1:80", "10.0.0.2:80", "nonsense" })
      assert(given:remove("10.0.0.1:80", "it left"))
      given:fail "no answer"
      given:fail "still none"
      given:recover()
      given:recover()
    end }
    world.advance(1)
    assert.same({
      "added 10.0.0.1:80 10.0.0.1:80 *2 (a file)", "replaced 10.0.0.1:80 10.0.0.2:80", "removed 10.0.0.1:80 (it left)",
      "failing no answer", "failing still none", "failing nil",
    }, said)
    assert.equal(3, #logs)
  end)

  it("hears that claims are to wait for the first list", function()
    start { listener = listener_of(), resolver = function(given)
      given:fail("not there yet", { not_yet = true })
      given:set {}
      given:fail("gone", { not_yet = true })
    end }
    world.advance(1)
    assert.same({ "failing not there yet (not yet)", "replaced ", "failing gone" }, said)
  end)

  it("may refuse, and the resolver is told why", function()
    local answers = {}
    refusal = { "out of memory", "no_memory" }
    start { listener = listener_of(), resolver = function(given)
      answers[1] = { given:add "10.0.0.1:80" }
      answers[2] = { given:set { "10.0.0.1:80" } }
    end }
    world.advance(1)
    assert.same({ { nil, "out of memory", "no_memory" }, { nil, "out of memory", "no_memory" } }, answers)
  end)

  it("takes over the failure of the resolver before, which ends", function()
    local heard = listener_of()
    local before = start { listener = heard, resolver = function(given) given:fail "no answer" end }
    world.advance(1)
    before:kill()
    start { listener = heard, before = before, resolver = function() end }
    world.advance(1)
    assert.same({ "failing no answer", "failing nil" }, said)
  end)

  it("that nobody else refers to is not kept by a weak sink: the resolver is to end", function()
    local seen
    local made = start { listener = listener_of(), is_weak = true, resolver = function(given)
      given:sleep(10)
      seen = { given:add "10.0.0.1:80" }
    end }
    collect()
    assert.is_false(made:is_wanted())
    world.advance(20)
    assert.same({ nil, "the resolver was ended", "pool_stopping" }, seen)
  end)
end)
