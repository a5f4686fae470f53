--- What the dashboard's page says of itself while what it shows is old: the connection is cut, the program is silent, the page is paused.
-- A real browser, and a stand-in for the program.
local host = require "cueball.host.uv"
local browser = require "spec.support.browser"
local monitor_stub = require "spec.support.monitor_stub"
local until_true = require "spec.support.until_true"

-- A backend that has been dead for 5 s, and is tried in 9 s; and one that is well.
local BACKENDS = {
  { key = "10.0.0.1:80", slots = "ib" },
  { key = "10.0.0.2:80", slots = "p", state = "dead", error = "connection refused", since_ms = 5000, next_attempt_ms = 9000 },
}
local DEAD = "#backend-rows tr[data-condition=dead] "
local SINCE, NEXT = DEAD .. ".since", DEAD .. ".next"

describe("the dashboard, where what it shows is old,", function()
  local one, stub

  setup(function() one = host.run(browser.start) end)
  teardown(function()
    if one then host.run(one.stop, one) end
  end)
  before_each(function() stub = monitor_stub.start() end)
  after_each(function()
    host.run(one.open, one, "about:blank")
    host.run(one.run, one, "return 1")
    stub:close()
  end)

  -- A spec in a task, with the page open.
  local function page(fn)
    host.run(function()
      one:view {}
      stub:show { pools = { monitor_stub.pool { backends = BACKENDS } } }
      one:open(stub.url)
      one:wait "return !document.getElementById('pool').hidden"
      fn()
    end)
  end

  local function notice(key)
    return one:wait("return [...document.querySelectorAll('.notice .text')].map((node) => node.textContent)"
      .. ".find((text) => text.startsWith(arguments[0]))", key)
  end

  local function is_stale()
    return one:run "return document.body.hasAttribute('data-stale')"
  end

  -- Until a notice says that so many seconds have gone by since what is shown.
  local function until_older_than(seconds)
    one:wait("const age = document.querySelector('.notice .age').textContent;"
      .. "return parseFloat(age.match(/^That was ([\\d.]+) s ago\\.$/)?.[1]) > arguments[0]", seconds)
  end

  -- Times are those of the snapshot, however long ago that was.
  local function assert_stands_still()
    until_older_than(2)
    assert.same({ "5.0 s", "tried again in 9 s" }, { one:text(SINCE), one:text(NEXT) })
  end

  it("says of when it is, and how long ago that was, while the stream is cut; and goes on where it was", function()
    page(function()
      stub:record { message = "the first" }
      one:wait "return document.querySelectorAll('#log li').length === 1"
      local last = stub.number
      stub:cut()
      assert.matches("^No connection to the program: .*%. Shown is how it was at %d%d:%d%d:%d%d%.$", notice "No connection")
      assert.is_true(is_stale())
      assert.matches("^no connection$", one:wait "return document.getElementById('link-text').textContent.match(/^no connection$/)?.[0]")
      assert_stands_still()
      stub.asked = {}
      stub:heal()
      one:press "r"
      one:wait "return !document.querySelector('.notice') && !document.body.hasAttribute('data-stale')"
      assert.equal("/events", stub.asked[#stub.asked].path)
      assert.equal(tostring(last), stub.asked[#stub.asked].headers["last-event-id"])
      stub:record { message = "the second" }
      one:wait "return document.querySelectorAll('#log li').length === 2"
    end)
  end)

  it("finds out that the program has stopped, though its connections are open", function()
    page(function()
      stub.is_mute = true
      assert.matches("^No connection to the program: nothing came for 5 s%. Shown is", notice "No connection")
      assert.is_true(is_stale())
      assert_stands_still()
      stub.is_mute = false
      until_true(function()
        one:press "r" -- what was asked meanwhile is never answered
        return not is_stale()
      end)
      assert.is_nil(one:text ".notice")
    end)
  end)

  it("does not take a stream for a picture: where only other events come it says that, and since when", function()
    page(function()
      one:run "const now = Date.now; Date.now = () => now() + 3600000" -- as after a computer slept
      until_true(function()
        stub:record { message = "still here" }
        return is_stale()
      end)
      assert.matches("^The program answers, but tells nothing new%. Shown is how it was at %d%d:%d%d:%d%d%.$", notice "The program answers")
      assert.matches("^That was 1 h.* ago%.$", one:text ".notice .age")
      assert.same({ "nothing new", "5.0 s" }, { one:text "#link-text", one:text(SINCE) })
      stub:show { pools = { monitor_stub.pool { backends = BACKENDS } } }
      one:wait "return !document.querySelector('.notice') && !document.body.hasAttribute('data-stale')"
      assert.equal("live", one:text "#link-text")
    end)
  end)

  it("counts on from when a snapshot came, and not from when it was drawn last", function()
    page(function()
      until_true(function()
        stub:record { message = "drawn anew" }
        return (tonumber((one:text(SINCE):match "^([%d.]+) s$")) or 0) >= 6
      end)
    end)
  end)

  it("says so while it is paused", function()
    page(function()
      one:press "p"
      assert.matches("^The page is paused%. Shown is how it was at %d%d:%d%d:%d%d%.$", notice "The page is paused")
      assert.is_false(is_stale()) -- there is a connection
      assert.is_nil(one:text ".notice button")
      stub:show { pools = { monitor_stub.pool { state = "failed", backends = { BACKENDS[1] } } } }
      until_older_than(2)
      assert.same({ "running", "5.0 s" }, { one:text "#pool-state", one:text(SINCE) })
      one:press "p"
      one:wait "return !document.querySelector('.notice') && document.getElementById('pool-state').textContent === 'failed'"
    end)
  end)
end)
