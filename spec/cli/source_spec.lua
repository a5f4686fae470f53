--- Where cueball top has its figures from: HTTP in virtual time, well and badly made answers.
local sim = require "cueball.host.sim"
local source = require "cueball.cli.source"

describe("an address of a program", function()
  it("is read in every form that people type", function()
    local cases = {
      ["127.0.0.1:9190"] = { "127.0.0.1", 9190, "/", "127.0.0.1:9190" }, ["10.0.0.1"] = { "10.0.0.1", 9190, "/", "10.0.0.1:9190" },
      [":9191"] = { "127.0.0.1", 9191, "/", "127.0.0.1:9191" }, ["[::1]:80"] = { "::1", 80, "/", "[::1]:80" },
      ["db.example:80"] = { "db.example", 80, "/", "db.example:80" }, ["localhost"] = { "localhost", 9190, "/", "localhost:9190" },
      ["http://10.0.0.1:80/"] = { "10.0.0.1", 80, "/", "10.0.0.1:80" },
      ["http://10.0.0.1:80/pools//"] = { "10.0.0.1", 80, "/pools/", "10.0.0.1:80" },
      ["unix:/run/app.sock"] = { "unix:/run/app.sock", 0, "/", "localhost" },
      ["/run/app.sock"] = { "unix:/run/app.sock", 0, "/", "localhost" },
    }
    assert.is_true(source.at("https://db.example/").is_tls)
    assert.is_false(source.at("http://db.example/").is_tls)
    for given, expected in pairs(cases) do
      local at = assert(source.at(given))
      assert.same(expected, { at.address, at.port, at.path, at.host }, given)
    end
    for _, given in ipairs { "", "a b", "10.0.0.1:99999", "ftp://x/", "x:y", "unix:x", "a:1:2", "/" .. ("x"):rep(200) } do
      local at, message = source.at(given)
      assert.is_nil(at, given)
      assert.is_string(message)
    end
  end)
end)

describe("what a program answers", function()
  local world, request, server

  before_each(function() server, world = nil, sim.new { seed = 3, faults = { cut = 0.3, join = 0.3 } } end)
  after_each(function() world.close() end)

  -- A server that answers each request with these bytes, and then closes unless it is to wait.
  local function serve(bytes, waits)
    server = server or world.server("10.0.0.1", 9190)
    server:set { reply = function(data, connection)
      request = (request or "") .. data
      if not request:find("\r\n\r\n", 1, true) then return nil end
      connection:send(bytes)
      if not waits then connection:close() end
    end }
  end

  local function get(bytes, waits, options)
    request = nil
    serve(bytes, waits)
    return world.run(function()
      return source.get(world, source.at "10.0.0.1", "snapshot", options or { timeout_ms = 1000, token = "secret" })
    end)
  end

  it("is asked for once, with the token", function()
    assert.same({ 200, "{}" }, { get "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" })
    assert.matches("^GET /snapshot HTTP/1%.1\r\nHost: 10%.0%.0%.1:9190\r\nConnection: close\r\n", request)
    assert.matches("\r\nAuthorization: Bearer secret\r\n", request)
  end)

  it("is read whole, however long it is said to be", function()
    local body = ("x"):rep(100000)
    assert.same({ 200, body }, { get("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" .. body, true) })
    assert.same({ 404, body }, { get("HTTP/1.0 404 No\r\n\r\n" .. body) })
    local chunks = ("186a0;x=y\r\n%s\r\n2\r\nab\r\n0\r\n\r\n"):format(body)
    assert.same({ 200, body .. "ab" }, { get("HTTP/1.1 200 OK\r\nTransfer-Encoding:  Chunked \r\n\r\n" .. chunks, true) })
    assert.same({ 204, "" }, { get("HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n", true) })
  end)

  it("is refused if it is no answer, is cut or has no end", function()
    local cases = {
      ["SSH-2.0-x\r\n"] = 'it does not speak HTTP: "SSH-2.0-x"', [""] = "it closed the connection",
      ["HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"] = "the answer was cut",
      ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"] = "Invalid character in chunk size",
      ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"] = "the answer was cut",
      ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n"] = "the body is too long",
      ["HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"] = "the body is too long",
      ["HTTP/1.1 200 OK\r\n" .. ("A: b\r\n"):rep(200)] = "there are too many headers",
      ["HTTP/1.1 200 OK\r\nA: " .. ("b"):rep(20000)] = "the head is too long",
    }
    for bytes, message in pairs(cases) do assert.same({ nil, message }, { get(bytes) }, bytes:sub(1, 60)) end
  end)

  it("is waited for no longer than is said", function()
    assert.same({ nil, "timeout" }, { get("HTTP/1.1 200 OK\r\n", true, { timeout_ms = 200 }) })
    assert.is_true(world.time_ms() < 1000)
    world.server("10.0.0.2", 9190):stop()
    assert.same({ nil, "connection refused" }, { world.run(function()
      return source.get(world, source.at "10.0.0.2", "snapshot", { timeout_ms = 200 })
    end) })
  end)

  it("is not waited for ever, where a little comes again and again", function()
    serve("", true)
    server:set { reply = function(_, connection)
      world.spawn(function()
        connection:send "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
        while world.time_ms() < 3600000 do
          world.sleep(90)
          connection:send "x"
        end
      end)
    end }
    local began = world.time_ms()
    local status, message = world.run(function() return source.get(world, source.at "10.0.0.1", "snapshot", { timeout_ms = 100 }) end)
    assert.same({ nil, "its answer took more than 1.2 s" }, { status, message })
    assert.is_true(world.time_ms() - began < 2000)
  end)

  it("are events, in pieces of any size, until the stream ends", function()
    local stream = ": a comment\nevent: record\nid: 7\ndata: {\"a\":1}\n\ndata: one\r\ndata: two\r\n\r\nevent: snapshot\n\n"
      .. "event: record\ndata: cut"
    local chunked = ("\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"):format(#stream, stream)
    for _, head in ipairs { "\r\n\r\n" .. stream, chunked } do
      request = nil
      serve("HTTP/1.1 200 OK" .. head)
      local seen = {}
      local _, message, status = world.run(function()
        return source.follow(world, source.at "10.0.0.1", "events", { timeout_ms = 1000, quiet_ms = 5000, last_id = "6" },
          function(name, data, id) seen[#seen + 1] = { name, data, id } end)
      end)
      assert.same({ { "record", '{"a":1}', "7" }, { "message", "one\ntwo", "7" } }, seen)
      assert.equal("it ended the stream", message)
      assert.equal(200, status)
      assert.matches("\r\nAccept: text/event%-stream\r\n", request)
      assert.matches("\r\nLast%-Event%-ID: 6\r\n", request)
    end
  end)

  it("are events of a bounded size, on however many lines", function()
    local function follow(bytes)
      request = nil
      serve("HTTP/1.1 200 OK\r\n\r\n" .. bytes)
      local count = 0
      local _, message = world.run(function()
        return source.follow(world, source.at "10.0.0.1", "events", { timeout_ms = 1000 }, function() count = count + 1 end)
      end)
      return message, count
    end
    local line = "data: " .. ("x"):rep(1000) .. "\n"
    assert.equal("an event is too long", (follow(line:rep(2000))))
    assert.equal("an event is too long", (follow("data: " .. ("x"):rep(2000000))))
    assert.same({ "it ended the stream", 2000 }, { follow((line .. "\n"):rep(2000)) })
  end)

  it("are events that cost no more in small pieces", function()
    local bytes = ("1\r\nx\r\n"):rep(20000)
    serve("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" .. bytes, true)
    request = nil
    collectgarbage()
    collectgarbage "stop"
    local before = collectgarbage "count"
    local _, message = world.run(function()
      return source.follow(world, source.at "10.0.0.1", "events", { timeout_ms = 1000 }, function() end)
    end)
    local used_kib = collectgarbage "count" - before
    collectgarbage "restart"
    assert.equal("timeout", message)
    assert.is_true(used_kib < 50000, used_kib) -- 20,000 copies of what was there would be 200,000
  end)

  it("are no events if the program has none, or nothing comes for long", function()
    serve "HTTP/1.1 503 No\r\n\r\n"
    local function follow(quiet_ms)
      request = nil
      return { world.run(function()
        return source.follow(world, source.at "10.0.0.1", "events", { timeout_ms = 100, quiet_ms = quiet_ms }, function() end)
      end) }
    end
    assert.same({ nil, "it answers 503", 503 }, follow(100))
    serve("HTTP/1.1 200 OK\r\n\r\n", true)
    local began = world.time_ms()
    assert.same({ nil, "timeout", 200 }, follow(3000))
    assert.is_true(world.time_ms() - began >= 3000)
  end)
end)
