--- What users of such consoles and pages hated, and what their security records have: each row has specs,
-- for the console and for the monitor. Here are those that stand nowhere else, and an index of all.
local connection = require "cueball.console.connection"
local cueball = require "cueball"
local host = require "cueball.host.uv"
local http_client = require "spec.support.http_client"
local monitor = require "cueball.monitor"
local remote = require "cueball.console.remote"
local seat = require "cueball.console.seat"
local settings = require "cueball.console.settings"
local shell = require "spec.support.shell"
local sim = require "cueball.host.sim"
local towns = require "spec.support.console_town"
local uv = require "luv"
local verbs = require "cueball.console.verbs"

local TOKEN = "a-secret-of-more-than-16-bytes"

-- Each row: what it is, and pairs of a file and a spec's title; a text is why a spec would have no object.
local HERE = "console/attacks"
local INDEX = {
  { "completion that drifts from the code",
    console = { "console/complete", "are all those that the core has",
      "console/filters", "have every filter that they name in a case above" },
    monitor = "it completes nothing" },
  { "output that is cut without a word",
    console = { "console/filters", "say in each form how many were left out",
      "console/readonly", "sees so much, and how much more there is" },
    monitor = { "monitor/dashboard", "shows who waits and who holds, the oldest first, and how many more there are" } },
  { "a client that runs the application's whole configuration",
    console = { "cli/attach", "says what is wrong with how it is called, and with the program" },
    monitor = "its clients are browsers" },
  { "history in the current folder",
    console = { "cli/repl_prompt", "keeps what was typed, entries of several lines whole, for its owner alone" },
    monitor = "it has none" },
  { "a lock that is shared with traffic, so that it hangs under load",
    console = { HERE, "answers while a thousand claims wait and others come and go",
      "runtime/console", "shows the pools of the script, and goes with it" },
    monitor = { HERE, "answers while a thousand claims wait and others come and go" } },
  { "output that cannot be pasted back",
    console = { "console/show", "is shown so that it can be pasted back", "console/filters",
      "leave out rows whole where there are too many to be shown, so that what is shown can be read" }, monitor = "it is JSON" },
  { "history that breaks lines of one input apart",
    console = { "console/editor", "goes through the history, entries of several lines whole" }, monitor = "it has none" },
  { "pasted tabs that complete",
    console = { "cli/repl_prompt", "takes a paste of 200 lines as one input, with its tabs, and runs it when Enter is pressed" },
    monitor = "nothing is typed there" },
  { "pollers that exhaust or hang the socket",
    console = { "console/polls", "leave memory and descriptors as they were, each in a session of its own", "console/listen",
      "has room for so many, and the next are let in when one leaves", "console/eight_hours", "leave the console's memory as it was",
      "console/polls", "that nobody reads drop the peer, and hold so much at most", HERE, "drops who does not say who he is within 10 s" },
    monitor = { "http/server", "has no more connections than it may, and no answer that nobody gave", "console/eight_hours",
      "leave the monitor's memory as it was", "http/server",
      "closes a connection whose head is not whole in time, however slowly it comes" } },
  { "state that is changed by GET",
    console = { "console/listen", "runs nothing that a browser was talked into sending", HERE, "gives no snapshot to another site's page" },
    monitor = { "monitor/server", "changes nothing, and answers GET and HEAD only" } },
  { "a command that forgot its check of who may",
    console = { HERE, "changes nothing for a reader, whichever command of a prompt or verb it is" },
    monitor = { "monitor/server", "wants the token, in the header alone" } },
  { "HTML, and sequences of terminals, in names that an attacker chose",
    console = { "console/listen", "escapes what comes from the program, as names that an attacker chose do" },
    monitor = { "monitor/dashboard", "shows what anybody chose to call himself as text, whatever it is" } },
  { "reads by pages of other sites",
    console = { HERE, "gives no snapshot to another site's page" },
    monitor = { "monitor/server", "is no tool of other pages: their names, their requests" } },
  { "memory without bounds",
    console = { "console/readonly", "takes no memory without an end", "console/listen", "does not keep lines of text that go on for ever",
      "console/live", "holds so much for him, and says how many lines it left out" },
    monitor = { "http/server", "refuses what is no HTTP, and too much of it",
      "monitor/server", "drop a reader that reads nothing, and nobody else",
      "http/server", "holds no more memory for thousands of requests and connections" } },
}

describe("each row of the attack list", function()
  for _, row in ipairs(INDEX) do
    it("has specs: " .. row[1], function()
      for _, part in ipairs { "console", "monitor" } do
        local listed = row[part]
        assert.is_truthy(listed, part)
        for index = 1, type(listed) == "table" and #listed or 0, 2 do
          local text = shell.read(("%s/spec/%s_spec.lua"):format(shell.root, listed[index]))
          assert.is_truthy(text:find(('it("%s"'):format(listed[index + 1]), 1, true), listed[index] .. ": " .. listed[index + 1])
        end
      end
    end)
  end
end)

describe("a console", function()
  it("changes nothing for a reader, whichever command of a prompt or verb it is", function()
    local world = sim.new {}
    world.server("10.0.0.1", 80)
    local pool = cueball.pool { name = "db", host = world, max_connections = 2, connect = cueball.connection.tcp {},
      resolver = cueball.resolver.static { "10.0.0.1:80" } }
    world.advance(1000)
    local shown = {}
    local one = seat.new { host = world, allow = "read", who = "spec", budget_ms = 5000,
      output = function(words, kind) shown[#shown + 1] = kind .. " " .. words end }
    local names = {}
    local all = require("cueball.console.commands").all(true, verbs.commands({ who = "spec" }, true))
    for name in pairs(all.by_name) do names[#names + 1] = name end
    for _, row in ipairs(verbs.rows) do names[#names + 1] = row.name end
    assert.is_true(#names > 40, #names)
    local before = { pool:stats().claims, pool:max_connections(), pool:is_paused(), #require("cueball.console.changes").list(),
      #require("cueball.pool.registry").pools() }
    world.spawn(function()
      for _, name in ipairs(names) do
        for _, line in ipairs {
          ":%s", ":%s db", ":%s db max_connections=9", ":%s lease=1 older=0", ":%s 10.0.0.1:80",
          '%s { pool = "db" }', "%s { pool = '*', older = 0 }",
          "%s { pool = 'db', backend = '10.0.0.1:80', max_connections = 9 }", ":%s 200/s 1s", ":%s os.exit(1)",
        } do
          if name ~= "quit" then one:run(line:format(name)) end
        end
      end
      one:interrupt()
      one:close()
    end)
    world.advance(3000)
    assert.same(before, { pool:stats().claims, pool:max_connections(), pool:is_paused(), #require("cueball.console.changes").list(),
      #require("cueball.pool.registry").pools() })
    assert.equal("up", verbs.functions({ who = "spec" }, false).backends({ pool = "db" })[1].state)
    assert.equal(0, #pool.events.subscribers)
    assert.is_true(#shown > #names)
    world.spawn(function() pool:stop() end)
    world.advance(10000)
    world.close()
  end)

  it("drops who does not say who he is within 10 s", function()
    local world = sim.new {}
    local limit_ms, is_over
    local stream = { send = function(_, bytes) return #bytes end, settimeouts = function(_, _, _, ms) limit_ms = ms end }
    local sent = 0
    function stream.receiveany()
      if limit_ms <= 1000 then
        world.sleep(limit_ms)
        return nil, "timeout"
      end
      world.sleep(1000) -- a byte a second
      sent = sent + 1
      return "{"
    end
    world.spawn(function()
      connection.serve(stream, { address = "spec" }, settings.of("spec", {}, world))
      is_over = true
    end)
    world.advance(9000)
    assert.is_nil(is_over)
    world.advance(2000)
    assert.is_true(is_over)
    assert.is_true(sent >= 8 and sent <= 10, sent)
    world.close()
  end)
end)

describe("over sockets", function()
  after_each(function() uv.run "nowait" end) -- luv before 1.45 does not like an end with handles that are closing

  it("answers while a thousand claims wait and others come and go", function()
    local town, page = towns.start { max_connections = 2 }, assert(monitor.serve { listen = "127.0.0.1:0" })
    local pool = town.pool
    finally(function()
      page:close()
      town:finish()
    end)
    host.run(function()
      local is_over, begun = false, pool:stats().claims
      local held = { pool:claim(), pool:claim() }
      for _ = 1, 1000 do
        host.spawn(function()
          while not is_over do
            local lease = pool:claim { timeout_ms = 60000 }
            host.sleep(0)
            if lease then lease:release() end
          end
        end)
      end
      local shown = {}
      local one = assert(remote.connect { host = host, address = town.address,
        print = function(words) shown[#shown + 1] = words end })
      one:submit "pools { pool = 'db' }[1].waiting" -- nothing is to be had
      assert.equal("1000", shown[1])
      for _, lease in ipairs(held) do lease:release() end
      local client = http_client.to(page.address)
      for _ = 1, 5 do
        one:submit "#waiters { limit = 10 }"
        assert.equal(200, (client:get "/snapshot"))
      end
      assert.equal(0, one.failed)
      assert.is_true(pool:stats().claims - begun > 100)
      is_over = true
      one:close()
    end)
  end)

  it("gives no snapshot to another site's page", function()
    local port = require("spec.support.port").free()
    local console = assert(cueball.console.listen("127.0.0.1:" .. port, { token = TOKEN }))
    finally(function() console:close() end)
    host.run(function()
      local client = http_client.to("127.0.0.1:" .. port)
      assert.equal(200, (client:get("/snapshot", { Authorization = "Bearer " .. TOKEN })))
      for _, headers in ipairs {
        {}, { Authorization = "Bearer " .. TOKEN .. "x" }, { Authorization = "Bearer " .. TOKEN, Origin = "http://evil.example" },
        { Authorization = "Bearer " .. TOKEN, ["Sec-Fetch-Site"] = "cross-site" }, { Authorization = "Basic " .. TOKEN },
      } do
        assert.equal(400, (client:get("/snapshot", headers)))
      end
      assert.equal(400, (client:get("/snapshot", { Authorization = "Bearer " .. TOKEN }, "POST")))
      assert.equal(400, (client:get("/snapshot?token=" .. TOKEN)))
    end)
  end)
end)
