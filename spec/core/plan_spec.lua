--- The planner: the originals' vectors, a rule-by-rule model of planRebalance beside it, and what must hold for any input.

local native = require "cueball.native"
local lib, ffi = native.lib, native.ffi

--- Plans `target` slots over a list of { dead =, weight = }; returns what each should have, and the sum.
local function plan(backends, target, max, is_singleton)
  local count = #backends
  local given = ffi.new("cueball_plan_backend[?]", count)
  local scratch = ffi.new("uint64_t[?]", 2 * count + 1) -- the last one is not the planner's
  scratch[2 * count] = 4711
  for i, backend in ipairs(backends) do
    given[i - 1].weight = backend.weight or 1
    given[i - 1].dead = backend.dead or false
    given[i - 1].want = 12345
  end
  lib.cueball_plan(given, count, target, max, is_singleton or false, scratch)
  assert(scratch[2 * count] == 4711, "wrote beyond the scratch memory")
  local wants, sum = {}, 0
  for i = 1, count do
    wants[i] = given[i - 1].want
    sum = sum + wants[i]
  end
  return wants, sum
end

--- "a b! c*3": b is dead, c has weight 3.
local function backends_of(text)
  local backends = {}
  for _, mark, weight in text:gmatch "(%w+)(!?)%*?(%d*)" do
    backends[#backends + 1] = { dead = mark == "!", weight = tonumber(weight) or 1 }
  end
  return backends
end

local function wants_of(text, target, max, is_singleton)
  return table.concat((plan(backends_of(text), target, max, is_singleton)), " ")
end

--- The rules of planRebalance one after the other, in a loop; equal weights.
local function model(backends, target, max, is_singleton)
  local count = #backends
  local wants, considered, position = {}, {}, 0
  local done, replacements = 0, 0
  for i = 1, count do
    wants[i] = 0
  end
  if count == 0 then
    return wants
  end
  local function turn()
    position = position % count + 1
    considered[position] = true
    return position
  end
  local function want_one(key)
    if wants[key] == 0 then
      wants[key] = 1
      done = done + 1
    end
  end
  local function is_any_left()
    for i = 1, count do
      if is_singleton and not backends[i].dead and not considered[i] then
        return true
      elseif not is_singleton and (not backends[i].dead or not considered[i]) then
        return true
      end
    end
    return false
  end
  --- Whether it took a slot as a live one does.
  local function take(key)
    if backends[key].dead or (is_singleton and wants[key] > 0) then
      return false
    end
    wants[key] = wants[key] + 1
    done = done + 1
    return true
  end

  for _ = 1, target do
    local key = turn()
    if not take(key) and backends[key].dead then
      want_one(key)
      replacements = replacements + 1
    end
  end
  replacements = math.min(replacements, max - done)
  local i = 0
  while i < replacements do
    local key = turn()
    if not take(key) then
      local planned = done + replacements - i
      if planned + 1 <= max then
        want_one(key)
        replacements = replacements + (is_any_left() and 1 or 0)
      elseif planned <= max and is_any_left() then
        replacements = replacements + 1
      elseif planned <= max then
        want_one(key)
      else
        break
      end
    end
    i = i + 1
  end
  return wants
end

-- backends, target, max, what each should have (§27 of the reference: have + additions - removals).
local vectors = {
  { "b1", 4, 10, "4" },
  { "b1 b2", 5, 10, "3 2" },
  { "b1 b2", 4, 10, "2 2" },
  { "b1 b2", 6, 10, "3 3" },
  { "b1 b2 b3 b4 b5 b6 b7", 5, 10, "1 1 1 1 1 0 0" },
  { "b3 b1 b2 b4 b5 b6 b7", 6, 10, "1 1 1 1 1 1 0" },
  { "b3 b1 b2 b4 b5 b6 b7", 3, 10, "1 1 1 0 0 0 0" },
  { "b3 b1 b2", 4, 10, "2 1 1" },
  { "b2 b1 b3", 2, 10, "1 1 0" },
  { "b1! b2 b3", 2, 10, "1 1 1" },
  { "b1! b2 b3", 3, 10, "1 2 1" },
  { "b1! b2", 1, 2, "1 1" },
  { "b1! b2 b3! b4", 2, 10, "1 1 1 1" },
  { "b1! b2 b3! b4", 2, 3, "1 1 0 1" },
  { "b1!", 2, 10, "1" },
  { "b1! b2", 3, 10, "1 3" },
  { "k1! k2! k3! k4!", 3, 4, "1 1 1 1" },
  { "a! b c", 4, 8, "1 2 2" },
  { "a! b c", 4, 4, "1 2 1" },
  { "a! b! c!", 2, 4, "1 1 1" },
  { "a! b! c!", 2, 2, "1 1 0" },
  { "a!", 5, 5, "1" },
  { "a b! c d", 6, 6, "2 1 2 1" },
}

local singleton_vectors = {
  { "a! b c d", 2, 10, "1 1 1 0" },
  { "a b c", 2, 4, "1 1 0" },
  { "a b", 5, 5, "1 1" },
  { "a! b c", 2, 2, "1 1 0" },
  { "a! b! c!", 2, 3, "1 1 1" },
}

local SEED = tonumber(os.getenv "CUEBALL_SEED") or 1

--- Runs `body` with many random lists, targets and ceilings, and tells which one it was that failed.
local function for_random(rounds, options, body)
  math.randomseed(SEED)
  for round = 1, rounds do
    local backends = {}
    local death = math.random(0, 3) == 0 and 0 or math.random()
    local weight_max = options.weight_max and math.random(1, options.weight_max)
    for i = 1, math.random(options.count_min or 0, options.count_max or 12) do
      backends[i] = { dead = not options.is_all_alive and math.random() < death, weight = weight_max and math.random(weight_max) or 1 }
    end
    local target = math.random(0, options.target_max or 30)
    local max = target + (math.random(0, 2) == 0 and 0 or math.random(0, 30))
    local is_ok, message = pcall(body, backends, target, max)
    if not is_ok then
      local text = {}
      for i, backend in ipairs(backends) do
        text[i] = i .. (backend.dead and "!" or "") .. "*" .. backend.weight
      end
      error(("seed %d, round %d, %s, %d/%d: %s"):format(SEED, round, table.concat(text, " "), target, max, tostring(message)), 0)
    end
  end
end

local function weights_of(backends)
  local sum = 0
  for _, backend in ipairs(backends) do
    sum = sum + (backend.dead and 0 or backend.weight)
  end
  return sum
end

--- Floor and ceiling of its part of `slots`, for each backend that is alive.
local function assert_proportional(backends, wants, slots)
  local weights = weights_of(backends)
  for i, backend in ipairs(backends) do
    if not backend.dead then
      local part = slots * backend.weight / weights
      assert(wants[i] > part - 1 and wants[i] < part + 1, ("backend %d has %d, its part is %g"):format(i, wants[i], part))
    end
  end
end

describe("the planner", function()
  for _, vector in ipairs(vectors) do
    local text, target, max, expected = unpack(vector)
    it(("plans %d/%d over %s"):format(target, max, text), function()
      assert.equal(expected, wants_of(text, target, max))
      assert.equal(expected, table.concat(model(backends_of(text), target, max), " "))
    end)
  end

  it("does nothing with nothing", function()
    assert.equal("", wants_of("", 0, 0))
    assert.equal("", wants_of("", 5, 5))
    assert.equal("0 0 0", wants_of("a b! c", 0, 5))
    assert.equal("0 0 0", wants_of("a b! c", 0, 5, true))
  end)

  it("agrees with the rules, one after the other, where weights are equal", function()
    for_random(10000, {}, function(backends, target, max)
      assert.equal(table.concat(model(backends, target, max), " "), table.concat((plan(backends, target, max)), " "))
    end)
  end)

  it("takes equal weights as none, whatever they are", function()
    for_random(2000, {}, function(backends, target, max)
      local expected = plan(backends, target, max)
      for _, backend in ipairs(backends) do
        backend.weight = 65535
      end
      assert.same(expected, (plan(backends, target, max)))
    end)
  end)

  it("gives dead ones one slot at most, and fills what there is room for", function()
    for_random(5000, { weight_max = 9 }, function(backends, target, max)
      local wants, sum = plan(backends, target, max)
      local live, monitors = 0, 0
      for i, backend in ipairs(backends) do
        if backend.dead then
          assert(wants[i] <= 1, "a dead one has " .. wants[i])
          monitors = monitors + wants[i]
        else
          live = live + 1
        end
      end
      assert(sum <= max, "more than the ceiling: " .. sum)
      if live > 0 then
        assert.equal(math.min(max, target + monitors), sum)
        assert_proportional(backends, wants, sum - monitors)
      else
        assert(monitors >= math.min(target, #backends), "too few monitors: " .. monitors)
      end
    end)
  end)

  it("keeps live ones of equal weight within one slot of each other", function()
    for_random(5000, {}, function(backends, target, max)
      local wants = plan(backends, target, max)
      local least, most = math.huge, 0
      for i, backend in ipairs(backends) do
        if not backend.dead then
          least, most = math.min(least, wants[i]), math.max(most, wants[i])
        end
      end
      assert(most - least <= 1 or least == math.huge, ("from %d to %d"):format(least, most))
    end)
  end)

  describe("with weights", function()
    it("shares in proportion", function()
      assert.equal("6 2 2", wants_of("a*3 b*1 c*1", 10, 10))
      assert.equal("1 2 3 4", wants_of("a*1 b*2 c*3 d*4", 10, 10))
      assert.equal("10 20 30 40", wants_of("a*1 b*2 c*3 d*4", 100, 100))
      assert.equal("65535 1", wants_of("a*65535 b*1", 65536, 65536))
    end)

    it("prefers the earlier of two that are alike", function()
      assert.equal("1 0 0", wants_of("a*2 b*2 c*1", 1, 10))
      assert.equal("1 1 0", wants_of("a*2 b*2 c*1", 2, 10))
    end)

    it("does not serve a heavy one first with all of its slots", function()
      local backends = { { weight = 100 } }
      for i = 2, 51 do
        backends[i] = { weight = 1 }
      end
      local wants, sum = plan(backends, 75, 75)
      assert.equal(50, wants[1])
      assert.equal(75, sum)
    end)

    it("spreads a dead one's part over the others in proportion", function()
      assert.equal("1 4 2", wants_of("a!*3 b*2 c*1", 6, 10))
      assert.equal("1 4 1", wants_of("a!*3 b*2 c*1", 6, 6)) -- 3.3 and 1.7: rounded up or down, the preferred one up
    end)

    for _, weight_max in ipairs { 2, 10, 100, 65535, 4294967295 } do
      it("is within one slot of proportion, weights to " .. weight_max, function()
        for_random(1000, { weight_max = math.min(weight_max, 2^31 - 1), is_all_alive = true, count_min = 1, target_max = 300 },
          function(backends, target, max)
            if weight_max > 2^31 then
              backends[1].weight = weight_max
            end
            local wants, sum = plan(backends, target, max)
            assert.equal(target, sum)
            assert_proportional(backends, wants, target)
          end)
      end)
    end

    it("adds one slot and moves none when the target grows by one", function()
      for_random(200, { weight_max = 20, is_all_alive = true, count_min = 1 }, function(backends)
        local before = plan(backends, 0, 400)
        for target = 1, 200 do
          local wants = plan(backends, target, 400)
          for i = 1, #backends do
            assert(wants[i] >= before[i], ("backend %d goes from %d to %d at %d"):format(i, before[i], wants[i], target))
          end
          before = wants
        end
      end)
    end)

    it("is as proportional with many backends", function()
      for_random(20, { weight_max = 65535, count_min = 500, count_max = 1000, target_max = 20000 }, function(backends, target)
        local wants, sum = plan(backends, target, 2 * target + 1000)
        local monitors = 0
        for i, backend in ipairs(backends) do
          monitors = monitors + (backend.dead and wants[i] or 0)
        end
        assert_proportional(backends, wants, sum - monitors)
      end)
    end)

    it("ends soon, be a dead one ever so heavy", function()
      local wants, sum = plan({ { weight = 4294967295, dead = true }, { weight = 1 } }, 100000, 200000)
      assert.same({ 1, 100000 }, wants)
      assert.equal(100001, sum)
    end)
  end)

  it("does not lose count at the largest numbers", function()
    local most = 4294967295
    assert.same({ 2147483648, 2147483647 }, (plan({ {}, {} }, most, most)))
    assert.same({ 1, most - 1 }, (plan({ { dead = true }, {} }, most, most)))
    assert.same({ 2863311530, 1431655765 }, (plan({ { weight = 2 }, { weight = 1 } }, most, most)))
    assert.same({ 1, 1 }, (plan({ { dead = true }, { dead = true } }, most, most)))
  end)
end)

describe("the planner of singletons", function()
  for _, vector in ipairs(singleton_vectors) do
    local text, target, max, expected = unpack(vector)
    it(("plans %d/%d over %s"):format(target, max, text), function()
      assert.equal(expected, wants_of(text, target, max, true))
      assert.equal(expected, table.concat(model(backends_of(text), target, max, true), " "))
    end)
  end

  it("agrees with the rules, one after the other", function()
    for_random(10000, { target_max = 14 }, function(backends, target, max)
      assert.equal(table.concat(model(backends, target, max, true), " "), table.concat((plan(backends, target, max, true)), " "))
    end)
  end)

  it("never gives two, and goes by preference, not by weight", function()
    assert.equal("1 1 0", wants_of("a*1 b*2 c*9", 2, 5, true))
    for_random(3000, { weight_max = 9 }, function(backends, target, max)
      local wants, sum = plan(backends, target, max, true)
      for i = 1, #backends do
        assert(wants[i] <= 1, "two of them")
      end
      assert(sum <= max)
      assert(sum >= math.min(target, #backends))
    end)
  end)
end)
