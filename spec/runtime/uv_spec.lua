--- A script on libuv, with a real server: loaded, loaded anew under load, stopped.
local script = require "cueball.runtime.script"
local host = require "cueball.host.uv"
local uv = require "luv"

local function echo_server()
  local server, clients = uv.new_tcp(), {}
  server:bind("127.0.0.1", 0)
  server:listen(128, function()
    local client = uv.new_tcp()
    server:accept(client)
    clients[client] = true
    client:read_start(function(_, bytes)
      if bytes then return client:write(bytes) end
      client:close()
      clients[client] = nil
    end)
  end)
  return server:getsockname().port, function()
    server:close()
    for client in pairs(clients) do client:close() end
    uv.run "nowait" -- luv before 1.45 does not like a Lua state to end while handles are closing
  end
end

local TEXT = [[
  local cueball = require "cueball"
  local port = ...
  cueball.pool { name = "echo", max_connections = 3, resolver = cueball.resolver.static { "127.0.0.1:" .. port },
    connect = cueball.connection.tcp { read_timeout_ms = 50000 } }
  cueball.spawn(function() while true do cueball.sleep(1) end end)
]]

describe("on libuv a script", function()
  it("is loaded, loaded anew while claimers work, and stopped", function()
    host.log_to(function() end)
    finally(function() host.log_to(nil) end)
    local port, close = echo_server()
    local told, answers = {}, 0
    host.run(function()
      local loaded = assert(script.load { text = TEXT, arguments = { port }, limit_ms = 300 })
      local pool, left, done = loaded:pool "echo", 6, host.waiter()
      for number = 1, left do
        host.spawn(function()
          for round = 1, 30 do
            local line = ("%d %d"):format(number, round)
            local answer = assert(pool:with(function(socket)
              socket:send(line .. "\n")
              return socket:receive "*l"
            end))
            answers = answers + (answer == line and 1 or 0)
            host.sleep(1)
          end
          left = left - 1
          if left == 0 then done:wake() end
        end)
      end
      local texts = { TEXT, (TEXT:gsub("= 3", "= 5")), TEXT .. "error 'x'", (TEXT:gsub("50000", "40000")), TEXT .. "while true do end" }
      for index, text in ipairs(texts) do
        host.sleep(5)
        local report, message, name = loaded:reload { text = text }
        local words = tostring(report or message):gsub("\nstack.*$", ""):gsub("^script: loaded anew\n", "")
        told[index] = words .. (name and " " .. name or "")
      end
      if left > 0 then done:wait() end
      assert.equal(pool, loaded:pool "echo")
      loaded:stop()
      assert.equal("stopped", pool:state())
    end)
    close()
    assert.equal(180, answers)
    assert.same({ "pool echo: untouched", "pool echo: changed: max_connections from 3 to 5", "script:6: x script",
      "pool echo: changed: max_connections from 5 to 3; another connection factory, connections are renewed over 10 s",
      "script:6: the script ran for more than 300 ms without an end timeout" }, told)
  end)
end)
