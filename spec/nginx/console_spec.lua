--- A console in a real nginx: a location is one, the worker serves others meanwhile, and each worker can be had.
local host = require "cueball.host.uv"
local nginx = require "spec.support.nginx"
local remote = require "cueball.console.remote"

local TOKEN = "a secret of more than 16 bytes"

local HTTP = [[
  init_worker_by_lua_block {
    local cueball = require "cueball"
    pool = cueball.pool { name = "db", resolver = cueball.resolver.static { "127.0.0.1:1" }, connect = function() return {} end }
  }
]]

local SERVER = [[
  location = /console { content_by_lua_block { require("cueball").console.serve { token = "%s", allow = "%s", name = "web" } } }
  location = /hook { content_by_lua_block { ngx.print(tostring(debug.gethook())) } }
  location = /more { content_by_lua_block { pool:set { max_connections = pool:max_connections() + 1 } } }
  location = /watchers { content_by_lua_block { ngx.print(#pool.events.subscribers) } }
  location = /pid { content_by_lua_block { ngx.print(ngx.worker.pid()) } }
]]

local shown

local function attach(one, given)
  shown = {}
  local options = { host = host, address = "127.0.0.1:" .. one.port, token = TOKEN,
    print = function(words, kind) shown[#shown + 1] = { words, kind } end }
  for key, value in pairs(given or {}) do options[key] = value end
  return remote.connect(options)
end

describe("a console in nginx", function()
  local one
  after_each(function()
    if one then one:stop() end
    one = nil
  end)

  it("shows the worker's pools to a reader, and is bounded", function()
    one = nginx.start { http = HTTP, server = SERVER:format(TOKEN, "read"), workers = 1 }
    host.run(function()
      local console = assert(attach(one))
      assert.same({ "web", "read", "ngx", 0 }, { console.hello.name, console.hello.role, console.hello.host, console.hello.worker })
      assert.matches("^web%[%d+%] worker 0 read ", console:prompt())
      console:submit "pools()[1].pool"
      console:submit "while true do end"
      console:submit "ngx"
      console:submit "1"
      assert.equal('"db"', shown[1][1])
      assert.matches("ran for more than 50 ms", shown[2][1])
      assert.equal("1", shown[3][1])
      local list = console:complete("backen", 6)
      assert.equal("backends", list[1].text)
      console:close()
    end)
    assert.is_nil(one:log():find "%[error%]")
  end)

  it("lets a writer wait without holding the worker, and ends what he waits for", function()
    one = nginx.start { http = HTTP, server = SERVER:format(TOKEN, "write"), workers = 1 }
    host.run(function()
      local console = assert(attach(one))
      local is_over = false
      host.spawn(function()
        console:submit "require('cueball').sleep(30000)"
        is_over = true
      end)
      host.sleep(100)
      for _ = 1, 5 do assert.equal(200, (one:get "/pid")) end
      assert.is_false(is_over)
      console:interrupt()
      for _ = 1, 400 do
        if is_over then break end
        host.sleep(25)
      end
      assert.same({ "interrupted", "error" }, shown[1])
      assert.equal("nil", one:ask "/hook")
      console:submit "set { pool = 'db', max_connections = 7 }"
      console:submit "pool:max_connections()"
      assert.equal("7", shown[#shown][1])
      console:submit "while true do end"
      assert.matches("ran for more than 50 ms", shown[#shown][1])
      console:close()
    end)
  end)

  it("tells what happens as it happens, also in other requests", function()
    one = nginx.start { http = HTTP, server = SERVER:format(TOKEN, "read"), workers = 1 }
    host.run(function()
      local console = assert(attach(one))
      local before = tonumber(one:ask "/watchers")
      local function watchers(count)
        nginx.until_true(function() return tonumber(one:ask "/watchers") == before + count end, function() return "watchers: " .. count end)
      end
      local function hear(what)
        nginx.until_true(function()
          for _, line in ipairs(shown) do
            if line[1]:find(what) then return true end
          end
        end, function() return "nothing like " .. what end)
      end
      console:submit ":watch db"
      assert.equal(200, (one:get "/more"))
      hear "db: a plan of %d+ connections was made"
      watchers(1)
      console:interrupt()
      hear "ended: :watch db"
      watchers(0)
      console:submit ":trace"
      watchers(1)
      console:close()
      watchers(0)
    end)
    assert.is_nil(one:log():find "%[error%]")
  end)

  it("wants its token, and nothing of a browser", function()
    one = nginx.start { http = HTTP, server = SERVER:format(TOKEN, "write"), workers = 1 }
    host.run(function()
      assert.matches("this token is wrong", select(2, attach(one, { token = TOKEN .. "x" })))
      assert.equal(400, (one:get "/console"))
      assert.equal(400, (one:get("/console", "Upgrade: cueball-console\r\nOrigin: http://evil.example\r\n")))
      assert.matches("it is no console", select(2, attach(one, { path = "/pid" })))
    end)
  end)

  it("is had in each worker", function()
    one = nginx.start { http = HTTP, server = SERVER:format(TOKEN, "read"), workers = 2 }
    host.run(function()
      for number = 0, 1 do
        local console = assert(attach(one, { worker = number }))
        assert.equal(number, console.hello.worker)
        console:close()
      end
    end)
  end)

  it("is told by serve what is wrong", function()
    one = nginx.start { server = [[location = /x { content_by_lua_block {
      local ok, message = pcall(require("cueball").console.serve, {})
      ngx.print(message) } }]] }
    assert.matches("option 'token' is required, as every user of this machine can connect to nginx", one:ask "/x")
  end)
end)
