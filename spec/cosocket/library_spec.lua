--- Client libraries written for OpenResty, unmodified, on libuv: Debian's, against real servers; and how they are loaded.
local cueball = require "cueball"
local dns_servers = require "spec.support.dns_servers"
local host = require "cueball.host.uv"
local memcached = require "spec.support.memcached"
local nginx = require "spec.support.nginx"
local redis = require "spec.support.redis"
local shell = require "spec.support.shell"
local sim = require "cueball.host.sim"

local load = cueball.cosocket.load

-- Files of libraries in a folder of their own, which is found by require: fn(). An option: a host.
local function with_files(files, fn)
  local folder = shell.must "mktemp -d":gsub("%s+$", "")
  local path = package.path
  package.path = folder .. "/?.lua;" .. folder .. "/?/init.lua;" .. path
  for name, source in pairs(files) do
    shell.must(("mkdir -p '%s/%s'"):format(folder, name:match "^(.-)[^/]*$"))
    shell.write(folder .. "/" .. name, source)
  end
  local ok, message = pcall(fn)
  package.path = path
  shell.must("rm -rf '" .. folder .. "'")
  if not ok then error(message, 0) end
end

describe("Debian's libraries on libuv", function()
  it("memcached stores, finds, counts and forgets", function()
    local server = memcached.start()
    finally(function() server:stop() end)
    host.run(function()
      local client = load "memcached":new()
      client:set_timeout(20000)
      assert.equal(1, client:connect("127.0.0.1", server.port))
      assert.equal(1, client:set("a key", "1", 60))
      assert.equal("1", (client:get "a key"))
      assert.equal(3, tonumber((client:incr("a key", 2))))
      local several = client:get { "a key", "no key" }
      assert.equal("3", several["a key"][1])
      assert.is_nil((client:get "no key"))
      assert.equal(1, client:delete "a key")
      assert.same({ nil, "NOT_FOUND" }, { client:delete "a key" })
      assert.equal(1, client:set_keepalive(1000, 1))
    end)
  end)

  it("redis, by either of its names, with a null that is the host's", function()
    local server = redis.start {}
    finally(function() server:stop() end)
    host.run(function()
      local library, null = load "resty.redis"
      assert.equal(library, (load "redis"))
      assert.equal(library, (load "nginx.redis"))
      local client = library:new()
      assert.equal(1, client:connect("127.0.0.1", server.port))
      assert.equal("OK", client:set("key", "value"))
      assert.equal("value", client:get "key")
      assert.equal(null, client:get "no key")
      assert.equal(1, client:close())
    end)
  end)

  it("dns asks over UDP, and over TCP what does not fit", function()
    local knot = dns_servers.knot { zones = { ["example."] = "db A 10.0.0.1\n_db._tcp SRV 1 2 3 db\nlong TXT "
      .. ('"' .. ("t"):rep(200) .. '" '):rep(30) .. "\n" } }
    finally(dns_servers.close_all)
    host.run(function()
      local Resolver = load "resty.dns.resolver"
      local resolver = Resolver:new { nameservers = { { "127.0.0.1", knot.port } }, retrans = 3, timeout = 20000 }
      assert.equal("10.0.0.1", resolver:query("db.example")[1].address)
      local service = resolver:query("_db._tcp.example", { qtype = resolver.TYPE_SRV })[1]
      assert.same({ "db.example", 3, 1, 2 }, { service.target, service.port, service.priority, service.weight })
      assert.equal(30, #resolver:query("long.example", { qtype = resolver.TYPE_TXT })[1].txt)
      assert.equal("name error", resolver:query("none.example").errstr)
      knot:stop()
      resolver = Resolver:new { nameservers = { { "127.0.0.1", knot.port } }, retrans = 2, timeout = 1000 }
      assert.matches("connection refused$", (select(2, resolver:query "db.example")))
    end)
  end)

  it("websocket speaks with its own server in nginx", function()
    if not nginx.is_there() then return pending "no nginx" end
    local one = nginx.start { server = [[location /chat { content_by_lua_block {
      local server = require("nginx.websocket.server"):new { timeout = 20000, max_payload_len = 200000 }
      while true do
        local data, kind = server:recv_frame()
        if not kind then return end
        if kind == "close" then return server:send_close(1000, "bye") end
        if kind == "ping" then server:send_pong(data) end
        if kind == "binary" then server:send_binary(data) end
        if kind == "text" then server:send_text("you: " .. data) end
      end
    } }]] }
    finally(function() one:stop() end)
    host.run(function()
      local client = load "resty.websocket.client":new { timeout = 20000, max_payload_len = 200000 }
      assert.truthy(client:connect("ws://127.0.0.1:" .. one.port .. "/chat"))
      client:send_text "hello"
      assert.same({ "you: hello", "text" }, { client:recv_frame() })
      client:send_binary(("b"):rep(100000))
      assert.equal(100000, #(client:recv_frame()))
      client:send_ping "are you there"
      assert.same({ "are you there", "pong" }, { client:recv_frame() })
      client:send_close(1000, "enough")
      assert.same({ "bye", "close", 1000 }, { client:recv_frame() })
      assert.equal(1, client:close())
    end)
  end)

  it("string, sha and aes find OpenSSL, on every host of the process", function()
    for _, one in ipairs { host, sim.new {}, sim.new {} } do
      local function digest(name)
        local made = load("resty." .. name, one):new()
        made:update "a"
        made:update "bc"
        return load("resty.string", one).to_hex(made:final())
      end
      assert.equal("900150983cd24fb0d6963f7d28e17f72", digest "md5")
      assert.equal("a9993e364706816aba3e25717850c26c9cd0d89d", digest "sha1")
      assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", digest "sha256")
      assert.equal(128, #digest "sha512")
    end
    local strings, random = load "resty.string", load "resty.random"
    assert.same({ 123, -1, -1 }, { strings.atoi "123", strings.atoi "12x", strings.atoi "" })
    assert.equal(16, #random.bytes(16, true))
    local cipher = load "resty.aes":new "a secret"
    assert.equal("a text", cipher:decrypt(cipher:encrypt "a text"))
  end)
end)

describe("a library", function()
  it("has an `ngx` of its own, and nobody else has one", function()
    with_files({
      ["resty/one.lua"] = "ngx.mark = 'one'; one_global = 1; return { api = ngx, seen = _G.ngx == ngx, other = require 'resty.two' }",
      ["resty/two.lua"] = [[return { api = ngx, mark = pcall(function() return ngx.mark end), global = one_global,
        phase = ngx.get_phase() }]],
    }, function()
      local world = sim.new {}
      local one = load("resty.one", world)
      assert.is_true(one.seen)
      assert.is_false(one.other.mark)
      assert.not_equal(one.api, one.other.api)
      assert.equal(1, one.other.global)
      assert.equal("timer", one.other.phase)
      assert.is_nil(rawget(_G, "ngx"))
      assert.is_nil(rawget(_G, "one_global"))
      assert.is_nil(package.loaded["resty.one"])
      assert.equal(one, (load("resty.one", world)))
      assert.not_equal(one, (load("resty.one", sim.new {})))
    end)
  end)

  it("shares what needs no cosockets with the program, and nothing else", function()
    with_files({
      ["resty/three.lua"] = [[return { again = function() return require 'plainlib' end, plain = require 'plainlib',
        uses = require 'usinglib', indirect = require 'indirectlib',
        ffi = require 'ffi' }]],
      ["plainlib.lua"] = "return { is_plain = true }",
      ["usinglib.lua"] = "return { now = ngx.now() }",
      ["indirectlib.lua"] = "return { used = require('usinglib'), plain = require 'plainlib' }",
    }, function()
      local found = load("resty.three", sim.new {})
      assert.equal(require "plainlib", found.plain)
      assert.equal(1600000000, found.uses.now)
      assert.equal(found.uses, found.indirect.used)
      assert.equal(found.plain, found.indirect.plain)
      assert.is_nil(package.loaded.usinglib)
      assert.is_nil(package.loaded.indirectlib)
      assert.equal(require("ffi").new, found.ffi.new)
      local searchpath = package.searchpath
      package.searchpath = nil -- luacheck: ignore
      local ok, again = pcall(found.again) -- no file is looked for
      package.searchpath = searchpath -- luacheck: ignore
      assert.same({ true, found.plain }, { ok, again })
      package.loaded.plainlib = nil
    end)
  end)

  it("may be written for Lua 5.1's module(), compile Lua, and look at package.loaded", function()
    with_files({
      ["resty/old.lua"] = [[module("resty.old", package.seeall)
        function now() return ngx.now() end
        compiled = loadstring "return ngx.time()"
        made = load("return ngx", "x", "t", { ngx = "mine" })()
        loaded = package.loaded["resty.old"] == resty.old]],
    }, function()
      local old = load("resty.old", sim.new {})
      assert.same({ 1600000000, 1600000000, "mine", true }, { old.now(), old.compiled(), old.made, old.loaded })
      assert.is_nil(rawget(_G, "resty"))
    end)
  end)

  it("may be compiled into the program, and begin with a line for the shell; what it prints is logged", function()
    package.preload["resty.baked"] = loadstring "print('time ', ngx.time(), nil) return { time = ngx.time(), name = ... }"
    finally(function() package.preload["resty.baked"] = nil end)
    with_files({
      ["resty/script.lua"] = "#!/usr/bin/env resty\nreturn { baked = require 'resty.baked', line = debug.getinfo(1, 'l').currentline }",
    },
      function()
        local world = sim.new {}
        local script = load("resty.script", world)
        assert.same({ time = 1600000000, name = "resty.baked" }, script.baked)
        assert.equal(2, script.line)
        assert.same({ time_ms = 0, level = "info", message = "cueball: resty.baked: time 1600000000nil" }, world.logs[1])
      end)
  end)

  it("that wants what is not there is told so, by name", function()
    with_files({ ["resty/odd.lua"] = [[return {
        a = function() return ngx.nonesuch end, b = function() return ngx.timer.nonesuch end, c = function() return ngx.var.uri end,
        d = function() return ngx.req.get_headers() end, e = function() ngx.say "x" end, f = function() return ngx.status end,
        g = function() ngx.header.x = 1 end, h = function() return ndk.set_var end, i = function() return ngx.run_worker_thread end,
        j = function() return require "ngx.pipe" end, k = function() return require("ffi").C.ngx_nonesuch end }]] }, function()
      local odd = load("resty.odd", sim.new {})
      local function says(name) return (tostring(select(2, pcall(odd[name]))):gsub("^.*odd.lua:%d+: ", "")) end
      assert.equal("resty.odd: ngx.nonesuch is not there outside of nginx", says "a")
      assert.equal("resty.odd: ngx.timer.nonesuch is not there outside of nginx", says "b")
      assert.equal("resty.odd: ngx.var.uri: there is no request here, as in a timer", says "c")
      assert.equal("resty.odd: ngx.req.get_headers: there is no request here, as in a timer", says "d")
      assert.equal("resty.odd: ngx.say: there is no request here, as in a timer", says "e")
      assert.equal("resty.odd: ngx.status: there is no request here, as in a timer", says "f")
      assert.equal("resty.odd: ngx.header.x: there is no request here, as in a timer", says "g")
      assert.equal("resty.odd: ndk.set_var is not there outside of nginx", says "h")
      assert.equal("nil", says "i")
      assert.equal("module 'ngx.pipe' not found: it is a part of nginx, and not there outside of it", says "j")
      assert.matches("ngx_nonesuch", says "k")
    end)
  end)

  it("that is missing or broken raises at the line that loads it, and may be loaded once it is mended", function()
    local world = sim.new {}
    with_files({
      ["resty/bad.lua"] = "error 'bad luck'", ["resty/worse.lua"] = "return return", ["resty/ring.lua"] = "return require 'resty.ring'",
    },
      function()
        local function says(name) return select(2, pcall(function() load(name, world) end)) end
        assert.matches("^[^\n]*library_spec.lua:%d+: cueball.cosocket.load: resty.bad: .*bad luck", says "resty.bad")
        assert.matches("bad luck", says "resty.bad")
        assert.matches("error loading module 'resty.worse'", says "resty.worse")
        assert.matches("loop or previous error loading module 'resty.ring'", says "resty.ring")
        assert.matches("install lua%-resty%-nothere, or Debian's lua%-nginx%-nothere", says "nothere")
        shell.write(package.path:match "^[^?]*" .. "resty/bad.lua", "return { is_good = true }")
        assert.is_true(load("resty.bad", world).is_good)
      end)
    for _, wrong in ipairs { "", 1, {} } do assert.has_error(function() load(wrong) end) end
    assert.has_error(function() load("redis", {}) end)
  end)
end)
