--- The resolvers of examples/discovery: etcd and Sentinel with real servers, Consul and Kubernetes in virtual time, with servers that
-- answer as those do.
local uv = require "luv"
local cueball = require "cueball"
local host = require "cueball.host.uv"
local sim = require "cueball.host.sim"
local keys_of = require "spec.support.backends_of"
local redis = require "spec.support.redis"
local shell = require "spec.support.shell"
local until_true = require "spec.support.until_true"
local free_port = require("spec.support.port").free
local http = require "examples.discovery.http"

local function pool_on(options)
  return cueball.pool { host = options.host, resolver = options.resolver, max_connections = 2, connect = function() return {} end }
end

local function answer_of(body, headers)
  return ("HTTP/1.1 200 OK\r\n%s\r\n%s"):format(headers or "", body)
end

describe("a resolver for Consul", function()
  local world, server, waiting, index, entries, asked

  local function entry(address, port, weight)
    return ('{"Node":{"Node":"n-%s","Address":"10.9.9.9"},"Service":{"Service":"web","Address":"%s","Port":%d,"Weights":{"Passing":%d}}}')
      :format(port, address, port, weight or 1)
  end

  local function reply(connection)
    connection:send(answer_of("[" .. table.concat(entries, ",") .. "]", "X-Consul-Index: " .. index .. "\r\n"))
    connection:close()
  end

  local function change(new_index, list)
    index, entries = new_index, list
    local all = waiting
    waiting = {}
    for _, connection in ipairs(all) do if connection.is_open then reply(connection) end end
  end

  before_each(function()
    world, waiting, index, asked = sim.new { seed = 1 }, {}, 7, {}
    entries = { entry("10.0.0.1", 80), entry("", 81, 3) }
    server = world.server("127.0.0.1", 8500, {
      request = function(data) return select(2, data:find "\r\n\r\n") end,
      reply = function(data, connection)
        asked[#asked + 1] = data
        if tonumber(data:match "index=(%d+)") < index then return reply(connection) end
        waiting[#waiting + 1] = connection
      end,
    })
  end)
  after_each(function() world.close() end)

  local function new(options)
    options.service = "web"
    return pool_on { host = world, resolver = require "examples.discovery.consul"(options) }
  end

  it("lists, then hears of each change while it waits", function()
    local pool = new { token = "sesame", tag = "v2" }
    world.advance(100)
    assert.equal("10.0.0.1:80 10.9.9.9:81", keys_of(pool))
    assert.equal("web", pool.name)
    assert.is_truthy(asked[1]:find("GET /v1/health/service/web?passing=1&index=0&wait=60s&tag=v2 HTTP/1.1\r\n", 1, true))
    assert.is_truthy(asked[1]:find("X-Consul-Token: sesame\r\n", 1, true))
    world.advance(5000)
    assert.equal(2, #asked)
    change(8, { entry("10.0.0.2", 80) })
    world.advance(1000)
    assert.equal("10.0.0.2:80", keys_of(pool))
    assert.is_truthy(asked[3]:find("index=8", 1, true))
    pool:stop()
    world.advance(100)
    assert.same({}, world.leaks())
  end)

  it("lists anew where Consul counts anew, and says that it cannot be reached", function()
    local pool = new {}
    world.advance(100)
    change(3, { entry("10.0.0.3", 80) })
    world.advance(5000)
    assert.equal("10.0.0.3:80", keys_of(pool))
    server:stop { reset = true }
    world.advance(5000)
    assert.is_truthy(pool:resolver().message:find("127.0.0.1:8500: connection refused", 1, true), pool:resolver().message)
    assert.equal("10.0.0.3:80", keys_of(pool))
    pool:stop()
    world.advance(100)
  end)
end)

describe("a resolver for Kubernetes", function()
  local function slice(name, version, port, addresses)
    local endpoints = {}
    for index, address in ipairs(addresses) do
      endpoints[index] = ('{"addresses":["%s"],"conditions":{"ready":%s},"targetRef":{"name":"pod-%s"}}')
        :format(address:gsub("%*", ""), tostring(not address:find "%*"), name)
    end
    return ('{"metadata":{"name":"%s","resourceVersion":"%s"},"ports":[{"name":"db","port":%d},{"name":"http","port":9}],"endpoints":[%s]}')
      :format(name, version, port, table.concat(endpoints, ","))
  end

  it("lists slices, follows a watch, and lists anew when its version is too old", function()
    local world, watching, asked = sim.new { seed = 1 }, nil, {}
    local items = { slice("a", "5", 5432, { "10.0.0.1", "10.0.0.2*" }), slice("b", "6", 5432, { "10.0.0.3", "10.0.0.1" }) }
    world.server("10.96.0.1", 443, {
      request = function(data) return select(2, data:find "\r\n\r\n") end,
      reply = function(data, connection)
        asked[#asked + 1] = data
        if data:find("watch=1", 1, true) then
          watching = connection
          return answer_of ""
        end
        connection:send(answer_of('{"metadata":{"resourceVersion":"7"},"items":[' .. table.concat(items, ",") .. "]}"))
        connection:close()
      end,
    })
    local pool = pool_on { host = world, resolver = require "examples.discovery.kubernetes" {
      service = "db", namespace = "shop", port_name = "db", address = "10.96.0.1", port = 443, tls = false, token = "t0ken",
    } }
    world.advance(1000)
    assert.equal("10.0.0.1:5432 10.0.0.3:5432", keys_of(pool))
    assert.is_truthy(asked[1]:find("/namespaces/shop/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Ddb ", 1, true), asked[1])
    assert.is_truthy(asked[1]:find("Authorization: Bearer t0ken\r\n", 1, true))
    assert.is_truthy(asked[2]:find("resourceVersion=7 ", 1, true))

    watching:send('{"type":"MODIFIED","object":' .. slice("a", "8", 5432, { "10.0.0.2" }) .. "}\n")
    world.advance(1000)
    assert.equal("10.0.0.1:5432 10.0.0.2:5432 10.0.0.3:5432", keys_of(pool))
    watching:send('{"type":"DELETED","object":' .. slice("b", "9", 5432, {}) .. "}\n")
    watching:send '{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"12"}}}\n'
    world.advance(1000)
    assert.equal("10.0.0.2:5432", keys_of(pool))

    watching:close()
    world.advance(2000)
    assert.is_truthy(asked[3]:find("resourceVersion=12 ", 1, true))
    items = { slice("c", "20", 5433, { "fd00::7" }) }
    watching:send '{"type":"ERROR","object":{"code":410}}\n'
    world.advance(2000)
    assert.equal("[fd00::7]:5433", keys_of(pool))
    pool:stop()
    world.advance(100)
    assert.same({}, world.leaks())
    world.close()
  end)
end)

-- A server of the machine, in a folder of its own; stop() kills it by its pid.
local function start(program, arguments)
  local has_exited, handle, pid = false
  handle, pid = uv.spawn(program, { args = arguments, stdio = { nil, nil, nil } }, function()
    has_exited = true
    handle:close()
  end)
  assert(handle, pid)
  handle:unref()
  return function()
    if not has_exited then uv.kill(pid, "sigkill") end
    until_true(function() return has_exited end)
  end
end

describe("a resolver for etcd", function()
  it("lists keys, and follows those that come, change and go", function()
    local errors = {}
    host.log_to(function(level, line) if level == "error" then errors[#errors + 1] = line end end)
    local folder, port, peer = shell.must "mktemp -d", free_port(), free_port()
    local stop = start("etcd", { "--data-dir", folder, "--log-level", "error", "--listen-client-urls", "http://127.0.0.1:" .. port,
      "--advertise-client-urls", "http://127.0.0.1:" .. port, "--listen-peer-urls", "http://127.0.0.1:" .. peer,
      "--initial-advertise-peer-urls", "http://127.0.0.1:" .. peer, "--initial-cluster", "default=http://127.0.0.1:" .. peer })
    finally(function()
      host.log_to(nil)
      stop()
      shell.must("rm -rf '" .. folder .. "'")
    end)
    local encoded = {} -- base64 of the keys and values below, by openssl: not by the code that is tested
    local function b64(text)
      encoded[text] = encoded[text] or shell.must(("printf %%s '%s' | openssl base64 -A"):format(text))
      return encoded[text]
    end
    local function call(path, body)
      local answer, message
      host.run(function()
        answer, message = http.ask(host, { address = "127.0.0.1", port = port }, "POST", path, body)
        if answer then answer, message = answer:rest() end
      end)
      return answer, message
    end
    local function put(key, value) return call("/v3/kv/put", { key = b64(key), value = b64(value) }) end
    until_true(function() return put("/services/web/a", "10.0.0.1:8080") end)
    put("/services/web0", "10.9.9.9:1") -- not below the prefix

    local pool = pool_on { host = host, resolver = require "examples.discovery.etcd" { prefix = "/services/web/", port = port } }
    finally(function()
      host.run(function() pool:stop() end)
      host.log_to(nil)
      stop()
      shell.must("rm -rf '" .. folder .. "'")
    end)
    local function has(keys) until_true(function() return keys_of(pool) == keys end, function() return keys_of(pool) end) end
    has "10.0.0.1:8080"
    put("/services/web/bb", "10.0.0.2:8080")
    has "10.0.0.1:8080 10.0.0.2:8080"
    put("/services/web/a", "10.0.0.33:8080")
    has "10.0.0.2:8080 10.0.0.33:8080"
    call("/v3/kv/deleterange", { key = b64 "/services/web/bb" })
    has "10.0.0.33:8080"
    assert.same({}, errors) -- what threw is started again, and would list all of that anew
  end)
end)

describe("a resolver for Sentinel", function()
  it("finds the primary, and hears of a failover", function()
    local primary = redis.start()
    local replica = redis.replica_of(primary)
    local port, path = free_port(), os.tmpname()
    shell.write(path, ("port %d\nbind 127.0.0.1\nsentinel monitor cache 127.0.0.1 %d 1\nsentinel down-after-milliseconds cache 60000\n")
      :format(port, primary.port))
    local stop = start("redis-sentinel", { path })
    local pool
    finally(function()
      if pool then host.run(function() pool:stop() end) end
      stop()
      replica:stop()
      primary:stop()
      os.remove(path)
      host.log_to(nil)
    end)
    host.log_to(function() end)
    local function sentinel(words) return shell.run(("redis-cli -p %d SENTINEL %s"):format(port, words)) end
    until_true(function() return sentinel "replicas cache":find("master-link-status\nok", 1, true) end)
    pool = cueball.pool {
      resolver = require "examples.discovery.sentinel" { service = "cache", sentinels = { "127.0.0.1:1", "127.0.0.1:" .. port } },
      connect = cueball.connection.redis { role = "primary" }, max_connections = 2, claim_timeout_ms = 20000,
    }
    local function has(key) until_true(function() return keys_of(pool) == key end, function() return keys_of(pool) end) end
    has(primary.backend)
    until_true(function() return sentinel "failover cache" == "OK" end)
    has(replica.backend)
    host.run(function() assert.equal("OK", (pool:with(function(client) return client:set("key", "value") end))) end)
    assert.equal("value", replica:call("GET", "key"))
  end)
end)
