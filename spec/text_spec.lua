--- Texts from outside: what they may not bring into logs, terminals, JSON and metrics.
local address = require "cueball.address"
local cueball = require "cueball"
local json = require "cueball.monitor.json"
local secret = require "cueball.secret"
local sim_pool = require "spec.support.sim_pool"
local source = require "cueball.cli.source"
local system = require "cueball.dns.system"
local text = require "cueball.text"
local tls = require "cueball.connection.tls"

describe("a text that is cleaned", function()
  it("has its control characters and line ends escaped", function()
    assert.equal("no\\x1b[2J\\x07\\r\\nall is well\\t\\x00\\x7f", text.clean "no\27[2J\7\r\nall is well\t\0\127")
    assert.equal("\\xc2\\x9b31m\\xe2\\x80\\xa8", text.clean "\194\15531m\226\128\168")   -- CSI of C1, and LINE SEPARATOR
  end)

  it("has broken UTF-8 escaped, and the good kept", function()
    for _, good in ipairs { "", "plain", "äöü", "日本語", "\240\159\152\128", "\194\160", "\239\191\191", "a\\x1b" } do
      assert.equal(good, text.clean(good))
      assert.is_true(text.is_clean(good))
    end
    for _, bad in ipairs {
      "\232", "\192\128", "\193\191", "\195", "\195(", "\224\128\128", "\237\160\128", "\240\128\128\128", "\244\144\128\128",
      "\245\128\128\128", "\255", "\226\130", "\128", "\240\159\152",
    } do
      local cleaned = text.clean("ä" .. bad .. "z")
      assert.matches("^ä\\x%x%x.*z$", cleaned)
      assert.is_nil(cleaned:gsub("ä", ""):find "[\128-\255]")
      assert.is_true(text.is_clean(cleaned))
      assert.is_false(text.is_clean(bad))
    end
  end)

  it("keeps the line ends that are ours", function()
    assert.equal("a\n\tb\\rc\\x1b", text.clean_lines "a\n\tb\rc\27")
  end)
end)

describe("a text that is trimmed", function()
  it("has no blanks around it", function()
    for given, expected in pairs { [""] = "", [" \t\n"] = "", ["a"] = "a", ["  a b\n"] = "a b", ["\r\n x"] = "x" } do
      assert.equal(expected, text.trimmed(given))
    end
  end)

  it("keeps those before it, if only those behind it are cut", function()
    for given, expected in pairs { [""] = "", [" \t\n"] = "", ["a"] = "a", ["  a b\n"] = "  a b" } do
      assert.equal(expected, text.trimmed_end(given))
    end
  end)

  it("is one of several parts", function()
    assert.same({ "a", "b c", "" }, text.parts(" a,b c\n,", ","))
    assert.same({ "" }, text.parts("", ","))
    assert.same({ "a.b", "" }, text.parts("a.b--", "--"))
  end)

  it("is looked at once, however many blanks it has", function()
    local blanks = (" "):rep(4 * 1024 * 1024) -- a pattern would take hours for them
    local given = blanks .. "x" .. blanks .. "x" .. blanks
    assert.equal(#blanks + 2, #text.trimmed(given))
    assert.equal(2 * #blanks + 2, #text.trimmed_end(given))
    assert.equal(#blanks + 2, #text.parts(given .. "," .. given, ",")[2])
  end)
end)

describe("a megabyte of blanks", function()
  local blanks = (" "):rep(1024 * 1024)

  it("is read once wherever others may send it", function()
    local shown = "ERR" .. blanks .. "x"
    assert.equal(#shown + 1, (secret.hide_echo(shown .. blanks .. "'auth hunter22'", "hunter22"):find(" (", 1, true)))
    assert.equal(#shown + 1, (secret.cut(shown .. blanks .. "hunter22", "hunter22 and more"):find(" (", 1, true)))
    assert.equal("1.2.3.4:53", system.parse("nameserver" .. blanks .. "1.2.3.4" .. blanks .. "x #" .. blanks, {}, "h").servers[1])
    assert.matches("client certificate", tls.explained("read: " .. blanks .. "closed"))
    assert.equal(blanks .. "no", tls.explained(blanks .. "no"))
    for _, given in ipairs { blanks .. "x", "x" .. blanks, "x" .. blanks .. ":1", "[" .. blanks .. "]" .. blanks .. ":1" } do
      assert.is_nil((address.split(given)))
      assert.is_nil((source.at(given)))
    end
  end)
end)

describe("a message", function()
  local throws = setmetatable({}, { __tostring = function() error "no text" end })
  local number = setmetatable({}, { __tostring = function() return 5 end })

  it("is had of any value", function()
    assert.equal("a table without a text", text.message(throws))
    assert.equal("a table without a text", text.message(number))
    assert.equal("nil", text.message(nil))
    assert.equal("5", text.message(5))
    assert.equal("a\\nb", text.message "a\nb")
    assert.equal("a", text.first_line "a\nb")
    assert.equal('"a\\nb"', text.show "a\nb")
    assert.matches("^a table without a text\nstack traceback", text.traceback(throws))
  end)

  it("is bounded in length, at the end of a character", function()
    assert.equal(("x"):rep(1000) .. " …", text.message(("x"):rep(1001)))
    assert.equal("x" .. ("ä"):rep(499) .. " …", text.message("x" .. ("ä"):rep(600)))
    assert.equal(("x"):rep(1000), text.message(("x"):rep(1000)))
  end)
end)

describe("a pool", function()
  local EVIL = "no\27[2J\7\rall is well\n2026 error cueball db: forged \232"
  local CLEAN = "no\\x1b[2J\\x07\\rall is well\\n2026 error cueball db: forged \\xe8"
  local town, pool

  after_each(function()
    pool:stop()
    town.world.close()
  end)

  local function open(options)
    town = sim_pool.new { servers = 1 }
    options.recovery = { default = { attempts = 1 } }
    options.max_connections = 1
    pool = town:open(options)
    town:advance(1)
  end

  local function assert_clean_log()
    assert.is_true(#town.world.logs > 0)
    for _, line in ipairs(town.world.logs) do assert.equal(text.clean_lines(line.message), line.message) end
  end

  it("shows no control characters of a connection factory", function()
    open { connect = function() return nil, EVIL end }
    assert.equal(CLEAN, pool:backends()[1].error)
    assert.equal("db1: " .. CLEAN, pool:last_error())
    local _, message = pool:try_claim()
    assert.equal(text.clean(message), message)
    assert_clean_log()
    open { connect = function() error(EVIL, 0) end }
    assert.equal("db1: " .. CLEAN, pool:last_error())
    assert.matches(CLEAN .. "\nstack", town.world.logs[1].message, 1, true)
  end)

  it("shows none of a claimer, a check, a watch or the factory's own log", function()
    local lost
    open { connect = {
      connect = function(_, context)
        context.log("warn", EVIL)
        return {}
      end,
      watch = function(_, told) lost = told end,
      broken = function(connection) return connection.is_broken and EVIL end,
    } }
    assert.matches("cueball db: " .. CLEAN, town.world.logs[1].message, 1, true)
    for _, how in ipairs {
      function() pool:claim():fail(EVIL) end,
      function() lost(EVIL) end,
      function() pcall(pool.with, pool, function() error(EVIL, 0) end) end,
      function()
        local lease = pool:claim()
        lease.connection.is_broken = true
        lease:release()
      end,
    } do
      pool:backends()
      town.world.run(how)
      local last = pool:last_error()
      assert.equal(text.clean(last), last)
      town:advance(1000)
    end
    assert_clean_log()
  end)

  it("shows none of a resolver", function()
    local told
    open { connect = function() return {} end, resolver = function(sink)
      told = sink
      sink:add { key = "b\232d", address = "10.0.0.1", port = 80, provenance = EVIL }
      sink:fail(EVIL)
    end }
    assert.equal("b\\xe8d", pool:backends()[1].key)
    assert.equal(CLEAN, pool:backends()[1].provenance)
    assert.equal("resolver: " .. CLEAN, pool:last_error())
    assert.is_nil(told:add { address = "10.0.0.1", port = 80, name = "a\nb" })
    assert.is_nil(told:remove(EVIL))
    assert_clean_log()
    open { connect = function() return {} end, resolver = function() error(EVIL, 0) end }
    assert_clean_log()
  end)

  it("has a name that may be shown", function()
    open { connect = function() return {} end }
    for _, name in ipairs { "", "a\nb", "\27[31m", "\232", ("x"):rep(256) } do
      assert.has_error(function() pool:set { name = name } end)
      assert.has_error(function() cueball.pool { name = name, host = town.world, resolver = function() end, connect = function() end } end)
    end
    pool:set { name = "größer" }
    local named = cueball.pool {
      host = town.world, resolver = { name = "a\nb", run = function() end }, connect = function() end,
    }
    assert.equal("a\\nb", named.name)
    named:stop()
  end)

  it("stands values whose __tostring throws", function()
    local bad = setmetatable({}, { __tostring = function() error "no text" end })
    local is_bad = false
    open { connect = function()
      if is_bad then return nil, bad end
      return {}
    end }
    town.world.run(function()
      local ok, thrown = pcall(pool.with, pool, function() error(bad, 0) end)
      assert.is_false(ok)
      assert.is_true(rawequal(bad, thrown))
      town.world.sleep(1000)
      assert.equal(1, pool:stats().idle)
      is_bad = true
      pool:claim():fail(bad)
      town.world.sleep(1000)
      assert.equal("db1: a table without a text", pool:last_error())
    end)
    local unsubscribe = pool:subscribe(function() error(bad, 0) end)
    pool:set { max_waiters = 5 }
    unsubscribe()
    assert.matches("a subscriber threw: a table without a text", town.world.logs[#town.world.logs].message)
  end)
end)

describe("JSON", function()
  it("is UTF-8 whatever it is made of", function()
    assert.equal('{"a":"\\\\xe8"}', (json.encode { a = "\232" }))
  end)
end)
