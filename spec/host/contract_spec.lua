--- The contract of hosts: what is filled in where a host leaves it out, and that the manual has all of it.
local contract = require "cueball.host.contract"
local cueball = require "cueball"
local shell = require "spec.support.shell"
local sim = require "cueball.host.sim"

local REQUIRED = { "now", "seed", "spawn", "kill", "current", "sleep", "waiter", "guard", "unguard", "alarm", "log" }

-- A host of somebody's own: the required members, and nothing else.
local function bare(world)
  local host = {}
  for _, name in ipairs(REQUIRED) do host[name] = world[name] end
  return host
end

describe("the contract of hosts", function()
  it("says which required member is missing", function()
    for _, name in ipairs(REQUIRED) do
      local host = bare(sim.new {})
      host[name] = nil
      assert.equal(name, contract.lacks(host))
    end
    assert.is_nil(contract.lacks(bare(sim.new {})))
  end)

  it("fills in every other member", function()
    local host = contract.complete(bare(sim.new {}))
    for _, name in ipairs(contract.members()) do assert.is_not_nil(host[name], name) end
    assert.same({}, host.living())
    assert.is_false(host.is_socket {})
    assert.is_false(host.can_wait())
    assert.same({ nil, "this host hears no signals" }, { host.on_signal("int", function() end) })
    assert.is_false(host.workers.is_shared)
    assert.matches("contract_spec.lua:%d+: tcp: this host has no sockets$", select(2, pcall(function() host.tcp() end)))
    assert.matches("contract_spec.lua:%d+: run: this host does not run its loop by itself$", select(2, pcall(function() host.run() end)))
  end)

  it("leaves what a host has", function()
    local host = bare(sim.new {})
    local function claimer() end
    host.claimer, host.name = claimer, "mine"
    contract.complete(host)
    assert.equal(claimer, host.claimer)
    assert.equal("mine", host.name)
  end)

  it("loads what is loaded later when it is first asked for, and once", function()
    local count = 0
    local host = contract.complete(bare(sim.new {}), { dns = function()
      count = count + 1
      return { "dns" }
    end })
    assert.equal(0, count)
    assert.equal(host.dns, host.dns)
    assert.equal(1, count)
    assert.is_nil(host.no_member)
  end)

  it("is kept by our hosts", function()
    for _, host in ipairs { sim.new {}, require "cueball.host.uv" } do
      assert.is_nil(contract.lacks(host))
      for _, name in ipairs(contract.members()) do assert.is_not_nil(host[name], host.name .. " has no " .. name) end
    end
  end)

  it("is in the manual, member by member", function()
    local manual = shell.text_of "docs/hosts.md"
    for _, name in ipairs(contract.members()) do
      assert.is_truthy(manual:find("`host%." .. name .. "[`(]"), "docs/hosts.md does not tell of host." .. name)
    end
    for name in pairs(require "cueball.host.process") do
      assert.is_truthy(manual:find("`workers%." .. name .. "[`(]"), "docs/hosts.md does not tell of workers." .. name)
    end
  end)

  it("is enough for a pool: the required members", function()
    local world = sim.new {}
    local pool = cueball.pool {
      host = bare(world), resolver = cueball.resolver.static { "10.0.0.1:80" }, connect = function() return { id = 1 } end,
    }
    world.advance(10)
    world.run(function()
      assert.equal(1, pool:with(function(connection) return connection.id end))
      pool:stop()
    end)
    world.check()
  end)
end)
