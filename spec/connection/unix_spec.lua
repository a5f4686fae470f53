--- UNIX sockets as backends of every connection factory, on libuv, against real servers. In nginx: spec/nginx/unix_spec.lua.
local ffi = require "ffi"
local uv = require "luv"
local cueball = require "cueball"
local host = require "cueball.host.uv"
local monitor = require "cueball.monitor"
local factories = require "spec.support.factories"
local run_pool = require "spec.support.run_pool"
local shell = require "spec.support.shell"
local until_true = require "spec.support.until_true"
local with = require "spec.support.with"

ffi.cdef [[ int cueball_spec_seteuid(unsigned) __asm__("seteuid"); ]]

local RECOVERY = { default = { attempts = 2, timeout_ms = 15000, delay_ms = 20, max_delay_ms = 40 } }

local function value_of(text) return assert(loadstring("return " .. text))() end

local function make(case) return value_of(case.factory)(value_of(case.right)) end

-- Runs fn(pool, ask) with a pool; ask() claims and has it say something: its answer, and who gave it.
local function with_pool(case, resolver, fn, more)
  local use = value_of(case.use)
  run_pool(with({
    host = host, name = "local", max_connections = 4, claim_timeout_ms = 15000, recovery = RECOVERY, resolver = resolver,
    connect = make(case),
  }, more), function(pool)
    fn(pool, function()
      return pool:with(function(connection, lease) return use(connection), lease:backend().key end)
    end)
  end)
end

-- What a pool over this address alone says of it.
local function fault_of(case, address)
  local message
  with_pool(case, cueball.resolver.static { address }, function(pool)
    local lease, why, name = pool:claim()
    assert.same({ nil, "pool_failed" }, { lease, name })
    message = why
  end, { max_connections = 1 })
  return message:gsub("; for %d+ ms", "")
end

for name, case in pairs(factories.all()) do
  describe("a UNIX socket as a backend, with the factory " .. name, function()
    local server

    before_each(function() server = case.start() end)
    after_each(function() server:stop() end)

    it("is balanced with one of TCP, and shown by its path", function()
      with_pool(case, cueball.resolver.static { server.backend, server.socket }, function(pool, ask)
        assert(pool:ready { connections = 4 })
        local seen = {}
        for _ = 1, 8 do
          local answer, key = ask()
          assert.equal(case.answer, answer)
          seen[key] = (seen[key] or 0) + 1
        end
        for _, backend in ipairs(pool:backends()) do assert.equal(2, backend.idle) end
        local keys = { pool:backends()[1].key, pool:backends()[2].key }
        assert.same({ 4, 4 }, { seen[keys[1]], seen[keys[2]] })
        table.sort(keys)
        assert.same({ server.backend, server.socket }, keys)
        assert.is_truthy(monitor.json():gsub("\\/", "/"):find(('"key":"%s"'):format(server.socket), 1, true))
        assert.is_truthy(monitor.openmetrics():find(('cueball_backend_up{pool="local",backend="%s"} 1'):format(server.socket), 1, true))
      end)
    end)

    it("comes from a file, or from a resolver of one's own", function()
      local path, link = os.tmpname(), nil
      local there = server.socket:sub(#"unix:" + 1)
      if there:find " " then -- a line has no blanks, but between its fields
        link = os.tmpname()
        os.remove(link)
        assert(uv.fs_symlink(there, link))
        there = link
      end
      shell.write(path, "# local\nunix:" .. there .. " weight=2 name=here\n")
      for _, resolver in ipairs {
        cueball.resolver.file(path),
        function(sink) sink:add { address = server.socket, key = "here" } end,
        cueball.resolver.poll { step = function() return { { address = server.socket, port = 7, name = "here" } } end },
      } do
        with_pool(case, resolver, function(pool, ask)
          assert.equal(case.answer, (ask()))
          local backend = pool:backends()[1]
          assert.is_true(backend.name == "here" or backend.key == "here")
        end)
      end
      os.remove(path)
      if link then os.remove(link) end
    end)

    it("that nobody listens at, or that is gone, is told; the server that comes back is found", function()
      local path = server.socket:sub(#"unix:" + 1)
      with_pool(case, cueball.resolver.static { server.socket }, function(pool, ask)
        assert.equal(case.answer, (ask()))
        server:kill()
        assert.is_truthy(uv.fs_stat(path)) -- the file stays
        until_true(function() return pool:stats().dead_backends == 1 end)
        local function tells(words)
          local said = pool:last_error()
          return said:find(server.socket, 1, true) and said:lower():find(words, 1, true)
        end
        until_true(function() return tells "connection refused" end, function() return pool:last_error() end)
        os.remove(path)
        until_true(function() return tells "no such file or directory" end)
        server:start_again()
        until_true(function() return ask() == case.answer end)
        until_true(function() return pool:stats().idle == 4 end, function() return pool:last_error() end)
        os.remove(path) -- those that are open go on
        assert.equal(case.answer, (ask()))
        pool:renew { over_ms = 0 }
        until_true(function() return pool:stats().dead_backends == 1 end)
      end)
    end)
  end)
end

describe("a UNIX socket that cannot be connected to", function()
  local case = factories.all().tcp
  local folder

  before_each(function() folder = assert(uv.fs_mkdtemp "/tmp/cueball-unix-XXXXXX") end)
  after_each(function() os.execute("rm -rf " .. folder) end)

  local function failed(path, message) return ("pool local has failed: dead: unix:%s (%s)"):format(path, message) end

  it("says why", function()
    shell.write(folder .. "/file", "")
    for path, message in pairs {
      [folder .. "/none"] = "no such file or directory", [folder .. "/file"] = "connection refused", [folder] = "connection refused",
      [folder .. "/file/below"] = "not a directory", ["/"] = "connection refused",
    } do
      assert.equal(failed(path, message), (fault_of(case, "unix:" .. path)))
    end
  end)

  it("says that it may not", function()
    local server = case.start()
    local path = server.socket:sub(#"unix:" + 1)
    local is_root = uv.getuid() == 0
    os.execute(("chmod 000 '%s'"):format(path))
    fault_of(case, "unix:" .. folder .. "/none") -- all modules are loaded
    if is_root then assert.equal(0, ffi.C.cueball_spec_seteuid(65534)) end
    local ok, message = pcall(fault_of, case, server.socket)
    if is_root then assert.equal(0, ffi.C.cueball_spec_seteuid(0)) end
    server:stop()
    assert.is_true(ok, message)
    assert.equal(failed(path, "permission denied"), message)
  end)

  it("is refused by every resolver, if that can be told from its address", function()
    local long = "unix:/" .. ("x"):rep(107)
    local TOO_LONG = "the path of a UNIX socket has 108 bytes, 107 at most fit"
    local ABSTRACT = "abstract sockets are not supported, only sockets with a path: unix:/PATH"
    for address, message in pairs { [long] = TOO_LONG, ["unix:@db"] = ABSTRACT, ["unix:db"] = "expected unix:/PATH" } do
      local ok, why = pcall(cueball.resolver.static, { address })
      assert.is_false(ok)
      assert.is_truthy(why:find(message, 1, true), why)
      local none, said, kind = cueball.resolver.from(address)
      assert.same({ nil, "invalid" }, { none, kind })
      assert.is_truthy(said:find(message, 1, true), said)
      shell.write(folder .. "/backends", address .. "\n")
      for _, resolver in ipairs { cueball.resolver.file(folder .. "/backends"), function(sink) sink:set { address } end } do
        local lines, before = {}, host.log
        host.log = function(_, line) lines[#lines + 1] = line end
        local went_well, fault = pcall(with_pool, case, resolver, function()
          local function told() return table.concat(lines, "\n") end
          until_true(function() return told():find(message, 1, true) end, told)
        end)
        host.log = before
        assert.is_true(went_well, fault)
      end
    end
  end)

  it("is none for DNS", function()
    assert.has_error(function() cueball.resolver.dns { domain = "unix:/run/db.sock" } end)
    local ok, message = pcall(cueball.resolver.dns, { domain = "unix:/run/db.sock" })
    assert.is_false(ok)
    assert.is_truthy(message:find('option \'domain\' must be a name such as "db.example", not "unix:/run/db.sock"', 1, true), message)
  end)
end)
