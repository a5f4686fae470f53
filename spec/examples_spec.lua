--- Every example runs as it stands, from any folder, and leaves nothing behind.
local postgres = require "spec.support.postgres"
local root, build = os.getenv "CUEBALL_ROOT", os.getenv "CUEBALL_BUILD"

-- Runs a command in a folder that is not ours. What is not LuaJIT must not load a sanitizer's library: the scripts see
-- to it where it belongs.
-- @return its status, what it printed to stdout and, with "2>&1" in the command, to stderr
local function run(command)
  local pipe = assert(io.popen(("cd / && unset LD_PRELOAD && %s; echo \"status $?\""):format(command)))
  local text = pipe:read "*a"
  pipe:close()
  local output, status = text:match "^(.*)status (%d+)\n$"
  return tonumber(status), output
end

local function example(name)
  return run(("CUEBALL_LOG=warn timeout 300 '%s/examples/run' examples/%s.lua 2>&1"):format(root, name))
end

-- The ports of the servers that the quickstart started.
local function ports_of(output)
  local ports = {}
  for port in output:match("servers: ([^\n]*)"):gmatch ":(%d+)" do ports[#ports + 1] = tonumber(port) end
  return ports
end

local function is_listening(port)
  local uv = require "luv"
  local client, result = uv.new_tcp(), nil
  client:connect("127.0.0.1", port, function(err)
    result = err or "connected"
    client:close()
  end)
  while not result do uv.run "once" end
  uv.run "nowait"
  return result == "connected"
end

describe("an example", function()
  it("of the README: a pool over two servers", function()
    local status, output = example "readme"
    assert.equal(0, status, output)
    local count, by_backend = 0, {}
    for number, backend in output:gmatch "hello (%d)\t(127%.0%.0%.1:%d+)\n" do
      count = count + 1
      assert.equal(count, tonumber(number))
      by_backend[backend] = (by_backend[backend] or 0) + 1
    end
    assert.equal(8, count, output)
    assert.is_truthy(next(by_backend, next(by_backend)), "both servers were used")
  end)

  it("of a resolver: the pool follows a file", function()
    local status, output = example "resolver"
    assert.equal(0, status, output)
    assert.equal([[
two lines in the file:
  HOST: 3 connections
  HOST: 3 connections
a third line:
  HOST: 2 connections
  HOST: 2 connections
  HOST: 2 connections
only the third:
  HOST: 6 connections
]], (output:gsub("127%.0%.0%.1:%d+", "HOST")))
  end)

  it("of a factory: it logs in, checks, and finds what is broken", function()
    local status, output = example "factory"
    assert.equal(0, status, output)
    assert.equal([[
the value of x
2 logged in
idle connections were checked
closed as unfit
3 logged in: that one was replaced
pool_failed	pool stranger has failed: dead: HOST:PORT (login: DENIED)
]], (output:gsub("%d%S+ %a+ cueball stranger: [^\n]*\n", "")))
  end)

  it("of LDAP: bound connections over two servers, one of which is killed", function()
    local status, output = example "ldap"
    assert.equal(0, status, output)
    assert.equal([[
ann@example.org
dn:uid=app,dc=example
true
false	bind: invalidCredentials (49)
0 dead, 0 connections were lost
200 of 200 searches were answered or told why not, though one server was killed
pool stranger has failed: dead: HOST (bind: invalidCredentials (49))
]], (output:gsub("%d%S+ %a+ cueball %a+: [^\n]*\n", "")))
  end)

  it("of memcached: an unmodified client library over two servers, one of which is killed", function()
    local status, output = example "memcached"
    assert.equal(0, status, output)
    assert.equal([[
400 of 400 served
3 connections to each
3 connections to each
nearly all served, though one server was killed
one server is dead, and asked now and then whether it is back
]], (output:gsub("%d%S+ %a+ cueball %a+: [^\n]*\n", "")))
  end)

  it("of PostgreSQL: a primary is killed, a standby promoted, and writes go on", function()
    local status, output = example "postgres"
    assert.equal(0, status, output)
    assert.equal([[
cue
23505	duplicate key value violates unique constraint "goods_pkey" (Key (id)=(1) already exists.)
3
3	idle
2400 numbers are there
]], (output:gsub("%d%S+ %a+ cueball %a+: [^\n]*\n", ""):gsub("%d+ queries were told: [^\n]*\n", "")))
  end)

  it("of DNS: a pool follows a zone, and an hour without any", function()
    local status, output = example "dns"
    assert.equal(0, status, output)
    assert.equal([[
  0 s  backend_added 10.0.0.1:5432
         A 10.0.0.1 of db1.shop.example from 127.0.0.1:53, TTL 30 s; SRV _postgresql._tcp.shop.example from 127.0.0.1:53, TTL 60 s
  0 s  backend_added 10.0.0.2:5432
         A 10.0.0.2 of db2.shop.example from 127.0.0.1:53, TTL 30 s; SRV _postgresql._tcp.shop.example from 127.0.0.1:53, TTL 60 s
 30 s  backend_added 10.0.0.3:5432
         A 10.0.0.3 of db2.shop.example from 127.0.0.1:53, TTL 30 s; SRV _postgresql._tcp.shop.example from 127.0.0.1:53, TTL 60 s
 30 s  backend_removed 10.0.0.2:5432
         10.0.0.2 is not in the A answer for db2.shop.example of 127.0.0.1:53 any more
an hour without DNS:
  10.0.0.1:5432 of weight 2: 4 connections
  10.0.0.3:5432 of weight 1: 2 connections
]], output)
  end)

  it("of DNS: it asks the real one, too", function()
    local status, output = run(("CUEBALL_LOG=warn timeout 300 '%s/examples/run' examples/dns.lua localhost:80 2>&1"):format(root))
    assert.equal(0, status, output)
    assert.is_truthy(output:find("  127.0.0.1:80  localhost\n    A 127.0.0.1 of localhost from hosts file, TTL 60 s\n", 1, true), output)
    status, output = run(("timeout 300 '%s/examples/run' examples/dns.lua db:99999 2>&1"):format(root))
    assert.equal(1, status, output)
    assert.equal('"db:99999": "99999" is no port: expected a number from 0 to 65535\n', output)
  end)

  it("are the process that was started, which a signal ends", function()
    local file = os.tmpname()
    local script = assert(io.open(file, "w"))
    script:write 'print(require("luv").os_getpid())'
    script:close()
    local status, output = run(("sh -c 'echo $$; exec \"$0\" \"$1\"' '%s/examples/run' '%s' 2>&1"):format(root, file))
    os.remove(file)
    assert.equal(0, status, output)
    local started, running = output:match "^(%d+)\n(%d+)\n$"
    assert.is_string(started, output)
    assert.equal(started, running)
  end)

  it("of a console: it looks at itself, and tells how to undo what was changed", function()
    local socket = select(2, run "mktemp -u"):match "[^\n]+"
    local status, output = run(("CONSOLE_SOCKET='%s' CUEBALL_LOG=none timeout 300 '%s/examples/run' examples/console.lua --once 2>&1")
      :format(socket, root))
    assert.equal(0, status, output)
    assert.matches("\necho  running ", output)
    assert.matches('set { max_connections = 4, pool = "echo" }\n', output)
    assert.matches("no lease is like that", output)
  end)

  it("of TLS: sessions are resumed, and nobody is trusted without a reason", function()
    local status, output = run(("CUEBALL_LOG=none timeout 300 '%s/examples/run' examples/tls.lua 2>&1"):format(root))
    assert.equal(0, status, output)
    assert.equal([[
olleh over TLSv1.3, a full handshake
olleh over TLSv1.3, resumed
olleh over TLSv1.3, resumed
TLS: self-signed certificate (subject CN=localhost)
]], output)
  end)

  it("of the dashboard: it serves the page, and leaves no server", function()
    local port = require("spec.support.port").free()
    local status, output = run(("CUEBALL_LOG=warn CUEBALL_DASHBOARD_PORT=%d timeout 300 '%s/examples/run' examples/dashboard.lua 1 2>&1")
      :format(port, root))
    assert.equal(0, status, output)
    assert.equal(("open http://127.0.0.1:%d/ in a browser; Ctrl-C ends this\n"):format(port), output)
    assert.is_false(is_listening(port))
  end)

  it("of the monitor: a server goes away, and it is to be seen", function()
    local status, output = example "monitor"
    assert.equal(0, status, output)
    assert.matches('cueball_pool_deaths_total{pool="echo",cause="%l+"} 1', output)
    assert.matches("connections, dead: connection refused", output)
    assert.matches("connections, well", output)
  end)

  it("in C: the core alone under poll(2)", function()
    local status, output = run(("timeout 300 '%s/examples/poll_loop' 2>&1"):format(build))
    assert.equal(0, status, output)
    assert.is_truthy(output:find("all 6 claims are answered, 4 connections are idle\n", 1, true), output)
    assert.is_truthy(output:find("the pool is stopped\n", 1, true), output)
  end)

  it("in C: ten threads claim, and a server goes away", function()
    local status, output = run(("CUEBALL_LOG=warn timeout 300 '%s/examples/claimers' 2>&1"):format(build))
    assert.equal(0, status, output)
    assert.truthy(output:find("3 servers, 15 connections are open\n", 1, true), output)
    assert.equal([[
10 threads made 500 requests each: 5000 were answered, 0 were not
the pool is stopped, 0 connections are open
]], output:match "(10 threads .*)$")
  end)

  it("in C: threads share connections that libpq makes", function()
    finally(postgres.remove_all)
    local server = postgres.start {}
    local status, output = run(("CUEBALL_LOG=warn PGUSER=postgres PGDATABASE=postgres timeout 300 '%s/examples/postgres' %s 2>&1"):format(
      build, server.backend))
    assert.equal(0, status, output)
    assert.equal([[
8 threads wrote 800 rows, over 4 connections at most: yes
a transaction was left open: 800 rows are there still
connections were ended by the server: well
the pool is stopped
]], output)
  end)
end)

describe("an example in C", function()
  it("claims asynchronously under epoll, hundreds of claims at a time", function()
    local status, output = run(("CUEBALL_LOG=none timeout 300 '%s/examples/own_loop' 2>&1"):format(build))
    assert.equal(0, status, output)
    local waited, at_once, first, second = output:match
      "^3000 jobs, 0 failed; (%d+) claims waited, up to (%d+) at a time\nserver 1 had (%d+), server 2 had (%d+)\n$"
    assert.is_truthy(waited, output)
    assert.is_true(tonumber(waited) > 1000 and tonumber(at_once) > 100, output)
    assert.equal(3000, first + second)
    assert.is_true(tonumber(first) > 0 and tonumber(second) > 0, output) -- whoever answers faster has more
  end)
end)

describe("the quickstart", function()
  it("ends with an even pool and nothing lost, and leaves no server", function()
    local status, output = run(("CUEBALL_QUICKSTART_TRIPS=1500 timeout 300 '%s/examples/quickstart' 2>&1"):format(root))
    assert.equal(0, status, output)
    local claims, failed = output:match "\nquickstart: (%d+) claims, (%d+) failed, 0 lost, p50 [%d.]+ ms, p99 [%d.]+ ms\n$"
    assert.is_truthy(claims, output)
    assert.is_true(claims - failed >= 1500, output)
    local pattern = "\n127%.0%.0%.1:%d+ %(killed%)%s+5%s+%d+%s+0%s+%d+%s+5%s+(%d+)\n"
    local requests = tonumber(output:match(pattern))
    assert.is_truthy(requests, output)
    assert.is_true(requests > 0, "the server that came back is used again")
    for _, port in ipairs(ports_of(output)) do assert.is_false(is_listening(port)) end
  end)

  it("ends its servers also when it is interrupted, or killed", function()
    for _, signal in ipairs { "INT", "TERM", "KILL" } do
      -- It would run for minutes. The shell waits for the line that names the servers, then sends the signal.
      local status, output = run(([[
        out=$(mktemp) &&
        { CUEBALL_QUICKSTART_TRIPS=100000000 setsid '%s/examples/quickstart' >"$out" 2>&1 & pid=$!; } &&
        while kill -0 $pid && ! grep -q 'killing' "$out" && ! grep -q 'claimers, ' "$out"; do sleep 0.05; done &&
        kill -%s $pid; wait $pid 2>/dev/null; status=$?; cat "$out"; rm "$out"; (exit $status)]]):format(root, signal))
      assert.equal(({ INT = 130, TERM = 143, KILL = 137 })[signal], status, output)
      local ports = ports_of(output)
      assert.equal(3, #ports, output)
      local tries = 0
      for _, port in ipairs(ports) do
        while is_listening(port) and tries < 600 do
          os.execute "sleep 0.05" -- a server of one that was killed sees the end of its stdin
          tries = tries + 1
        end
        assert.is_false(is_listening(port))
      end
    end
  end)
end)
