--- The dictionaries that client libraries find in `ngx.shared`, in virtual time.
local sim = require "cueball.host.sim"
local shared = require "cueball.cosocket.api.shared"

local world, dict

before_each(function()
  world = sim.new {}
  dict = shared.of(world).first
end)

it("is there under any name, and keeps what it is given", function()
  local all = shared.of(world)
  assert.equal(all.one, all.one)
  assert.not_equal(all.one, all.two)
  assert.same({ true, nil, false }, { dict:set("a", "text", 0, 7) })
  assert.same({ "text", 7 }, { dict:get "a" })
  dict:set("b", false)
  dict:set(3, 1.5)
  assert.same({ false, 1.5 }, { (dict:get "b"), (dict:get "3") })
  assert.is_nil(dict:get "none")
  assert.is_true(dict:delete "a")
  assert.is_nil(dict:get "a")
end)

it("tells what is there from what is not", function()
  assert.is_true((dict:add("a", 1)))
  assert.same({ false, "exists", false }, { dict:add("a", 2) })
  assert.same({ false, "not found", false }, { dict:replace("b", 1) })
  assert.is_true((dict:replace("a", 3)))
  assert.same({ false, "exists", false }, { dict:safe_add("a", 2) })
  assert.equal(3, (dict:get "a"))
end)

it("counts, and begins to count", function()
  assert.same({ nil, "not found" }, { dict:incr("n", 1) })
  assert.same({ 11, nil, false }, { dict:incr("n", 1, 10, 5) })
  assert.equal(13, (dict:incr("n", 2)))
  assert.equal(5, dict:ttl "n")
  dict:set("text", "x")
  assert.same({ nil, "not a number" }, { dict:incr("text", 1) })
  assert.has_error(function() dict:incr("n", {}) end)
  assert.has_error(function() dict:incr("n", 1, nil, 5) end)
end)

it("forgets in time", function()
  dict:set("a", 1, 2)
  dict:set("b", 2)
  world.advance(1500)
  assert.equal(0.5, dict:ttl "a")
  assert.equal(0, dict:ttl "b")
  world.advance(500)
  assert.is_nil((dict:get "a"))
  assert.same({ 1, nil, true }, { dict:get_stale "a" })
  assert.same({ nil, "not found" }, { dict:ttl "a" })
  assert.same({ nil, "not found" }, { dict:expire("a", 1) })
  assert.is_true(dict:expire("b", 1))
  world.advance(1000)
  assert.same({}, dict:get_keys())
  assert.equal(2, dict:flush_expired())
  assert.is_nil((dict:get_stale "a"))
  dict:set("c", 1)
  dict:flush_all()
  assert.is_nil((dict:get "c"))
end)

it("drops what was not used for longest where there is no room, and is never larger than that", function()
  local big = ("x"):rep(1048576)
  for number = 1, 15 do assert.same({ true, nil, false }, { dict:set("key" .. number, big) }) end
  dict:get "key1"
  assert.same({ false, "no memory", false }, { dict:safe_set("more", big) })
  assert.same({ true, nil, true }, { dict:set("more", big) })
  assert.is_nil((dict:get "key2"))
  assert.equal(big, (dict:get "key1"))
  assert.same({ false, "no memory", false }, { dict:set("too much", ("x"):rep(17 * 1048576)) })
  assert.is_true(dict:free_space() >= 0 and dict:free_space() <= dict:capacity())
end)

it("has lists", function()
  assert.equal(1, dict:rpush("list", "b"))
  assert.equal(2, dict:lpush("list", "a"))
  assert.equal(3, dict:rpush("list", 3))
  assert.equal(3, dict:llen "list")
  assert.same({ nil, "value is a list" }, { dict:get "list" })
  assert.same({ "a", 3, "b", nil }, { dict:lpop "list", dict:rpop "list", dict:lpop "list", dict:lpop "list" })
  assert.equal(0, dict:llen "list")
  dict:set("text", "x")
  assert.same({ nil, "value not a list" }, { dict:rpush("text", 1) })
  assert.equal(dict:capacity() - 104 - 1 , dict:free_space() - 0)
end)

it("refuses keys and values that nginx refuses", function()
  assert.same({ nil, "nil key" }, { dict:get(nil) })
  assert.same({ nil, "empty key" }, { dict:set("", 1) })
  assert.same({ nil, "key too long" }, { dict:set(("k"):rep(65536), 1) })
  assert.same({ nil, "bad value type" }, { dict:set("k", {}) })
  assert.has_error(function() dict:set("k", 1, -1) end)
end)

it("is as a list of pairs, whatever is done with it", function()
  local model, keys = {}, { "a", "b", "c", "d" }
  for _ = 1, 5000 do
    local key, what = keys[math.floor(world.random(1, 4.999))], math.floor(world.random(1, 5.999))
    if what == 1 then
      dict:set(key, what, 10)
      model[key] = { value = what, ends = world.now() + 10e9 }
    elseif what == 2 then
      dict:delete(key)
      model[key] = nil
    elseif what == 3 then
      dict:incr(key, 1, 0)
      local known = model[key] and (not model[key].ends or model[key].ends > world.now()) and model[key]
      model[key] = known and { value = known.value + 1, ends = known.ends } or { value = 1 }
    elseif what == 4 then
      world.advance(world.random(0, 3000))
    else
      dict:flush_expired()
    end
    for _, name in ipairs(keys) do
      local known = model[name]
      local is_over = known and known.ends and known.ends <= world.now()
      assert.equal(known and not is_over and known.value or nil, (dict:get(name)))
    end
  end
end)
