--- Connection factories under the real nginx: those that do it right in ways of their own, and those that do not.
local uv = require "luv"
local nginx = require "spec.support.nginx"
local redis = require "spec.support.redis"
local server = require "spec.support.server"

-- A pool of that name for each factory; `red()` makes a client of the library, which is named in two ways.
local POOLS = [[
local cueball = require "cueball"
local ok, library = pcall(require, "resty.redis")
if not ok then library = require "nginx.redis" end
local pools, factories = {}, %s
for name, factory in pairs(factories(library)) do
  pools[name] = cueball.pool {
    name = name, max_connections = %d, claim_timeout_ms = %d, balance = "lifo", check_interval_ms = false,
    resolver = cueball.resolver.static { %s }, connect = factory, recovery = { default = { timeout_ms = %d } },
  }
end
return pools
]]

local SERVER = [[
location = /get { content_by_lua_block {
  local answer, message = pools[ngx.var.arg_n]:with(function(red) return ask(red) end)
  ngx.print(tostring(answer or message))
} }
location = /stat { content_by_lua_block { ngx.print(tostring(pools[ngx.var.arg_n]:stats()[ngx.var.arg_s])) } }
location = /error { content_by_lua_block { ngx.print(tostring(pools[ngx.var.arg_n]:last_error())) } }
]]

describe("a connection factory in nginx", function()
  local one, backend

  before_each(function() backend = redis.start { "--bind 127.0.0.1 ::1" } backend:call("SET", "key", "value") end)
  after_each(function()
    if one then one:stop() one = nil end
    backend:stop()
  end)

  -- @param given factories: a function(library) that returns them; ask: what a request does; backends; max_connections; server;
  -- claim_timeout_ms: 15,000, since a machine may have other things to do; less where no connection is to be had; attempt_ms
  local function start(given)
    local backends = {}
    for index, text in ipairs(given.backends or { backend.backend }) do backends[index] = ("%q"):format(text) end
    one = nginx.start {
      files = { ["my_pools.lua"] = POOLS:format(given.factories, given.max_connections or 2, given.claim_timeout_ms or 15000,
        table.concat(backends, ", "), given.attempt_ms or 2000) },
      http = ("init_worker_by_lua_block { pools = require 'my_pools' function ask(red) %s end }\n")
        :format(given.ask or "return red:get 'key'"),
      server = SERVER .. (given.server or ""),
    }
  end

  local function get(name) return one:ask("/get?n=" .. name) end
  local function stat(name, which) return tonumber(one:ask(("/stat?n=%s&s=%s"):format(name, which))) end
  local function until_idle(name, count)
    nginx.until_true(function() return stat(name, "idle") == count end, function() return stat(name, "idle") .. one:log() end)
  end

  -- The pool has refused a claim by now, and may not have told yet why.
  local function until_error(name)
    nginx.until_true(function() return one:ask("/error?n=" .. name) ~= "nil" end, function() return one:log() end)
  end

  -- All ways to connect, as a factory of one's own may have them.
  local WAYS = [[function(library) return {
    connect = function(_, context)
      local red = library:new()
      local how, message = context.connect(red)
      if not how then return nil, message end
      return red
    end,
    through = function(backend, context)
      local red = library:new()
      context.through(red._sock)
      local ok, message = red:connect("whatever " .. backend.address, -1, { ssl = false })
      if not ok then return nil, message end
      red.greeted = red:get_reused_times() == 0
      return red
    end,
    options = function(backend, context)
      local red = library:new()
      local host = backend.address:find ":" and "[" .. backend.address .. "]" or backend.address
      local ok, message = red:connect(host, backend.port, context.socket_options)
      if not ok then return nil, message end
      return red
    end,
    socket = function(backend, context)
      local red = library:new()
      red._sock = context.host.tcp()
      local ok, message = red._sock:connect(backend.address, backend.port, context.socket_options)
      if not ok then return nil, message end
      return red
    end,
    redis = require("cueball").connection.redis {},
    tcp = { connect = function(backend, context)
      local red = library:new()
      local message
      red._sock, message = require("cueball").connection.tcp({}).connect(backend, context)
      if not red._sock then return nil, message end
      return red
    end },
  } end]]
  local NAMES = { "connect", "through", "options", "socket", "redis", "tcp" }

  local function each_connects(address)
    start { factories = WAYS, backends = { address } }
    for _, name in ipairs(NAMES) do
      for _ = 1, 10 do assert.equal("value", get(name), name) end
      until_idle(name, 2)
      assert.equal(2, stat(name, "opened"), name)
    end
    nginx.until_true(function() return backend:clients() == 2 * #NAMES end, function() return backend:call("CLIENT", "LIST") end)
  end

  it("connects in any of the documented ways, and its connections are used again", function() each_connects(backend.backend) end)

  it("does so over IPv6", function()
    if backend:call("-h", "::1", "PING") ~= "PONG" then return pending "no IPv6 here" end
    each_connects("[::1]:" .. backend.port)
  end)

  it("is told what to do about an IPv6 address that it hands to nginx as it is", function()
    start { claim_timeout_ms = 500, backends = { "[::1]:" .. backend.port }, factories = [[function(library)
      return { raw = function(backend, context)
      local red = library:new()
      local ok, message = red:connect(backend.address, backend.port, context.socket_options)
      if not ok then return nil, message end
      return red
    end } end]] }
    get "raw"
    until_error "raw"
    assert.matches('failed to parse host name "::1": invalid port: connect with context.connect%(client%)$', one:ask "/error?n=raw")
  end)

  it("counts what claimers open anew", function()
    start { factories = WAYS }
    for _, name in ipairs { "connect", "redis", "options", "tcp" } do
      until_idle(name, 2) -- one that opened later would not be lost, and be lent first
      get(name)
    end
    for _ = 1, 5 do
      backend:call("CLIENT", "KILL", "TYPE", "normal")
      for _, name in ipairs { "connect", "redis", "options", "tcp" } do assert.equal("value", get(name)) end
    end
    for _, name in ipairs { "connect", "redis", "options", "tcp" } do
      local opened, lost = stat(name, "opened"), stat(name, "lost")
      assert.equal(7, opened, name)
      assert.equal(5, lost, name)
      assert.equal(opened, stat(name, "attempts"))
    end
  end)

  -- Two users, and nobody is to be lent the other's connection.
  it("finds in context.memo what the greeting told, as long as the connection lives", function()
    start {
      factories = [[function(library) return { memo = { connect = function(_, context)
        local red = library:new()
        local how, message = context.connect(red)
        if not how then return nil, message end
        if how == "new" then
          local is_empty = next(context.memo) == nil
          context.memo.id = is_empty and red:incr "greetings" or "that of another connection"
          if context.memo.id == 3 then context.memo.red = red end
        end
        red.greeting = context.memo.id
        return red
      end } } end]],
      ask = "return red.greeting", max_connections = 1,
    }
    local answers = {}
    -- Until the greeting of this number is heard; what was heard before is noted.
    local function hear(number)
      nginx.until_true(function()
        local answer = get "memo"
        answers[answer] = true
        return answer == number
      end, function() return get "memo" end)
    end
    for _ = 1, 5 do assert.equal("1", get "memo") end
    backend:call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    hear "2" -- opened anew by the claimer
    for _ = 1, 3 do assert.equal("2", get "memo") end
    backend:call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    hear "4" -- what the third put there was refused
    assert.is_nil(answers["3"] or answers["that of another connection"])
  end)

  it("that puts more into context.memo with each claim loses that connection at the limit", function()
    start {
      factories = [[function(library)
        local claims = 0
        return { memo = { connect = function(_, context)
          local red = library:new()
          local how, message = context.connect(red)
          if not how then return nil, message end
          claims = claims + 1
          context.memo["claim " .. claims] = true
          red.members = 0
          for _ in pairs(context.memo) do red.members = red.members + 1 end
          return red
        end } }
      end]],
      ask = "return red.members", max_connections = 1,
    }
    local before, most = 0, 0
    nginx.until_true(function()
      local members = tonumber(get "memo") or before -- else the claim that found too many
      most = math.max(most, members)
      local is_anew = members < before
      before = members
      return is_anew
    end, function() return get "memo" end)
    assert.is_true(most > 20 and most <= 32, most)
  end)

  it("that opens its socket past context.connect is told so, and serves nobody", function()
    for _, user in ipairs { "ann", "bob" } do backend:call("ACL", "SETUSER", user, "on", ">" .. user, "~*", "+@all") end
    start { claim_timeout_ms = 500, ask = "return red:acl 'whoami'", factories = [[function(library)
      local function of(user)
        return function(backend)
          local red = library:new()
          local ok, message = red:connect(backend.address, backend.port)
          if not ok then return nil, message end
          if red:get_reused_times() == 0 then ok, message = red:auth(user, user) end
          if not ok then return nil, message end
          return red
        end
      end
      return { ann = of "ann", bob = of "bob" }
    end]] }
    for _ = 1, 3 do
      for _, name in ipairs { "ann", "bob" } do
        local answer = get(name)
        assert.is_truthy(answer:find("past context.connect", 1, true) or answer:find("timed out", 1, true), answer)
      end
    end
    assert.matches("opened its socket past context.connect, so that others could be lent it: connect with context.connect%(client%)",
      one:ask "/error?n=ann")
  end)

  for what, connection in pairs {
    ["that its connection shows"] = "{ socket = socket }", ["deep inside"] = "{ client = { _sock = socket } }",
    ["that nobody sees"] = "{ ask = function() return socket end }",
  } do
    it("that has a socket (" .. what .. ") and no way to park it is told so", function()
      start { claim_timeout_ms = 500, factories = [[function() return { one = { connect = function(backend, context)
        local socket, message = require("cueball").connection.tcp({}).connect(backend, context)
        if not socket then return nil, message end
        return ]] .. connection .. [[
      end } } end]] }
      get "one"
      until_error "one"
      assert.matches("there is no way to park it: give the factory park%(connection, idle_ms%)", one:ask "/error?n=one")
      nginx.until_true(function() return backend:clients() == 0 end)
    end)
  end

  it("parks what has a method `keepalive`", function()
    start { factories = [[function(library) return { one = function(_, context)
      local red = library:new()
      local how, message = context.connect(red)
      if not how then return nil, message end
      return { red = red, get = function(_, key) return red:get(key) end, keepalive = function(_, ms) return red:set_keepalive(ms) end }
    end } end]] }
    for _ = 1, 10 do assert.equal("value", get "one") end
    assert.equal(2, stat("one", "opened"))
  end)

  -- A server that takes its time when asked to.
  local function slow()
    return server.listen(function(client)
      client:read_start(function(_, data)
        if client:is_closing() then return end
        if not data then return client:close() end
        local timer = uv.new_timer()
        timer:start(tonumber(data:match "%d+"), 0, function()
          timer:close()
          if not client:is_closing() then client:write "done\n" end
        end)
      end)
    end)
  end

  it("may limit connecting by context.timeout_ms: what was left of the claim is no limit for what comes then", function()
    local other = slow()
    start { claim_timeout_ms = 8000, attempt_ms = 8000, backends = { "127.0.0.1:" .. other.port }, max_connections = 1, ask = [[
      red:send(ngx.var.arg_ms)
      local line, message = red:receive "*l"
      return line or "failed: " .. message
    ]], factories = [[function() return {
      one = function(backend, context)
        local socket = context.host.tcp()
        socket:settimeout(context.timeout_ms)
        local ok, message = socket:connect(backend.address, backend.port, context.socket_options)
        if not ok then return nil, message end
        return socket
      end,
    } end]] }
    local answers = {}
    nginx.many(2, 2, function(index)
      if index == 2 then nginx.until_true(function() return stat("one", "busy") == 1 end) end
      answers[index] = one:ask("/get?n=one&ms=" .. (index == 1 and 4000 or 5000))
    end)
    assert.same({ "done", "done" }, answers)
    other:close()
  end)

  it("that has to open a connection in a claim's time is given what is left of that", function()
    start { max_connections = 1, server = [[
      location = /short { content_by_lua_block {
        given = nil
        local _, message = pools.one:with(function() end, { timeout_ms = 1500 })
        ngx.print(given and (given <= 1500 and "what is left" or given) or message)
      } }
    ]], factories = [[function() return { one = { connect = function(_, context)
      local socket = context.host.tcp()
      socket:settimeout(context.timeout_ms)
      local how, message = context.connect(socket)
      given = context.timeout_ms
      return how and socket, message
    end } } end]], ask = "red:send 'PING\\r\\n' return red:receive '*l'" }
    assert.equal("+PONG", get "one")
    nginx.until_true(function() -- on a busy machine the time may be over before it is open
      backend:call("CLIENT", "KILL", "TYPE", "normal")
      return one:ask "/short" == "what is left"
    end, function() return one:ask "/short" end)
    assert.not_equal("what is left", one:ask "/short") -- it is parked now: nothing has to be limited
  end)

  it("that fails after it has connected leaves no connection open, though it closes none", function()
    start { claim_timeout_ms = 500, factories = [[function(library) return { one = function(_, context)
      local red = library:new()
      local how, message = context.connect(red)
      if not how then return nil, message end
      return nil, "not today"
    end } end]] }
    get "one"
    nginx.until_true(function() return stat("one", "attempts") >= 5 and backend:clients() == 0 end, function()
      return backend:clients() .. " are open"
    end)
  end)

  it("is not asked twice for the backend that has just failed, where another has an idle connection", function()
    local other = redis.start()
    other:call("SET", "key", "value")
    start { backends = { backend.backend, other.backend }, max_connections = 4, factories = WAYS, server = [[
      location = /order { content_by_lua_block { -- the last two to come back, and the first to be lent, are of the second backend
        local leases, last = {}, {}
        for index = 1, 4 do leases[index] = assert(pools.redis:claim()) end
        for _, lease in ipairs(leases) do
          if lease:backend().port == tonumber(ngx.var.arg_port) then last[#last + 1] = lease else lease:release() end
        end
        for _, lease in ipairs(last) do lease:release() end
        ngx.print(#last)
      } }]] }
    until_idle("redis", 4)
    assert.equal("2", one:ask("/order?port=" .. other.port))
    other:stop()
    assert.equal("value", get "redis")
    assert.equal(1, stat("redis", "leases_failed"))
  end)
end)
