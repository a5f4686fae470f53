--- What requests of a real nginx guard: it is aborted when they end in the middle, however that is.
local host = require "cueball.host.uv"
local nginx = require "spec.support.nginx"

local HTTP = [[
  lua_check_client_abort on;
  init_worker_by_lua_block {
    local cueball = require "cueball"
    it, aborted = cueball.host(), {}
    pool = cueball.pool {
      name = "db", resolver = cueball.resolver.static { "127.0.0.1:1" },
      connect = function(_, context) context.host.sleep(3600000) end,
      recovery = { default = { timeout_ms = 3600000, max_timeout_ms = 3600000 } },
    }
    lent = cueball.pool { name = "lent", resolver = cueball.resolver.static { "127.0.0.1:1" }, connect = function() return {} end }
    it.spawn(function() lent:with(function() it.sleep(3600000) end) end)
    function resource(name) return { abort = function() aborted[#aborted + 1] = name end } end
    function bad(message) return { abort = function() error(message, 0) end } end
  }
]]

local SERVER = [[
  location = /wait { content_by_lua_block {
    it.guard(resource "first")
    it.guard(bad "cannot be aborted")
    it.guard(bad "bad request")
    local never = resource "never"
    it.guard(never)
    it.guard(resource "last")
    it.unguard(never)
    ngx.sleep(3600)
  } }
  location = /exit { content_by_lua_block { it.guard(resource "exit") ngx.exit(204) } }
  location = /hold { content_by_lua_block { it.guard(resource "hold") ngx.sleep(3600) } }
  location = /well { content_by_lua_block {
    local own = resource "well"
    it.guard(own)
    ngx.sleep(0.01)
    it.unguard(own)
    ngx.print "done"
  } }
  location = /open { content_by_lua_block { pool:ready() } }
  location = /pause { content_by_lua_block { lent:pause { wait_ms = 3600000 } } }
  location = /said { content_by_lua_block {
    local list = aborted
    aborted = {}
    table.sort(list)
    ngx.print(table.concat(list, " "))
  } }
  location = /held { content_by_lua_block {
    ngx.print(pool.readiness and #pool.readiness or 0, " ", #lent.events.subscribers, " ", lent:stats().busy)
  } }
]]

describe("what a request guards", function()
  local one
  setup(function() one = nginx.start { http = HTTP, server = SERVER, workers = 1 } end)
  teardown(function() one:stop() end)

  -- A request whose client has sent it, and does not wait for its answer.
  local function begin(path)
    local socket = host.tcp()
    assert(socket:connect("127.0.0.1", one.port))
    assert(socket:send(("GET %s HTTP/1.0\r\n\r\n"):format(path)))
    return socket
  end

  local function until_said(wanted)
    local said = {}
    nginx.until_true(function()
      for name in one:ask("/said"):gmatch "%S+" do said[#said + 1] = name end
      table.sort(said)
      return table.concat(said, " ") == wanted
    end, function() return table.concat(said, " ") end)
  end

  it("is aborted when its client leaves, all of it, and what is guarded no longer is not", function()
    host.run(function()
      local socket = begin "/wait"
      host.sleep(100)
      socket:close()
      until_said "first last"
    end)
    assert.is_truthy(one:log():find "%[error%].*what a request guarded could not be aborted: cannot be aborted")
    assert.is_nil(one:log():find "bad request")
  end)

  it("is aborted when the request leaves in the middle, also where others come at the same address", function()
    host.run(function()
      for _ = 1, 30 do one:get "/exit" end
      local socket = begin "/hold" -- most likely at the address of one of them
      until_said(("exit "):rep(30):sub(1, -2))
      socket:close()
      until_said "hold"
    end)
  end)

  it("is not where it ends well", function()
    for _ = 1, 30 do assert.equal("done", one:ask "/well") end
    one:get "/exit" -- what comes after has been looked at with what was before
    until_said "exit"
  end)

  it("goes with pool:ready and pool:pause: nothing of them is left in the pool", function()
    host.run(function()
      nginx.until_true(function() return one:ask("/held"):find " 1$" end) -- there is a lease that pause waits for
      local before = one:ask("/held"):match "^0 (%d+) "
      local sockets = {}
      for index = 1, 10 do sockets[index] = begin(index % 2 == 0 and "/open" or "/pause") end
      nginx.until_true(function() return one:ask("/held") == ("5 %d 1"):format(before + 5) end, function() return one:ask "/held" end)
      for _, socket in ipairs(sockets) do socket:close() end
      nginx.until_true(function() return one:ask "/held" == "0 " .. before .. " 1" end, function() return one:ask "/held" end)
    end)
  end)
end)
