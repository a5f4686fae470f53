--- A console in a real nginx: a location is one, the worker serves others meanwhile, and each worker can be had.
local host = require "cueball.host.uv"
local json = require "cueball.monitor.json"
local nginx = require "spec.support.nginx"
local remote = require "cueball.console.remote"
local uv = require "luv"

local TOKEN = "a secret of more than 16 bytes"

local HTTP = [[
  init_worker_by_lua_block {
    local cueball = require "cueball"
    pool = cueball.pool { name = "db", resolver = cueball.resolver.static { "127.0.0.1:1" }, connect = function() return {} end }
  }
]]

local SERVER = [[
  location = /console { content_by_lua_block {
    require("cueball").console.serve { token = "%s", allow = "%s", name = "web", budget_ms = %d }
  } }
  location = /hook { content_by_lua_block { ngx.print(tostring(debug.gethook())) } }
  location = /more { content_by_lua_block { pool:set { max_connections = pool:max_connections() + 1 } } }
  location = /watchers { content_by_lua_block { ngx.print(#pool.events.subscribers) } }
  location = /pipes { content_by_lua_block {
    local found = {}
    for _, key in ipairs(ngx.shared.cueball:get_keys(0)) do
      if key:find("cueball/console/pipe:", 1, true) then found[#found + 1] = key end
    end
    ngx.print(table.concat(found, "\n"))
  } }
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

  -- A reader's budget counts the time of other processes, too.
  it("shows the worker's pools to a reader, and is bounded", function()
    one = nginx.start { http = HTTP, server = SERVER:format(TOKEN, "read", 2000), workers = 1 }
    host.run(function()
      local console = assert(attach(one))
      assert.same({ "web", "read", "ngx", 0 }, { console.hello.name, console.hello.role, console.hello.host, console.hello.worker })
      assert.matches("^web%[%d+%] worker 0 read ", console:prompt())
      console:submit "pools()[1].pool"
      console:submit "while true do end"
      console:submit "ngx"
      console:submit "1"
      assert.equal('"db"', shown[1][1])
      assert.matches("ran for more than 2000 ms", shown[2][1])
      assert.equal("1", shown[3][1])
      local list = console:complete("backen", 6)
      assert.equal("backends", list[1].text)
      console:close()
    end)
    assert.is_nil(one:log():find "%[error%]")
  end)

  it("lets a writer wait without holding the worker, and ends what he waits for", function()
    one = nginx.start { http = HTTP, server = SERVER:format(TOKEN, "write", 50), workers = 1 }
    host.run(function()
      local console = assert(attach(one))
      local is_over = false
      host.spawn(function()
        console:submit "require('cueball').sleep(30000)"
        is_over = true
      end)
      host.sleep(100)
      for _ = 1, 5 do assert.equal(200, (one:get "/pid")) end -- the worker has read what was submitted, as it came before
      assert.is_false(is_over)
      console:interrupt()
      nginx.until_true(function() return is_over end)
      assert.same({ "interrupted", "error" }, shown[1])
      assert.equal("nil", one:ask "/hook")
      console:submit "set { pool = 'db', max_connections = 7 }"
      console:submit "pool:max_connections()"
      assert.equal("7", shown[#shown][1])
      for _, line in ipairs {
        "while true do end", "load 'while true do end' ()", "coroutine.wrap(function() while true do end end)()",
        "t = {} while true do t[#t + 1] = {} end", "ngx.sleep(0.01) while true do end",
      } do
        console:submit(line)
        local told = shown[#shown][1]
        local is_ended = told:find "the command ran for more than 50 ms" or told:find "the command took more than 64 MiB"
        assert.is_truthy(is_ended, line .. ": " .. told)
      end
      assert.equal("nil", one:ask "/hook")
      console:close()
    end)
  end)

  it("tells what happens as it happens, also in other requests", function()
    one = nginx.start { http = HTTP, server = SERVER:format(TOKEN, "read", 2000), workers = 1 }
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
    one = nginx.start { http = HTTP, server = SERVER:format(TOKEN, "write", 50), workers = 1 }
    host.run(function()
      assert.matches("this token is wrong", select(2, attach(one, { token = TOKEN .. "x" })))
      assert.equal(400, (one:get "/console"))
      assert.equal(400, (one:get("/console", "Upgrade: cueball-console\r\nOrigin: http://evil.example\r\n")))
      assert.matches("it is no console", select(2, attach(one, { path = "/pid" })))
    end)
  end)

  local SHARED = "lua_shared_dict cueball 1m;\n" .. HTTP

  -- Attaches to a worker, which may have begun only now.
  local function attach_to(number, given)
    local console, message
    given = given or {}
    given.worker = number
    nginx.until_true(function()
      console, message = attach(one, given)
      return console
    end, function() return message end)
    return console
  end

  it("is had in each of four workers, whichever takes the connection", function()
    one = nginx.start { http = SHARED, server = SERVER:format(TOKEN, "write", 50), workers = 4 }
    host.run(function()
      local pids = {}
      for number = 0, 3 do
        local console = attach_to(number)
        assert.equal(number, console.hello.worker)
        console:submit "ngx.worker.id()"
        console:submit "ngx.worker.pid()"
        assert.equal(tostring(number), shown[1][1])
        assert.equal(tostring(console.hello.pid), shown[2][1])
        assert.is_nil(pids[console.hello.pid])
        pids[console.hello.pid] = true
        local list = console:complete("backen", 6)
        assert.equal("backends", list[1].text)
        console:close()
      end
    end)
    assert.is_nil(one:log():find "%[error%]")
  end)

  it("does in another worker what it does in its own", function()
    one = nginx.start { http = SHARED, server = SERVER:format(TOKEN, "write", 50), workers = 4 }
    host.run(function()
      local console = attach_to(1)
      local other = attach_to(2, { form = "json" })
      local rows
      nginx.until_true(function()
        other:submit "workers()"
        rows = json.decode('{"list":' .. shown[#shown][1] .. "}").list
        return #rows == 4
      end)
      for index, row in ipairs(rows) do assert.same({ index - 1, index == 3 or nil }, { row.worker, row.here }) end
      console:submit "for i = 1, 60 do print(('x'):rep(1000)) end" -- more than lies there at a time
      console:submit "while true do end"
      host.spawn(function()
        host.sleep(300)
        console:interrupt()
      end)
      console:submit "require('cueball').sleep(60000)"
      console:submit ":watch db"
      console:submit "require('cueball').spawn(function() pool:set { max_connections = 7 } end)"
      nginx.until_true(function()
        return table.concat((function()
          local words = {}
          for index, line in ipairs(shown) do words[index] = line[1] end
          return words
        end)(), "\n"):find "db: a plan of %d+ connections was made"
      end)
      local count, words = 0, {}
      for index, line in ipairs(shown) do
        words[index] = line[1]
        if line[1] == ("x"):rep(1000) then count = count + 1 end
      end
      assert.equal(60, count)
      assert.matches("ran for more than 50 ms.*interrupted", table.concat(words, "\n"))
      assert.same({ 2, 0 }, { console.failed, other.failed })
      console:submit ":quit"
      assert.equal(0, console.status)
      other:close()
    end)
  end)

  it("ends in another worker, too, when its client goes, however nginx takes that", function()
    local server = SERVER:format(TOKEN, "write", 50)
    one = nginx.start { http = SHARED .. "lua_check_client_abort on;\n", server = server, workers = 4 }
    host.run(function()
      local function watchers(console)
        console:submit "#pool.events.subscribers"
        return tonumber(shown[#shown][1])
      end
      local consoles = {}
      for index = 1, 4 do
        consoles[index] = attach_to(1)
        consoles[index]:submit ":watch db"
      end
      local last = attach_to(1)
      assert.equal(4, watchers(last))
      for _, console in ipairs(consoles) do console:close() end
      nginx.until_true(function() return watchers(last) == 0 end, function() return shown[#shown][1] end)
      last:close()
    end)
  end)

  -- Of sessions that are over nothing lies in the shared memory, and those that are quiet have nothing there.
  local function nothing_is_left()
    nginx.until_true(function() return one:ask "/pipes" == "" end, function() return one:ask "/pipes" end)
  end

  it("leaves nothing in the shared memory when it is over, whoever ends it", function()
    one = nginx.start { http = SHARED, server = SERVER:format(TOKEN, "write", 50), workers = 4 }
    host.run(function()
      -- Of sessions in two workers one at least leads from another to it, most likely: the kernel chooses who takes a connection.
      local function some(count, first)
        local consoles = {}
        for index = 1, count do consoles[index] = attach_to(first + index % 2) end
        return consoles
      end
      for _, console in ipairs(some(4, 0)) do console:close() end
      nothing_is_left()
      for _, console in ipairs(some(4, 0)) do console:submit ":quit" end
      nothing_is_left()
      local lost = some(4, 2)
      uv.kill(lost[1].hello.pid, "sigkill")
      nginx.until_true(function() return lost[1].is_over end)
      for index = 2, 4 do lost[index]:close() end
      nothing_is_left()
    end)
  end)

  local FEW = SERVER:gsub("name = \"web\"", 'name = "web", connections_max = %%d')
  local FULL = "as many consoles as it may have (connections_max)"

  it("takes no more than it may, and counts those that are gone no longer, however nginx takes that", function()
    one = nginx.start { http = HTTP .. "lua_check_client_abort on;\n", server = FEW:format(TOKEN, "write", 2, 50), workers = 1 }
    host.run(function()
      local function attach_soon()
        local console, message
        nginx.until_true(function()
          console, message = attach(one)
          return console
        end, function() return message end)
        return console
      end
      for _ = 1, 4 do
        local first, second = attach_soon(), attach_soon()
        local _, message = attach(one)
        assert.is_truthy(message:find(FULL, 1, true), message)
        for index, console in ipairs { first, second } do
          console:submit ":watch db"
          host.spawn(function() console:submit "require('cueball').sleep(3600000)" end)
          host.sleep(20 * index) -- in the first 60 ms nobody listens to the client
          console:close()
        end
        nginx.until_true(function() return one:ask "/watchers" == "0" end, function() return one:ask "/watchers" end)
      end
    end)
    assert.is_truthy(one:log():find "a console was refused: this worker has 2, as many as it may have")
  end)

  it("takes no more by way of other workers either", function()
    one = nginx.start { http = SHARED, server = FEW:format(TOKEN, "read", 1, 2000), workers = 4 }
    host.run(function()
      local consoles = { attach_to(3) }
      for _ = 1, 12 do
        local console, message = attach(one, { worker = 3 })
        consoles[#consoles + 1] = console
        assert.is_truthy(console or message:find(FULL, 1, true), message)
      end
      assert.is_true(#consoles <= 2, #consoles) -- one that it took itself, and one of another's
      for _, console in ipairs(consoles) do console:close() end
      attach_to(3):close()
    end)
  end)

  it("says which workers there are, and that one is gone, within seconds", function()
    one = nginx.start { http = SHARED, server = SERVER:format(TOKEN, "write", 50), workers = 4 }
    host.run(function()
      local console = attach_to(3)
      attach_to(0):close()
      local _, message, name = attach(one, { worker = 9 })
      assert.matches("there is no worker 9 with a pool or a console; there are 0 %(pid %d+%), .*3 %(pid %d+%)$", message)
      assert.equal("failed", name)
      assert.matches("this token is wrong", select(2, attach(one, { worker = 2, token = TOKEN .. "x" })))

      attach_to(2)
      local stopped = attach_to(1)
      uv.kill(stopped.hello.pid, "sigstop") -- it computes, as far as others can see
      local began = host.now()
      repeat _, message = attach(one, { worker = 1 }) until not message:find "it closed" and not message:find "timeout"
      assert.matches("worker 1 %(pid %d+%) did not answer within 5 s: it computes, or is ending", message)
      assert.is_true(host.now() - began < 60e9)
      uv.kill(stopped.hello.pid, "sigcont")
      nothing_is_left()

      uv.kill(console.hello.pid, "sigkill")
      nginx.until_true(function() return console.is_over end)
      assert.equal(3, console.status)
      console:submit "1"
      -- "closed": it was the one that took the connection
      local ends = { ["the worker has ended the session, or is gone"] = true, closed = true }
      assert.is_true(ends[shown[#shown][1]:match "^the connection to the program ended: (.*)$"], shown[#shown][1])
    end)
  end)

  it("ends when its worker exits, whatever goes on in it, and so does one that leads to another worker", function()
    one = nginx.start { http = SHARED, server = SERVER:format(TOKEN, "write", 50), workers = 2 }
    host.run(function()
      local consoles = {}
      for number = 0, 1 do
        consoles[#consoles + 1] = attach_to(number)
        consoles[#consoles + 1] = attach_to(number)
        local busy = attach_to(number)
        busy:submit ":watch db"
        host.spawn(function() busy:submit "require('cueball').sleep(3600000)" end)
        consoles[#consoles + 1] = busy
      end
      host.sleep(300)
      local before = one:workers()
      one:signal "HUP"
      nginx.until_true(function()
        for _, pid in ipairs(before) do
          if uv.kill(pid, 0) == 0 then return false end
        end
        return true
      end, function() return one:log() end)
      for _, console in ipairs(consoles) do
        nginx.until_true(function() return console.is_over end)
        assert.equal(3, console.status)
      end
    end)
    assert.is_nil(one:log():find "%[error%]")
  end)

  it("is one worker's alone where no memory is shared, and says what to do", function()
    one = nginx.start { http = HTTP, server = SERVER:format(TOKEN, "read", 2000), workers = 1 }
    host.run(function()
      attach_to(0):close()
      assert.matches("only the worker that takes a connection can be had: there is no lua_shared_dict \"cueball\": put `lua_shared_dict",
        select(2, attach(one, { worker = 1 })))
    end)
  end)

  it("is told by serve what is wrong", function()
    one = nginx.start { server = [[location = /x { content_by_lua_block {
      local ok, message = pcall(require("cueball").console.serve, {})
      ngx.print(message) } }]] }
    assert.matches("option 'token' is required, as every user of this machine can connect to nginx", one:ask "/x")
  end)
end)
