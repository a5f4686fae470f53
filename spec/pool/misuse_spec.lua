--- Slips of the program are told in words, at the line that made them.
local cueball = require "cueball"
local sim_pool = require "spec.support.sim_pool"

local town, pool

before_each(function()
  town = sim_pool.new { servers = 1 }
  pool = town:open { connect = function() return {} end }
  town:advance(1)
end)

after_each(function()
  pool:stop()
  town.world.close()
end)

-- Each method of the list, called with a dot on nothing, on a table and on something of another kind.
local function assert_guarded(object, noun, names)
  for name in names:gmatch "%S+" do
    for _, self in ipairs { {}, { timeout_ms = 1 }, "text", 5, function() end, setmetatable({}, { __index = object }) } do
      local ok, message = pcall(function() object[name](self) end)
      assert.is_false(ok)
      assert.matches(("misuse_spec.lua:%%d+: %s:%s: it must be called with a colon"):format(noun, name), message)
    end
    assert.matches("it must be called with a colon", select(2, pcall(object[name])))
  end
end

describe("a dot for the colon", function()
  it("is told by a pool, a lease, an owner and a resolver", function()
    assert_guarded(pool, "pool", "claim try_claim with owner state last_error resolver stats backends subscribe set renew replace stop")
    local lease = pool:claim()
    assert_guarded(lease, "lease", "release close fail report backend explain")
    lease:release()
    local owner = pool:owner()
    assert_guarded(owner, "owner", "gone")
    owner:gone()
    assert_guarded(cueball.resolver.dns { domain = "db.example", service = "_pg._tcp" }, "resolver", "lookup")
  end)

  it("is told by a set, its members, a sink and a socket", function()
    local sink, member
    local set = cueball.set {
      host = town.world, resolver = function(given)
        sink = given
        given:add { address = "10.0.0.1", port = 1 }
      end, connect = function() return {} end,
      added = function(given) member = given end, removed = function(given) given:release() end,
    }
    town:advance(200)
    assert_guarded(set, "set", "connections set state last_error resolver backends stats subscribe stop")
    assert_guarded(member, "member", "release close fail")
    assert_guarded(sink, "sink", "add remove set complete fail recover sleep wake pause on_end is_wanted failed")
    assert_guarded(town.world.tcp(), "sock", "connect send receive receiveany receiveuntil settimeout setoption close abort watch")
    set:stop()
    town:advance(1)
  end)

  it("is told by a balancer", function()
    local balancer = cueball.balancer { host = setmetatable({ proxy = {} }, { __index = town.world }), resolver = function() end }
    assert_guarded(balancer, "balancer", "balance report peers last_error resolver stop")
    balancer:stop()
  end)
end)

describe("a mistake", function()
  it("is told at the line of the program, however deep it was found, and wherever cueball calls the program", function()
    local function assert_here(line, message)
      assert.equal(("spec/pool/misuse_spec.lua:%d: pool:claim: option 'timeout_ms' must be a number of milliseconds from 0 to 86400000, "
        .. "or false for none, not -1"):format(line), message:match "spec/pool/misuse_spec.*")
    end
    local here = debug.getinfo(1, "l").currentline
    local ok, message = pcall(function() return (pool:claim { timeout_ms = -1 }) end)
    assert.is_false(ok)
    assert_here(here + 1, message)
    ok, message = pcall(pool.with, pool, function()
      pool:claim { timeout_ms = -1 }
    end)
    assert.is_false(ok)
    assert_here(here + 5, message)
  end)

  it("has no line where a function in C called cueball", function()
    local _, message = pcall(pool.claim, pool, { timeout_ms = -1 })
    assert.matches("^pool:claim: option 'timeout_ms' must be", message)
  end)
end)

describe("what is no", function()
  it("function is told by run and spawn", function()
    assert.blames("cueball.run: expected a function, got nil", function() cueball.run() end)
    assert.blames('cueball.spawn: expected a function, got "x"', function() cueball.spawn "x" end)
  end)

  it("host is told by a pool, and leaves nothing behind", function()
    local given = { host = {}, resolver = function() end, connect = function() end }
    assert.blames("cueball.pool: option 'host' is no host (docs/hosts.md): it has no now", function() cueball.pool(given) end)
    local said = "cueball.cosocket.load: option 'host' must be a host (docs/hosts.md), not 5"
    assert.blames(said, function() cueball.cosocket.load("redis", 5) end)
  end)

  it("length is told by receive", function()
    assert.matches("bad argument #1 to 'receive' %(bad pattern argument%)", select(2, pcall(function()
      local sock = town.world.tcp()
      sock.is_open = true
      sock:receive(math.huge)
    end)))
  end)
end)

describe("a wrong name", function()
  it("is answered with one that is near, or with all there are", function()
    local function told(name)
      return (select(2, pcall(cueball.pool, { [name] = 1, host = town.world, resolver = function() end, connect = function() end })))
    end
    assert.matches("did you mean 'spares'?", told "spare", 1, true)
    assert.matches("did you mean 'max_waiters'?", told "max_waiter", 1, true)
    assert.matches("did you mean 'idle_timeout_ms'?", told "idle_timeout", 1, true)
    assert.matches("unknown option 'x'; there are ", told "x", 1, true)
    assert.matches("unknown option 'pool'; there are ", told "pool", 1, true)
    assert.matches("unknown option 'a\\nb'; there are ", told "a\nb", 1, true)
  end)
end)

describe("a text that is refused", function()
  it("is shown on one line, and clean", function()
    local function assert_told(wanted, message) assert.matches(wanted, message, 1, true) end
    local from, dns = cueball.resolver.from, cueball.resolver.dns
    assert_told([["a\nb": there are blanks in it]], select(2, from "a\nb"))
    assert_told([["unix:\n": ]], select(2, from "unix:\n"))
    assert_told([["\xe8\xc2\x85:1" is neither]], select(2, from "\xe8\xc2\x85:1"))
    assert_told([[not "a\nb": ]], select(2, pcall(dns, { domain = "a\nb" })))
    assert_told([[no backend has the key "a\nb"]], select(2, pool:renew { backend = "a\nb" }))
    local mute = setmetatable({}, { __tostring = function() error "no" end })
    assert_told("must be a string, not a table without a text", select(2, pcall(cueball.resolver.static, { "10.0.0.1:1", name = mute })))
  end)
end)

describe("a member", function()
  it("that is over is stale for release too", function()
    local members = {}
    local set = cueball.set {
      host = town.world, resolver = function(sink) sink:add { address = "10.0.0.1", port = 1 } end, connect = function() return {} end,
      added = function(member) members[#members + 1] = member end, removed = function(member) member:release() end,
    }
    town:advance(200)
    assert.matches("use member:close", select(2, pcall(members[1].release, members[1])))
    for _, how in ipairs { "fail", "close" } do
      local member = members[#members]
      assert.is_true((member[how](member)))
      for _, again in ipairs { "release", "close", "fail" } do
        local ok, _, name = member[again](member)
        assert.same({ nil, "stale" }, { ok, name })
      end
      town:advance(1000)
    end
    set:stop()
    town:advance(1)
    local ok, _, name = members[#members]:release()
    assert.same({ nil, "stale" }, { ok, name })
  end)
end)

describe("a path of a UNIX socket that is too long", function()
  local long = "unix:/" .. ("a"):rep(107)

  it("is refused in words, by resolvers and by sockets", function()
    assert.matches("number 1: the path of a UNIX socket has 108 bytes, 107 at most fit",
      select(2, pcall(cueball.resolver.static, { long })), 1, true)
    town.world.server(long:sub(1, -2))
    town.world.run(function()
      local ok, message = town.world.tcp():connect(long)
      assert.is_nil(ok)
      assert.equal("the path of a UNIX socket has 108 bytes, 107 at most fit", message)
      assert.equal(1, town.world.tcp():connect(long:sub(1, -2)))
    end)
    cueball.run(function()
      local ok, message = cueball.host().tcp():connect(long)
      assert.is_nil(ok)
      assert.matches("has 108 bytes", message)
    end)
  end)
end)
