--- Options as data: every one with its range, default and the text that refuses it.

local World = require "spec.support.core_world"
local native = require "cueball.native"
local ffi, lib = native.ffi, native.lib

--- "ok", or "invalid" and the text.
local function check(options)
  local text = ffi.new "char[300]"
  return World.error_name(lib.cueball_options_check(options, text, 300)), ffi.string(text)
end

--- The defaults with one change; the other option of a pair that has to agree is moved out of the way.
local function with(name, value)
  local changes = { [name] = value }
  local operation, member = name:match "^recovery%.(%w+)%.([%w_]+)$"
  if member == "max_timeout_ms" then
    changes["recovery." .. operation .. ".timeout_ms"] = 0.001
  elseif member == "max_delay_ms" then
    changes["recovery." .. operation .. ".delay_ms"] = 0
  elseif name == "queue" then
    changes.target_claim_delay_ms = 5
  end
  return World.options(changes)
end

--- The next value that a double, or a whole number, has.
local function beyond(option, value, direction)
  if option.kind == lib.CUEBALL_OPTION_COUNT or option.kind == lib.CUEBALL_OPTION_CHOICE then
    return value + direction
  end
  return value == 0 and direction * 1e-300 or value * (1 + direction * 2 ^ -52)
end

describe("options", function()
  it("are listed with the defaults of the design", function()
    local expected = {
      max_connections = 10, max_waiters = math.huge, claim_timeout_ms = math.huge, rebalance_delay_ms = 100,
      decoherence_interval_ms = 300000, check_interval_ms = 30000, check_timeout_ms = 5000, idle_timeout_ms = 0,
      max_lifetime_ms = 0, proven_after_ms = 0, lifetime_spread = 0.1, max_uses = math.huge, drain_timeout_ms = 30000, balance = 0,
      spares = math.huge, queue = 0, priorities = 0, target_claim_delay_ms = 0, max_churn_rate = math.huge, slow_start_ms = 0,
      ["outlier.consecutive"] = 0, ["outlier.interval_ms"] = 10000, ["outlier.ejection_ms"] = 30000, ["outlier.max_ejected"] = 0.1,
    }
    for _, operation in ipairs { "default", "initial", "connect" } do
      for name, value in pairs {
        attempts = 3, timeout_ms = 2000, max_timeout_ms = 86400000, delay_ms = 100, max_delay_ms = 86400000, spread = 0.2,
        jitter = 0,
      } do
        expected["recovery." .. operation .. "." .. name] = value
      end
    end
    local found = {}
    for _, name in ipairs(World.descriptors) do
      found[name] = World.descriptors[name].initial
    end
    assert.same(expected, found)
    assert.equal("fifo lifo p2c", World.descriptors.balance.choices)
    assert.equal("fifo codel adaptive_lifo", World.descriptors.queue.choices)
    assert.equal("spread full decorrelated", World.descriptors["recovery.connect.jitter"].choices)
    assert.is_false(lib.cueball_option_describe(1000, ffi.new "cueball_option"))
  end)

  it("cover the whole struct: each member is an option, but for `struct_size`, `reserved` and `has_check`", function()
    local at = {}
    for _, name in ipairs(World.descriptors) do
      at[World.descriptors[name].offset] = name
    end
    local within = { cueball_recovery = {}, cueball_outlier = {} }
    for _, one in ipairs(native.layout) do
      if one.type == "cueball_options" and one.member:find "^recovery_" then
        within.cueball_recovery[one.member] = one.offset
      elseif one.type == "cueball_options" and one.member == "outlier" then
        within.cueball_outlier[one.member] = one.offset
      elseif one.type == "cueball_options" and one.member ~= "" and one.member ~= "struct_size" and one.member ~= "reserved"
        and one.member ~= "has_check" then
        assert.equal(one.member, at[one.offset])
      end
    end
    for _, one in ipairs(native.layout) do
      for member, offset in pairs(within[one.type] or {}) do
        if one.member ~= "" and one.member ~= "reserved" then
          assert.equal(member:gsub("_", ".", 1) .. "." .. one.member, at[offset + one.offset])
        end
      end
    end
  end)

  it("have defaults that are in range", function()
    assert.equal("ok", (check(World.options())))
    assert.equal(lib.CUEBALL_OK, lib.cueball_options_check(World.options(), nil, 0))
  end)

  for _, name in ipairs(World.descriptors) do
    local option = World.descriptors[name]

    it(("take %s from %g to %g"):format(name, option.min, option.max), function()
      assert.equal("ok", (check(with(name, option.min))))
      assert.equal("ok", (check(with(name, option.max))))
    end)

    it("refuse " .. name .. " out of range, naming it and its range", function()
      local refused = { beyond(option, option.max, 1) }
      if not (option.kind == lib.CUEBALL_OPTION_COUNT and option.min == 0) then
        refused[2] = beyond(option, option.min, -1)
      end
      if option.kind ~= lib.CUEBALL_OPTION_COUNT and option.kind ~= lib.CUEBALL_OPTION_CHOICE then
        refused[#refused + 1] = 0 / 0
        refused[#refused + 1] = -math.huge
      end
      if option.kind ~= lib.CUEBALL_OPTION_CHOICE and not option.may_be_none then
        refused[#refused + 1] = math.huge
      end
      for _, value in ipairs(refused) do
        local result, text = check(with(name, value))
        assert.equal("invalid", result, name .. " = " .. value)
        assert.matches("'" .. name .. "'", text, 1, true)
        if option.choices then
          assert.matches(option.choices, text, 1, true)
        else
          assert.matches(("from %.15g to %.15g"):format(option.min, option.max), text, 1, true)
        end
      end
    end)

    if option.may_be_none then
      it("take " .. name .. " as none", function()
        assert.equal("ok", (check(with(name, math.huge))))
      end)
    end
  end

  for _, operation in ipairs { "default", "initial", "connect" } do
    it("of recovery." .. operation .. " must agree with each other", function()
      for _, span in ipairs { "timeout_ms", "delay_ms" } do
        local low, high = "recovery." .. operation .. "." .. span, "recovery." .. operation .. ".max_" .. span
        assert.equal("ok", (check(World.options { [low] = 70, [high] = 70 })))
        local result, text = check(World.options { [low] = 70, [high] = 69 })
        assert.equal("invalid", result)
        assert.equal(("option '%s' must be at least %s (70), not 69"):format(high, span), text)
      end
    end)
  end

  it("of overload control need a target", function()
    for _, queue in ipairs { "codel", "adaptive_lifo" } do
      local result, text = check(World.options { queue = queue })
      assert.equal("invalid", result)
      assert.equal("option 'queue' codel and adaptive_lifo need option 'target_claim_delay_ms'", text)
      assert.equal("ok", (check(World.options { queue = queue, target_claim_delay_ms = 0.001 })))
    end
    assert.equal("ok", (check(World.options { queue = "fifo" })))
    assert.equal("ok", (check(World.options { queue = "fifo", target_claim_delay_ms = 5 })))
  end)

  it("tell as much of the text as there is room for", function()
    local options, text = World.options { max_connections = 0 }, ffi.new("char[16]", ("x"):rep(15))
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_options_check(options, text, 10))
    assert.equal("option 'm", ffi.string(text))
    assert.equal(("x"):byte(), text[10])
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_options_check(options, text, 0))
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_options_check(options, nil, 0))
  end)

  it("say what they are in full", function()
    local _, text = check(World.options { max_connections = 0 })
    assert.equal("option 'max_connections' must be a whole number from 1 to 1000000, not 0", text)
    _, text = check(World.options { drain_timeout_ms = -5 })
    assert.equal("option 'drain_timeout_ms' must be a number from 0 to 86400000 (milliseconds), not -5", text)
    _, text = check(World.options { balance = 3 })
    assert.equal("option 'balance' must be one of: fifo lifo p2c", text)
    _, text = check(World.options { max_churn_rate = 0 })
    assert.equal("option 'max_churn_rate' must be a number from 0.001 to 1000000 (per second), not 0", text)
  end)
end)
