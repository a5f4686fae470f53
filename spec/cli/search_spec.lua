--- cueball resolve in virtual time, with a resolver that does as it is told: what is asked of it, and what becomes of it.
local cli = require "cueball.cli"
local machine = require "spec.support.machine"
local sim = require "cueball.host.sim"

local FROM = "cueball.resolver.from"

local db1 = { address = "10.0.0.1", port = 80, key = "10.0.0.1:80", name = "db1", priority = 0, weight = 1, provenance = "A of db1" }
local db2 = { address = "10.0.0.2", port = 80, key = "10.0.0.2:80", name = "db2", priority = 0, weight = 1, provenance = "A of db2" }

describe("cueball resolve", function()
  local world, system, resolver, asked, interrupt, before

  before_each(function()
    world = sim.new { seed = 1 }
    world.dns = { system = function() return { servers = { "10.0.0.53:53" } } end }
    interrupt = nil
    function world.on_signal(name, fn)
      assert.equal("int", name)
      interrupt = fn
      return function() interrupt = nil end
    end
    system = machine.new { host = world }
    resolver = { name = "db.example" }
    before, package.loaded[FROM] = package.loaded[FROM], function(text, options)
      asked = { text = text, options = options }
      return resolver
    end
  end)

  after_each(function()
    package.loaded[FROM] = before
    world.close()
  end)

  local function run(...) return cli.main({ "resolve", ... }, system) end

  describe("once", function()
    it("prints what the resolver found", function()
      function resolver.lookup(_, given)
        assert.equal(1500, given.timeout_ms)
        world.sleep(100)
        return { db2, db1 }
      end
      assert.equal(0, run("-t", "1.5s", "db.example"))
      assert.equal("10.0.0.1 80 10.0.0.1:80\n10.0.0.2 80 10.0.0.2:80\n", system.out)
      assert.equal("", system.err)
      assert.is_nil(interrupt, "nobody listens for signals any more")
    end)

    it("says what it was told if there is nothing, and ends as the reason has it", function()
      for name, code in pairs { not_found = 1, dns_failed = 1, timeout = 3, not_supported = 4 } do
        system.err = ""
        function resolver.lookup() return nil, "db.example: " .. name, name end
        assert.equal(code, run "db.example")
        assert.equal("", system.out)
        assert.equal("cueball: db.example: " .. name .. "\n", system.err)
      end
    end)

    it("ends at once when interrupted, and leaves no task behind", function()
      local was_ended = false
      function resolver.lookup()
        world.guard { abort = function() was_ended = true end }
        world.spawn(function() interrupt() end)
        world.sleep(1e6)
      end
      local began = world.now()
      assert.equal(130, run "db.example")
      assert.equal(began, world.now())
      assert.is_true(was_ended)
      assert.equal("", system.out .. system.err)
    end)

    it("tells a fault in the resolver with its traceback", function()
      function resolver.lookup() error "a fault" end
      assert.equal(4, run "db.example")
      assert.equal("", system.out)
      assert.is_truthy(system.err:find("^cueball: .*search_spec.lua:%d+: a fault\nstack traceback:"), system.err)
    end)

    it("hands on what was asked for", function()
      function resolver.lookup() return { db1 } end
      run "db.example:5432"
      assert.equal("db.example:5432", asked.text)
      assert.equal("_http._tcp", asked.options.service)
      assert.equal(80, asked.options.default_port)
      assert.equal("both", asked.options.families)
      assert.is_nil(asked.options.nameservers)
      assert.equal(world, asked.options.host)
      run("-6", "-s", "none", "-p", "8080", "-r", "10.0.0.1,::1", "db.example")
      assert.is_false(asked.options.service)
      assert.equal(8080, asked.options.default_port)
      assert.equal("ipv6", asked.options.families)
      assert.same({ "10.0.0.1:53", "[::1]:53" }, asked.options.nameservers)
      run("-4", "--resolvers=dns.example", "db.example")
      assert.equal("ipv4", asked.options.families)
      assert.equal("dns.example", asked.options.nameservers)
    end)

    it("has JSON say what was asked for", function()
      function resolver.lookup() return { db1 } end
      run("--json", "-s", "_pg._tcp", "db.example")
      assert.is_truthy(system.out:find('^{"name":"db.example","service":"_pg._tcp","backends":%[{"name":"db1",'), system.out)
      system.out = ""
      run("--json", "-s", "none", "db.example")
      assert.is_truthy(system.out:find('^{"name":"db.example","service":null,'), system.out)
    end)

    -- The worst that the tracker can do at a step: each attempt asks each server for all of the time limit.
    it("leaves time to ask every server at every step, and tells what went wrong before it is over", function()
      function resolver.lookup() return { db1 } end
      local function check(servers, steps, ...)
        run("-t", "1000", ...)
        local recovery, whole = asked.options.recovery.default, 0
        for attempt = 1, recovery.attempts do
          whole = whole + servers * math.min(recovery.timeout_ms * 2 ^ (attempt - 1), recovery.max_timeout_ms)
        end
        assert.is_true(whole >= 800 and whole <= 900, whole)
        assert.is_true(steps * servers * recovery.timeout_ms <= 1000)
      end
      check(1, 2, "db.example")   -- one server, of the system: SRV, then addresses
      check(3, 1, "-s", "none", "-r", "10.0.0.1,10.0.0.2,10.0.0.3", "db.example")
      check(3, 4, "-r", "dns.example", "db.example")   -- their SRV and addresses come first; as many as may be
    end)
  end)

  describe("-f", function()
    local listener, was_closed, code

    before_each(function()
      listener, was_closed, code = nil, false, nil
      function resolver.lookup() error "not to be called" end
      function resolver.follow(_, host, given)
        assert.equal(world, host)
        listener = given
        return { close = function() was_closed = true end }
      end
    end)

    -- Runs it while fn() happens in a task of its own; what fn throws ends it too, as nothing else would.
    local function follow(fn, ...)
      local ok, message = true, nil
      world.spawn(function()
        world.sleep(10)
        ok, message = pcall(fn)
        if not ok then interrupt() end
      end)
      code = run("-f", ...)
      if not ok then error(message, 0) end
      assert.is_true(was_closed)
      assert.is_nil(interrupt)
    end

    it("prints every event as it comes, until interrupted", function()
      follow(function()
        listener.add(db1)
        assert.equal("2001-09-09T01:46:40.123Z added 10.0.0.1:80 10.0.0.1:80 A of db1\n", system.out)
        listener.add(db2)
        system.clock = 1000000060
        listener.change(db2)
        listener.remove { address = "10.0.0.1", port = 80, key = "10.0.0.1:80", provenance = "db1 has no A records any more" }
        interrupt()
      end, "--why", "db.example")
      assert.equal(130, code)
      assert.equal([[
2001-09-09T01:46:40.123Z added 10.0.0.1:80 10.0.0.1:80 A of db1
2001-09-09T01:46:40.123Z added 10.0.0.2:80 10.0.0.2:80 A of db2
2001-09-09T01:47:40.000Z changed 10.0.0.2:80 10.0.0.2:80 A of db2
2001-09-09T01:47:40.000Z removed 10.0.0.1:80 10.0.0.1:80 db1 has no A records any more
]], system.out)
      assert.equal("", system.err)
    end)

    it("says on stderr when the nodes cannot be found, and when they can again", function()
      follow(function()
        listener.fail "no answer from 10.0.0.53:53"
        listener.recover()
        interrupt()
      end, "db.example")
      assert.equal("", system.out)
      assert.equal("2001-09-09T01:46:40.123Z failing: no answer from 10.0.0.53:53\n2001-09-09T01:46:40.123Z recovered\n", system.err)
    end)

    it("ends quietly when its reader is gone, also while nothing happens", function()
      local began = world.now()
      follow(function() system.reader_is_gone = true end, "db.example")
      assert.equal(141, code)
      assert.is_true(world.now() - began <= 1.1e9)
      was_closed = false
      system.reader_is_gone = false
      follow(function()
        system.fault = { "Broken pipe", 32 }
        listener.add(db1)
      end, "db.example")
      assert.equal(141, code)
      assert.equal("", system.err)
    end)

    it("ends when its output cannot be written", function()
      follow(function()
        system.fault = { "No space left on device", 28 }
        listener.add(db1)
      end, "db.example")
      assert.equal(1, code)
      assert.equal("cueball: stdout cannot be written: No space left on device\n", system.err)
    end)

    it("says it if the host has no DNS", function()
      function resolver.follow() return nil, "the host has no dns" end
      assert.equal(4, run("-f", "db.example"))
      assert.equal("cueball: the host has no dns\n", system.err)
    end)
  end)
end)
