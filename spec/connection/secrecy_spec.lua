--- No secret of a connection factory is shown: planted in every option that may have one, and looked for in all that a pool tells, against
-- real servers. In nginx: spec/nginx/secrecy_spec.lua.
local cueball = require "cueball"
local host = require "cueball.host.uv"
local monitor = require "cueball.monitor"
local factories = require "spec.support.factories"
local until_true = require "spec.support.until_true"

local RECOVERY = { default = { attempts = 2, timeout_ms = 15000, delay_ms = 20, max_delay_ms = 40 } }

local function value_of(text) return assert(loadstring("return " .. text))() end

-- All strings in a value, as somebody who dumps it sees them: fields of tables, not what functions hold.
local function dump(value, parts, seen)
  if type(value) == "string" then parts[#parts + 1] = value end
  if type(value) ~= "table" or seen[value] then return end
  seen[value] = true
  for name, field in next, value do
    dump(name, parts, seen)
    dump(field, parts, seen)
  end
end

-- What is told while fn(tell) runs: by the log with all levels, and by what fn tells.
local function told_while(fn)
  local parts, before = {}, host.log
  local function tell(...)
    for index = 1, select("#", ...) do
      local value = select(index, ...)
      parts[#parts + 1] = tostring(value)
      dump(value, parts, {})
    end
  end
  host.log = function(level, message) parts[#parts + 1] = level .. ": " .. message end
  local ok, message = pcall(host.run, fn, tell)
  host.log = before
  assert(ok, message)
  return table.concat(parts, "\n")
end

local function open(server, factory, tell)
  local pool = cueball.pool {
    host = host, max_connections = 2, claim_timeout_ms = 15000, recovery = RECOVERY, check_interval_ms = 50, check_timeout_ms = 20000,
    resolver = cueball.resolver.static { server.backend }, connect = factory,
  }
  pool:subscribe(function(event) tell(event) end)
  return pool
end

local function tell_all(pool, tell)
  tell(pool, pool:last_error(), pool:stats(), pool:backends(), pool:resolver(), monitor.json(), monitor.openmetrics())
end

-- What an error says when it is raised, or returned.
local function outcome(...)
  local results = { pcall(...) }
  for index = 1, 4 do results[index] = tostring(results[index]) end
  return table.concat(results, " ")
end

for name, case in pairs(factories.with_secrets()) do
  describe("secrets of a connection factory: " .. name, function()
    local server

    before_each(function() server = case.start() end)
    after_each(function() server:stop() end)

    if case.right then it("are shown nowhere while all goes well, and when the server dies", function()
      local all = told_while(function(tell)
        local factory = value_of(case.factory)(value_of(case.right))
        local pool = open(server, factory, tell)
        local use = value_of(case.use)
        tell(factory, pool:with(function(connection, lease)
          tell(connection, lease, lease:explain())
          return use(connection)
        end))
        until_true(function() return pool:stats().checks > 2 end)
        tell(pool:renew { over_ms = 0 })
        local lease = pool:claim()
        lease:fail("it said SESAMERIGHT, then SESAMERI")
        tell_all(pool, tell)
        server:kill()
        tell(outcome(pool.with, pool, function(connection) return assert(use(connection)) end))
        until_true(function() return pool:stats().dead_backends == 1 end)
        tell(outcome(pool.claim, pool))
        tell_all(pool, tell)
        pool:stop()
      end)
      assert.is_nil(all:find("SESAME", 1, true), all)
      assert.is_truthy(all:find("is dead after", 1, true), all)
    end) end

    if case.change then it("are changed, and nobody meets an error, once the pool is told", function()
      local password, count, failures, running, is_over = "SESAMERIGHT", 0, 0, 4, false
      local all = told_while(function(tell)
        local options, use = value_of(case.options)(function()
          host.sleep(1)
          return password
        end), value_of(case.use)
        local pool = open(server, value_of(case.factory)(options), tell)
        for _ = 1, 4 do
          host.spawn(function()
            while not is_over do
              if pool:with(use) == case.answer then count = count + 1 else failures = failures + 1 end
            end
            running = running - 1
          end)
        end
        until_true(function() return count > 20 end)
        case.change(server, "SESAMENEW")
        password = "SESAMENEW"
        pool:renew { over_ms = 100 }
        until_true(function() return pool:stats().closed_renew == 2 and pool:stats().opened == 4 end)
        local before = count
        until_true(function() return count > before + 20 end)
        is_over = true
        until_true(function() return running == 0 end)
        assert.is_nil(pool:last_error())
        tell_all(pool, tell)
        pool:stop()
      end)
      assert.equal(0, failures)
      assert.is_nil(all:find("SESAME", 1, true), all)
    end) end

    it("are shown nowhere when they are wrong", function()
      local all = told_while(function(tell)
        local pool = open(server, value_of(case.factory)(value_of(case.wrong)), tell)
        tell(outcome(pool.claim, pool))
        tell(outcome(pool.with, pool, function() end))
        tell_all(pool, tell)
        pool:stop()
      end)
      assert.is_truthy(all:find(case.refusal, 1, true), all)
      assert.is_nil(all:find("SESAME", 1, true), all)
    end)

    it("are shown by no mistake in the options", function()
      for _, option in ipairs(case.secret_options or {}) do
        for _, value in ipairs { 7777777, { "SESAME" } } do
          local options = value_of(case.right or case.wrong)
          options[option] = value
          local message = outcome(value_of(case.factory), options)
          assert.is_nil(message:find("SESAME", 1, true) or message:find("7777777", 1, true), message)
          assert.is_truthy(message:find(option, 1, true), message)
        end
      end
      if case.secret_options then
        local options = value_of(case.right or case.wrong)
        options.passwort = "SESAME"
        local message = outcome(value_of(case.factory), options)
        assert.is_nil(message:find("SESAME", 1, true), message)
      end
    end)
  end)
end
