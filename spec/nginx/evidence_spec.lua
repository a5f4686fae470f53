--- Whose fault it was, under the real nginx: what a claimer's socket knows as its lease ends.
local nginx = require "spec.support.nginx"
local server = require "spec.support.server"

local POOLS = [[
local cueball = require "cueball"
return { one = cueball.pool {
  name = "one", max_connections = 1, claim_timeout_ms = 15000, check_interval_ms = false,
  resolver = cueball.resolver.static { "%s" }, connect = cueball.connection.tcp { read_timeout_ms = 15000 },
  recovery = { default = { attempts = 3, delay_ms = 20, max_delay_ms = 20 } },
} }
]]

-- Twelve requests in a row; then how many were answered, and what the pool made of it.
local SERVER = [[
location = /use { content_by_lua_block {
  local pool, how, answered = pools.one, ngx.var.arg_how, 0
  local function ask(socket)
    assert(socket:send "x\n")
    local answer, message = socket:receive "*l"
    if answer then answered = answered + 1 end
    return answer, message
  end
  for _ = 1, 12 do
    if how == "throw" then
      pcall(pool.with, pool, function(socket) ask(socket) error "a bug" end)
    else
      local lease = pool:claim()
      if lease then
        pcall(ask, lease.connection)
        lease[how](lease)
      end
    end
    ngx.sleep(0.02) -- what the server does after its answer is here by then
  end
  ngx.say(("%d answered, %s"):format(answered, pool:stats().backend_deaths > 0 and "died" or "alive"))
} }
]]

-- One of two connections is found dead: is the other one checked before it is lent?
local AFTER_SET = [[
location = /checks { content_by_lua_block {
  local pool = pools.one
  pool:set { max_connections = 2, spares = 2 }
  while pool:backends()[1].idle < 2 do ngx.sleep(0.01) end
  assert(pool:claim()):fail "found dead"
  ngx.say(pool:stats().checks, " checks, ", pool:backends()[1].suspect, " suspect")
} }
]]

local WAYS = { "release", "close", "throw" }

describe("under nginx", function()
  local one, backend

  after_each(function()
    if one then one:stop() one = nil end
    if backend then backend:close() backend = nil end
  end)

  local function start(on_line)
    backend = server.listen(function(client)
      client:read_start(function(_, data)
        if client:is_closing() then return end
        if not data then return client:close() end
        on_line(client)
      end)
    end)
    one = nginx.start {
      files = { ["my_pools.lua"] = POOLS:format("127.0.0.1:" .. backend.port) },
      http = "init_worker_by_lua_block { pools = require 'my_pools' }\n", server = SERVER .. AFTER_SET,
    }
  end

  for _, how in ipairs(WAYS) do
    it("a server that closes before it delivered a byte has failed: " .. how, function()
      start(function(client) client:close() end)
      local said = one:ask("/use?how=" .. how)
      assert.equal("0 answered, died\n", said)
    end)

    it("one that closes after it has answered has worked: " .. how, function()
      start(function(client)
        client:write "y\n"
        client:shutdown(function() if not client:is_closing() then client:close() end end)
      end)
      local said = one:ask("/use?how=" .. how)
      assert.matches("^%d+ answered, alive\n$", said)
      assert.is_true(tonumber(said:match "%d+") >= 6, said) -- a machine that is busy may be late with the close
    end)

    it("one that answers is not to blame for what its claimers do: " .. how, function()
      start(function(client) client:write "y\n" end)
      assert.equal("12 answered, alive\n", one:ask("/use?how=" .. how))
    end)
  end

  it("a factory without a check has none after pool:set either", function()
    start(function(client) client:write "y\n" end)
    assert.equal("0 checks, 1 suspect\n", one:ask "/checks")
  end)
end)
