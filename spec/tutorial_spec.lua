--- docs/tutorial.md: its programs as they stand there, but for ports, paths and time limits, on libuv and in a real nginx.
local uv = require "luv"
local host = require "cueball.host.uv"
local cueball = require "cueball"
local nginx = require "spec.support.nginx"
local free_port = require("spec.support.port").free
local shell = require "spec.support.shell"
local until_true = require "spec.support.until_true"

local page = shell.text_of "docs/tutorial.md"

-- The blocks of the page in this language, in their order.
local function blocks(language)
  local list = {}
  for text in page:gmatch("```" .. language .. "\n(.-)```") do list[#list + 1] = text end
  return list
end

local lua, outputs = blocks "lua", blocks "text"
local WORD = lua[#lua] -- the whole of it

-- A program of the page with more time than it takes there: a machine may be busy.
local function with_time(program)
  return (program:gsub("settimeout%(1000%)", "settimeout(20000)"))
end

describe("docs/tutorial.md", function()
  local folder, port, process, pid, one

  local function start_server()
    local out, text = uv.new_pipe(false), ""
    local words = { shell.root .. "/examples/support/line_server.lua", tostring(port) }
    process, pid = uv.spawn("luajit", { args = words, stdio = { nil, out, 2 } }, function()
      process:close()
      process = nil
    end)
    assert(process, pid)
    process:unref()
    out:read_start(function(_, data)
      text = text .. (data or "")
      if not data then out:close() end
    end)
    out:unref()
    until_true(function() return text:find "listening" end)
  end

  local function stop_server()
    if process then uv.kill(pid, "sigkill") end
    until_true(function() return not process end)
  end

  before_each(function()
    folder, port = assert(uv.fs_mkdtemp "/tmp/cueball-words-XXXXXX"), free_port()
    start_server()
  end)

  after_each(function()
    if one then one:stop() one = nil end
    stop_server()
    shell.must("rm -rf '" .. folder .. "'")
  end)

  -- Writes files of the page into the folder: with a port of our own.
  local function write(files)
    for name, text in pairs(files) do
      shell.write(folder .. "/" .. name, (with_time(text):gsub("127%.0%.0%.1:7000", "127.0.0.1:" .. port)))
    end
  end

  -- What the program writes to stdout, for our port that of the page, without times.
  local function output_of(arguments)
    local pipe = assert(io.popen(("cd '%s' && CUEBALL_LOG=none timeout 300 '%s/examples/run' %s"):format(folder, shell.root, arguments)))
    local text = pipe:read "*a"
    pipe:close()
    return (text:gsub("127%.0%.0%.1:" .. port, "127.0.0.1:7000"):gsub("; for %d+ ms", ""))
  end

  it("has programs that print what stands below them", function()
    assert.equal(11, #lua)
    write { ["word.lua"] = lua[1], ["try.lua"] = lua[2] }
    assert.equal(outputs[1], output_of "try.lua")
    write { ["word.lua"] = lua[3], ["try.lua"] = lua[4] }
    assert.equal(outputs[2], output_of "try.lua")
    assert.equal(outputs[3], output_of "try.lua guessed")
    write { ["word.lua"] = WORD }
    assert.equal(outputs[4], output_of "try.lua")
    assert.equal(outputs[3], output_of "try.lua guessed")
  end)

  it("says in the end what it said step by step, in some 40 lines", function()
    for index = 5, 10 do assert.is_truthy(WORD:find(lua[index], 1, true), lua[index]) end
    local code = 0
    for line in WORD:gmatch "[^\n]+" do code = code + (line:find "%S" and 1 or 0) end
    assert.is_true(code <= 45, code)
  end)

  -- Runs fn(pool, ask) with a pool of that factory.
  local function with_words(fn, more)
    local word = assert(loadstring(with_time(WORD), "=word.lua"))()
    host.run(function()
      local options = {
        host = host, name = "words", max_connections = 2, claim_timeout_ms = 20000,
        resolver = cueball.resolver.static { "127.0.0.1:" .. port },
        connect = word { user = "ann", password = function() return "sesame" end },
      }
      for name, value in pairs(more or {}) do options[name] = value end
      local pool = cueball.pool(options)
      local ok, message = pcall(fn, pool, function(line) return pool:with(function(words) return words:ask(line) end) end)
      pool:stop()
      if not ok then error(message, 0) end
    end)
  end

  it("has a factory that does what the page says of it, on libuv", function()
    with_words(function(pool, ask)
      assert(pool:ready { connections = 2 })
      ask "BEGIN"
      assert.equal("OK", ask "SET color red")
      assert.equal("VALUE red", ask "GET color") -- not in the transaction
      until_true(function() return pool:stats().idle == 2 end)
      assert.same({ 1, 0 }, { pool:stats().closed_unfit, pool:stats().lost })
      ask "DRAIN"
      assert.equal("UNAVAILABLE: closed for today", ask "GET color")
      until_true(function() return pool:stats().idle == 2 end)
      assert.same({ 1, 1 }, { pool:stats().lost, pool:stats().checks })
      pcall(pool.with, pool, function(words) error(words:ask "GET color") end)
      assert.equal(2, pool:stats().lost)
      assert.equal(("127.0.0.1:%d: UNAVAILABLE: closed for today"):format(port), pool:last_error())
      ask "FILL"
    end)
  end)

  it("has a factory that finds a server that was started again, on libuv", function()
    with_words(function(pool, ask)
      assert(pool:ready { connections = 2 })
      stop_server()
      until_true(function() return pool:stats().idle == 0 end) -- nobody had to claim them, or wait for a check
      start_server()
      until_true(function() return ask "GET color" == "VALUE blue" end)
      until_true(function() return pool:stats().idle == 2 end)
      local before = pool:stats()
      pool:set { check_interval_ms = 20 }
      until_true(function() return pool:stats().checks > before.checks + 2 end)
      assert.equal(before.checks_failed, pool:stats().checks_failed)
    end)
  end)

  -- Replaces, and insists that there is something to be replaced.
  local function replace(text, from, to)
    local first, last = text:find(from, 1, true)
    assert(first, from)
    return text:sub(1, first - 1) .. to .. text:sub(last + 1)
  end

  local TESTS = [[
    location = /ask { content_by_lua_block {
      local answer, message = words:with(function(connection) return connection:ask((ngx.var.arg_line:gsub("+", " "))) end)
      ngx.print(answer or message)
    } }
    location = /throw { content_by_lua_block {
      pcall(words.with, words, function(connection) error(connection:ask "GET color") end)
    } }
    location = /numbers { content_by_lua_block {
      local stats = words:stats()
      ngx.print(stats.idle, " idle, ", stats.opened, " opened, ", stats.closed_unfit, " unfit, ", stats.lost, " lost")
    } }
    location = /ready { return 200 "ready"; }
  ]]

  it("runs in nginx, as it stands there", function()
    local conf = blocks("nginx")[1]
    conf = replace(conf, "# load_module /usr/lib/nginx/modules/ndk", "load_module /usr/lib/nginx/modules/ndk")
    conf = replace(conf, "# load_module /usr/lib/nginx/modules/ngx", "daemon off; %(user)\nload_module /usr/lib/nginx/modules/ngx")
    conf = replace(conf, "listen 8080;", "listen 127.0.0.1:%(port);" .. TESTS)
    conf = replace(conf, "127.0.0.1:7000", "127.0.0.1:" .. port)
    conf = replace(conf, "access_log off;", "access_log off; "
      .. "client_body_temp_path temp; proxy_temp_path temp; fastcgi_temp_path temp; uwsgi_temp_path temp; scgi_temp_path temp;")
    conf = conf:gsub("%${prefix}%.%./%.%./lua", "%%(root)/lua"):gsub("%${prefix}%.%.", "%%(build)")
    one = nginx.start { conf = conf, files = { ["word.lua"] = with_time(WORD) } }
    until_true(function() return one:ask "/numbers" == "2 idle, 2 opened, 0 unfit, 0 lost" end)
    for _ = 1, 10 do assert.equal(outputs[#outputs], one:ask "/") end
    assert.equal("2 idle, 2 opened, 0 unfit, 0 lost", one:ask "/numbers") -- nobody has logged in again
    assert.equal("OK", one:ask "/ask?line=BEGIN")
    until_true(function() return one:ask "/numbers" == "2 idle, 3 opened, 1 unfit, 0 lost" end)
    assert.equal("OK", one:ask "/ask?line=SET+color+red")
    assert.equal("VALUE red (VERSION 3)\n", one:ask "/")
    one:ask "/ask?line=DRAIN"
    assert.equal("UNAVAILABLE: closed for today (VERSION 3)\n", one:ask "/")
    until_true(function() return one:ask "/numbers" == "2 idle, 4 opened, 1 unfit, 1 lost" end)
    one:ask "/throw"
    until_true(function() return one:ask "/numbers" == "2 idle, 5 opened, 1 unfit, 2 lost" end)
    stop_server()
    start_server()
    assert.equal(outputs[#outputs], one:ask "/")
  end)
end)
