--- The HTTP before a console's lines: how it is read, and what goes on without libcueball_http.
local cueball = require "cueball"
local host = require "cueball.host.uv"
local protocol = require "cueball.console.protocol"
local remote = require "cueball.console.remote"
local shell = require "spec.support.shell"
local upgrade = require "cueball.console.upgrade"
local uv = require "luv"

local HEAD = "GET /console HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: cueball-console\r\n"

-- Lines over a stream from which these pieces come, and then the end.
local function lines_of(pieces)
  local stream, index = {}, 0
  function stream.receiveany()
    index = index + 1
    if pieces[index] then return pieces[index] end
    return nil, "closed"
  end
  return protocol.lines(stream, protocol.LINE_MAX, function() end, host.now)
end

local function letters_of(words)
  local letters = {}
  for at = 1, #words do letters[at] = words:sub(at, at) end
  return letters
end

-- Reads the request at the beginning of `lines`.
local function read(lines)
  local first = assert(lines:next())
  assert.is_true(upgrade.is_http(first))
  return upgrade.read(lines, first, function() return 1000 end)
end

describe("the HTTP of a console", function()
  it("ends where the lines begin, however it comes", function()
    local words = HEAD .. "\r\n{\"hello\":1}\n1 + 1\n"
    for _, pieces in ipairs { { words }, letters_of(words), { HEAD, "\r\n{\"hello\"", ":1}\n1 + 1\n" } } do
      local lines = lines_of(pieces)
      assert.equal("console", upgrade.wanted(assert(read(lines))))
      assert.same({ "{\"hello\":1}", "1 + 1" }, { lines:next(), (lines:next()) })
    end
  end)

  it("is bounded, and no other than HTTP", function()
    local cases = {
      [HEAD .. ("A: b\r\n"):rep(48) .. "\r\n"] = 431, [HEAD .. "A: " .. ("b"):rep(8192) .. "\r\n\r\n"] = 431,
      [HEAD .. "A : b\r\n\r\n"] = 400, ["GET console HTTP/1.1\r\n\r\n"] = 400,
    }
    for words, status in pairs(cases) do assert.equal(status, (select(3, read(lines_of { words })))) end
    assert.same({}, { read(lines_of { HEAD }) }) -- the peer went away
  end)

  it("is refused to all but who asks for a console, or for a snapshot", function()
    local function wanted(words) return upgrade.wanted(assert(read(lines_of { words }))) end
    assert.equal("snapshot", wanted "GET /snapshot?x=1 HTTP/1.1\r\n\r\n")
    assert.is_nil(wanted "GET /snapshot HTTP/1.1\r\nSec-Fetch-Site: cross-site\r\n\r\n")
    assert.is_nil(wanted(HEAD:gsub("1%.1", "1.0") .. "\r\n"))
    assert.is_nil(wanted(HEAD .. "Origin: http://evil.example\r\n\r\n"))
    assert.is_nil(wanted(HEAD:gsub("GET", "POST") .. "\r\n"))
    assert.is_nil(wanted "GET /console HTTP/1.1\r\nUpgrade: websocket\r\n\r\n")
  end)
end)

describe("without libcueball_http", function()
  local folder, listener, missing

  local function lacks(module)
    missing[module] = package.loaded[module] or false
    package.loaded[module] = nil
    package.preload[module] = function() error "libcueball_http not found" end
  end

  local function attach() return remote.connect { host = host, address = "unix:" .. folder .. "/a" } end

  before_each(function()
    folder, missing = assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/cueball-upgrade-XXXXXX")), {}
    listener = assert(cueball.console.listen("unix:" .. folder .. "/a", { budget_ms = 5000 })) -- it counts others' time, too
  end)

  after_each(function()
    for module, was in pairs(missing) do package.loaded[module], package.preload[module] = was or nil, nil end
    listener:close()
    uv.run "nowait" -- luv before 1.45 does not like an end with handles that are closing
    shell.must("rm -rf " .. shell.quote(folder))
  end)

  it("one attaches to a socket all the same", function()
    lacks "cueball.http.answer"
    lacks "cueball.http.reader"
    host.run(function()
      local one = assert(attach())
      assert.equal("done", one:submit "pools()")
      assert.equal(0, one.failed)
      one:close()
    end)
  end)

  it("a console says so to who speaks HTTP", function()
    lacks "cueball.http.reader"
    host.run(function()
      local _, message = attach()
      assert.matches(": the program there has no libcueball_http$", message)
    end)
  end)
end)
