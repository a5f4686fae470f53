--- The page for browsers, in a real one: what it shows of what a program says. The program is a stand-in.
local host = require "cueball.host.uv"
local browser = require "spec.support.browser"
local dashboard = require "cueball.monitor.dashboard"
local monitor_stub = require "spec.support.monitor_stub"
local shell = require "spec.support.shell"
local until_true = require "spec.support.until_true"

local FOLDER = "lua/cueball/monitor/dashboard"

describe("the dashboard's files", function()
  it("are found by their paths, each with its type, and nothing else is", function()
    local page = dashboard.find "/"
    assert.equal("text/html; charset=utf-8", page.type)
    assert.is_truthy(page.body:find("<!doctype html>", 1, true))
    assert.equal("text/javascript; charset=utf-8", dashboard.find("/dashboard/main.js").type)
    assert.is_truthy(page.etag:find '^"%x+%-%x+"$')
    assert.not_equal(page.etag, dashboard.find("/dashboard/style.css").etag)
    assert.is_nil(dashboard.find "/dashboard/init.lua")
    assert.is_nil(dashboard.find "/dashboard/../init.lua")
    assert.is_nil(dashboard.find "")
    local _, message = pcall(function() dashboard.find(nil) end)
    assert.matches("dashboard_spec.lua:%d+: cueball.monitor.dashboard.find: the path must be a string, not a nil", message)
  end)

  it("are all that lie in the folder", function()
    local names = { "init.lua" }
    for _, path in ipairs(dashboard.paths()) do
      assert.is_truthy(dashboard.find(path))
      names[#names + 1] = path == "/" and "page.html" or path:match "[^/]+$"
    end
    table.sort(names)
    assert.equal(shell.must("ls " .. FOLDER .. " | LC_ALL=C sort"), table.concat(names, "\n"))
  end)

  it("ask nothing of other servers, and have no script or style in the page", function()
    for _, path in ipairs(dashboard.paths()) do
      local text = dashboard.find(path).body:gsub("http://www%.w3%.org/2000/svg", "")
      assert.is_nil(text:match "https?://[^\"'%s]+", path)
      assert.is_nil(text:match "url%(", path)
    end
    local page = dashboard.find("/").body
    assert.is_nil(page:match "<style" or page:match "style=" or page:match "%son%a+=" or page:match "<script[^>]*>[^<]")
  end)

  it("make no HTML of texts", function()
    for _, path in ipairs(dashboard.paths()) do
      local text = dashboard.find(path).body
      for word in ("innerHTML outerHTML insertAdjacentHTML document.write DOMParser createContextualFragment srcdoc eval("):gmatch "%S+" do
        assert.is_nil(text:find(word, 1, true), path .. ": " .. word)
      end
    end
  end)

  it("fit into a screen's width and a reader's patience", function()
    for _, path in ipairs(dashboard.paths()) do
      local lines = 0
      for line in dashboard.find(path).body:gmatch "[^\n]*\n" do
        lines = lines + 1
        assert.is_true(#line <= 170, path .. ": " .. line)
      end
      assert.is_true(lines < 500, path)
    end
  end)
end)

local SCHEMES, WIDTHS = { "dark", "light" }, { 360, 768, 1440 }

-- What cannot be read: text whose contrast to what is behind it is less than 4.5 to 1 (WCAG AA).
local CONTRAST = [[
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const over = (colour, below) => {
    canvas.fillStyle = `rgb(${below.join(' ')})`; canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const behind = (node) => over(getComputedStyle(node).backgroundColor, node.parentElement ? behind(node.parentElement) : [255, 255, 255]);
  const light = (rgb) => rgb.map((part) => part / 255).map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const found = [];
  for (const node of document.querySelectorAll('body *')) {
    const has = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!has || !node.checkVisibility() || node.closest('[data-none], svg, dialog')) continue;
    const [a, b] = [light(over(getComputedStyle(node).color, behind(node))), light(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push(`${node.tagName}.${node.className} ${node.textContent.slice(0, 20)}: ${ratio.toFixed(2)}`);
  }
  return found.join(', ');]]

-- What can be used and has no name.
local NAMELESS = [[
  const named = (node) => node.textContent.trim() || node.getAttribute('aria-label') || (node.labels && node.labels.length > 0)
    || node.getAttribute('aria-labelledby');
  return [...document.querySelectorAll('button, input, select, [tabindex="0"]')].filter((node) => !named(node))
    .map((node) => node.outerHTML).join();]]

describe("the dashboard", function()
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

  -- A spec in a task, with the page open and a pool shown. The console has nothing to complain of, but where that is the point.
  local function page(pools, fn, expected)
    host.run(function()
      one:problems()
      one:view {}
      stub:show { pools = pools }
      one:open(stub.url)
      one:wait "return !document.getElementById('pool').hidden || document.querySelector('.token')"
      fn()
      local problems = one:problems()
      if not expected then assert.equal("", problems) end
    end)
  end

  -- What was asked for, but for the page's files.
  local function asked()
    local list = {}
    for _, request in ipairs(stub.asked) do
      if not dashboard.find(request.path) then list[#list + 1] = request.path .. " " .. request.query end
    end
    return table.concat(list, "|")
  end

  -- Shows another pool, and waits for the stream that is opened for it: the stand-in tells nobody what he has missed.
  local function turn_to(name)
    local before = #stub.asked
    one:run("location.hash = new URLSearchParams({ pool: arguments[0] }).toString()", name)
    until_true(function() return #stub.asked > before and stub.asked[#stub.asked].path == "/events" end)
  end

  local THREE = { backends = {
    { key = "10.0.0.1:80", slots = "ibbi" },
    { key = "10.0.0.2:80", slots = "pc", state = "dead", error = "connection refused", reason = "dead: refused", next_attempt_ms = 9000 },
    { key = "10.0.0.10:80", slots = "kx", state = "up" },
  } }

  it("has a tile for each slot, by backend, whose label says its state", function()
    page({ monitor_stub.pool(THREE) }, function()
      assert.equal("10.0.0.1:80, up: 2 idle, 2 leased|10.0.0.2:80, dead: 1 connecting, 1 backing off"
        .. "|10.0.0.10:80, up: 1 checking, 1 closing", one:labels ".group")
      local labels = "slot 1: idle|slot 2: leased|slot 3: leased|slot 4: idle"
        .. "|slot 5: backing off|slot 6: connecting|slot 7: checking|slot 8: closing"
      assert.equal(labels, one:labels "#slots .tile")
      -- The shapes differ, not only the colours.
      assert.equal(6, one:run [[
        const shapes = [...document.querySelectorAll('#legend .tile')].map((node) => {
          const style = getComputedStyle(node, '::before');
          return [style.clipPath, style.borderRadius, style.borderTopWidth].join(' ');
        });
        return new Set(shapes).size]])
      assert.equal("2 idle|2 leased|1 connecting|1 backing off|1 checking|1 closing", one:texts "#legend li")
    end)
  end)

  it("says of a slot who holds it, by pointer and by keys", function()
    page({ monitor_stub.pool(THREE) }, function()
      one:run "document.getElementById('slots').focus()"
      one:press("ArrowRight", "ArrowRight")
      assert.equal("slot 2 of 10.0.0.1:80 · leased for 1.0 s · lease 102 of task 2 · app.lua:2 · open for 1 min · lent 3 times",
        one:text "#slot-line")
      one:press "End"
      assert.is_truthy(one:text("#slot-line"):find("^slot 8 of 10.0.0.10:80 · closing"))
      one:press "Escape"
      assert.is_truthy(one:text("#slot-line"):find "^Point at a slot")
      one:click "#slots .tile"
      assert.is_truthy(one:text("#slot-line"):find "^slot 1 of 10.0.0.1:80 · idle")
    end)
  end)

  it("has a row for each backend: dead ones with the reason and the time until they are tried", function()
    page({ monitor_stub.pool(THREE) }, function()
      local row = "#backend-rows tr[data-condition=dead] "
      assert.equal("10.0.0.1:80|10.0.0.2:80|10.0.0.10:80", one:texts "#backend-rows .name")
      assert.equal("✕ dead", one:text(row .. ".badge"))
      assert.equal("connection refused", one:text(row .. ".reason"))
      assert.equal("4 / 4 / 10", one:text "#backend-rows .figures")
      local first = tonumber(one:text(row .. ".next"):match "^tried again in (%d+) s$")
      assert.is_true(first <= 9)
      one:wait(("return parseInt(document.querySelector('%s.next').textContent.match(/\\d+/)[0]) < %d"):format(row, first))
      one:click "#only-unhealthy"
      assert.equal(1, one:run "return document.querySelectorAll('#backend-rows tr').length")
    end)
  end)

  it("tells backends that go up and down from those that are", function()
    page({ monitor_stub.pool { backends = {
      { key = "a:1", slots = "ic", error = "reset" }, { key = "b:1", slots = "i", state = "dead", error = "refused" },
      { key = "c:1", slots = "cc" }, { key = "e:1", state = "drained" },
      { key = "d:1", slots = "", state = "ejected", reason = "5 leases in a row failed", next_attempt_ms = 30000 },
    } } }, function()
      assert.equal("▼ going down|▲ going up|▲ going up|◆ ejected|■ drained", one:texts "#backend-rows .badge")
      assert.is_truthy(one:text("#backend-rows tr[data-condition=ejected] .why"):find "^5 leases in a row failedback in %d+ s$")
      assert.equal("a connection is open and has to prove itself; before: refused", one:text "#backend-rows tr:nth-child(2) .reason")
    end)
  end)

  it("shows who waits and who holds, the oldest first, and how many more there are", function()
    local pool = monitor_stub.pool { backends = THREE.backends, more = { leases = 7, waiters = 0 },
      waiters = { { number = 5, waited_ms = 61000, remaining_ms = 30000, task = "task 9", site = "app.lua:9", holds = { 102 } } } }
    pool.leases[1].is_overdue = true
    page({ pool }, function()
      assert.is_truthy(one:text("#waiter-rows tr"):find "^1 min 1 s")
      assert.is_truthy(one:text("#waiter-rows tr"):find("task 9 · app.lua:9 (holds lease 102)", 1, true))
      assert.equal("task 3 · app.lua:3|overdue · task 2 · app.lua:2", one:texts "#holder-rows td:nth-child(2) > :first-child")
      assert.equal("… 7 more hold one", one:text "#holders-more")
      assert.equal(1, one:run "return document.querySelectorAll('#slots .tile[data-overdue]').length")
    end)
  end)

  local PLACES = "#pool-name|#backend-rows .name|#backend-rows .reason|#holder-rows tr|#waiter-rows tr|#log .what"
    .. "|#whatif-answer th[scope=row]|.group-name|#pool-problem|#pool-list .name"

  it("shows what anybody chose to call himself as text, whatever it is", function()
    local bad = '<img src=x onerror="window.hurt=1"><script>window.hurt=1</' .. "script>\226\128\174\1"
    local pool = monitor_stub.pool {
      name = bad, last_error = bad, state = "failed", resolver = { is_failing = true, message = bad, since_ms = 1 },
      backends = { { key = bad, name = bad, slots = "bi", state = "dead", error = bad, reason = bad } },
      waiters = { { number = 1, waited_ms = 1, task = bad, site = bad, holds = { bad } } } }
    pool.leases[1].owner, pool.leases[1].site = bad, bad
    page({ pool, monitor_stub.pool { name = "other" } }, function()
      one:wait("return document.getElementById('pool-name').textContent.startsWith('<img')")
      stub:record { message = bad, pool = bad, backend = bad, level = "error" }
      stub.answers["/plan"] = { before = { [bad] = 1 }, after = {}, opens = 0, closes = 1, settle_ms = 1 }
      one:wait "return document.querySelectorAll('#log li').length === 1"
      one:click "#whatif button"
      one:wait "return document.querySelector('#whatif-answer table')"
      assert.equal(0, one:run "return document.querySelectorAll('img, body script, main script').length")
      assert.is_nil(one:run "return window.hurt")
      for selector in PLACES:gmatch "[^|]+" do
        local text = one:text(selector)
        assert.is_truthy(text:find("<img src=x onerror", 1, true), selector)
        assert.is_nil(text:find "\226\128\174" or text:find "\1", selector)
      end
    end)
  end)

  it("notices that another process answers, and does not add up its counts", function()
    page({ monitor_stub.pool { backends = THREE.backends, stats = { claims = 5000 } } }, function()
      stub.started_s = stub.started_s + 58
      stub:show { pools = { monitor_stub.pool { backends = THREE.backends, stats = { claims = 10 } } },
        process = { pid = 72, age_s = 1, started_s = stub.started_s } }
      one:wait "return document.querySelector('.notice[data-kind=new]')"
      assert.is_truthy(one:text(".notice .text"):find "^The process was started anew at .*%(pid 71, now 72%)")
      one:wait "return document.querySelector('.plot .mark').getAttribute('d').startsWith('M')"
      assert.equal("", one:text "#pool-rates")
      one:click ".notice button"
      assert.is_nil(one:text ".notice")
      for number = 0, 1 do
        local process = { pid = 80 + number, role = "worker " .. number, age_s = 1, started_s = 5 }
        stub:show { pools = { monitor_stub.pool(THREE) }, process = process }
        one:wait("return document.querySelector('#process').textContent.includes(arguments[0])", "worker " .. number)
      end
      assert.equal("Another worker answers: worker 1 (pid 80, now 81). What is shown is its own.", one:text ".notice .text")
    end)
  end)

  it("draws the signals over time: their scale, gaps, a value that is pointed at", function()
    local now = os.time()
    local function at(time_s, waiting)
      local signals = { utilisation = 0.5, waiting = waiting, claim_p99_ms = 12, churn_per_s = 0 }
      stub:show { time_s = time_s, pools = { monitor_stub.pool { backends = THREE.backends, signals = signals } } }
    end
    page({ monitor_stub.pool(THREE) }, function()
      for second = 1, 30 do
        if second < 10 or second > 20 then at(now + second, second) end
      end
      local chart = ".chart[data-signal=waiting] "
      one:wait(("return document.querySelector('%s.value').textContent === '30'"):format(chart))
      assert.equal("50", one:text(chart .. ".scale"))
      assert.equal("most 30", one:text(chart .. ".read"))
      local path = one:run(("return document.querySelector('%s.line').getAttribute('d')"):format(chart))
      assert.equal(2, select(2, path:gsub("M", ""))) -- what did not come is no line
      one:run(("document.querySelector('%ssvg').focus()"):format(chart))
      one:press("ArrowLeft", "ArrowLeft")
      assert.matches("^%d%d:%d%d:%d%d: 28$", one:text(chart .. ".read"))
      one:click "#spans button:nth-child(3)"
      assert.equal("true", one:run "return document.querySelector('#spans button:nth-child(3)').getAttribute('aria-pressed')")
    end)
  end)

  it("asks for the token that the program wants, and keeps it for this tab only", function()
    stub.token = "s3cret"
    page({ monitor_stub.pool(THREE) }, function()
      assert.equal("The program wants its token.", one:text ".notice .text")
      one:type(".token input", "wrong")
      one:click ".token button"
      one:wait "return document.querySelector('.token input').value === ''"
      one:type(".token input", "s3cret")
      one:click ".token button"
      one:wait "return !document.getElementById('pool').hidden && !document.querySelector('.notice')"
      assert.equal("", one:run "return document.cookie")
      assert.is_false(one:run "return location.href.includes('s3cret') || Object.values(localStorage).includes('s3cret')")
      one:run "sessionStorage.clear()"
    end, true)
  end)

  it("asks for the details of the pool that is shown, and of no other", function()
    local brief = { name = "cache", state = "running", is_brief = true, stats = { backends = 3, dead_backends = 1 },
      signals = { utilisation = 0.25, waiting = 2, claim_p99_ms = 1, churn_per_s = 0 } }
    page({ monitor_stub.pool(THREE), brief, monitor_stub.pool { name = "a" } }, function()
      assert.equal("a", one:text "#pool-name")
      assert.equal("/snapshot limit=1|/events pool=a", asked())
      assert.equal("25 % leased, 2 wait", one:text "#pool-list li:nth-child(2) .facts")
      assert.equal("1 of 3 backends", one:text "#pool-list li:nth-child(2) .problem")
      stub:record { message = "before" }
      one:wait "return document.querySelectorAll('#log li').length === 1"
      local last = tostring(stub.number)
      one:click "#pool-list li:nth-child(3) button"
      one:wait "return document.getElementById('pool-name').textContent === 'db'"
      one:wait "return document.getElementById('link-text').textContent === 'live'"
      assert.equal("/snapshot limit=1|/events pool=a|/events pool=db", asked())
      assert.equal(last, stub.asked[#stub.asked].headers["last-event-id"])
    end)
  end)

  it("asks for snapshots where there is no stream to be had", function()
    stub.no_stream = true
    page({ monitor_stub.pool(THREE) }, function()
      one:wait "return document.getElementById('link-text').textContent === 'live, without events'"
      assert.equal(8, one:run "return document.querySelectorAll('#slots .tile').length")
      assert.is_truthy(asked():find("/snapshot focus=db", 1, true), asked()) -- the other pools in brief
    end, true)
  end)

  it("filters events by text, level and pool", function()
    page({ monitor_stub.pool(THREE), monitor_stub.pool { name = "cache" } }, function()
      turn_to "db"
      stub:record { message = "10.0.0.2:80 is dead", level = "warn", pool = "db" }
      stub:record { message = "a lease ended", level = "debug", pool = "db" }
      stub:record { message = "opened", pool = "cache" }
      stub:record { message = "opened again", pool = "db", fields = { held_back = 4 } }
      one:wait "return document.querySelectorAll('#log li').length === 2"
      assert.equal("opened again (and 4 alike)|10.0.0.2:80 is dead", one:texts "#log .what")
      one:press "/"
      one:press("d", "e", "a", "d")
      assert.equal("10.0.0.2:80 is dead", one:texts "#log .what")
      one:run "const field = document.getElementById('log-filter'); field.value = ''; field.dispatchEvent(new Event('input'))"
      one:press "Escape"
      one:run "const field = document.getElementById('log-level'); field.value = '0'; field.dispatchEvent(new Event('input'))"
      one:click "#log-all"
      assert.equal("opened again (and 4 alike)|opened|a lease ended|10.0.0.2:80 is dead", one:texts "#log .what")
    end)
  end)

  it("asks the planner what would be, and says what it answers", function()
    stub.answers["/plan"] = { before = { ["10.0.0.1:80"] = 4, ["10.0.0.10:80"] = 2 }, after = { ["10.0.0.10:80"] = 3, ["10.0.0.9:80"] = 3 },
      opens = 4, closes = 4, settle_ms = 1500 }
    page({ monitor_stub.pool(THREE) }, function()
      one:click "#whatif-remove input[value='10.0.0.1:80']"
      one:type("#whatif-add", "10.0.0.9:80, 10.0.0.8:80")
      one:type("#whatif-spares", "3")
      one:click "#whatif button"
      one:wait "return document.querySelector('#whatif-answer table')"
      assert.equal("pool=db&remove=10.0.0.1%3A80&add=10.0.0.9%3A80&add=10.0.0.8%3A80&spares=3", stub.asked[#stub.asked].query)
      assert.equal("4 connections opened, 4 closed, settled after about 1.5 s.", one:text "#whatif-answer .plan")
      assert.equal("10.0.0.1:8040−4|10.0.0.9:8003+3|10.0.0.10:8023+1", one:texts "#whatif-answer tbody tr")
      stub.answers["/plan"] = { status = 404, error = "no pool is called db" }
      one:click "#whatif button"
      one:wait "return document.querySelector('#whatif-answer .problem')"
      assert.equal("no pool is called db", one:text "#whatif-answer .problem")
    end, true)
  end)

  it("draws 1,000 slots as well as one", function()
    local backends = {}
    for number = 1, 20 do backends[number] = { key = "10.0.0." .. number .. ":80", slots = ("ibbik"):rep(10) } end
    page({ monitor_stub.pool { backends = backends } }, function()
      assert.equal(1000, one:run "return document.querySelectorAll('#slots .tile').length")
      assert.equal("many", one:run "return document.getElementById('slots').dataset.density")
      one:run "window.kept = document.querySelectorAll('#slots .tile')[999]"
      for number = 1, 20 do backends[number].slots = ("bibki"):rep(10) end
      stub:show { pools = { monitor_stub.pool { backends = backends } } }
      one:wait "return document.querySelector('#slots .tile').dataset.state === 'busy'"
      assert.is_true(one:run "return window.kept === document.querySelectorAll('#slots .tile')[999]") -- changed, not made anew
      backends[21] = { key = "10.0.0.21:80", slots = "" }
      for number = 2, 20 do backends[number].slots = "" end
      stub:show { pools = { monitor_stub.pool { backends = backends } } }
      one:wait "return document.querySelectorAll('#slots .tile').length === 50"
    end)
  end)

  it("fits a phone, and its colours can be read, dark and light", function()
    local long = ("a-very-long-name-of-a-backend."):rep(8)
    page({ monitor_stub.pool { backends = { THREE.backends[1], THREE.backends[2], { key = long .. ":80", name = long, slots = "ib" } } },
      monitor_stub.pool { name = long } }, function()
      local seen = {}
      for index, scheme in ipairs(SCHEMES) do
        for _, width in ipairs(WIDTHS) do
          one:view { width = width, height = 800, scheme = scheme }
          assert.equal(width, one:run "return document.documentElement.scrollWidth", scheme .. " " .. width)
        end
        seen[index] = one:run "return getComputedStyle(document.body).backgroundColor"
        assert.equal("", one:run(CONTRAST), scheme)
      end
      assert.not_equal(seen[1], seen[2])
      one:view { scheme = "dark" }
      one:click "#theme" -- dark
      one:click "#theme" -- light
      assert.equal(seen[2], one:run "return getComputedStyle(document.body).backgroundColor")
      one:run "localStorage.clear()"
    end)
  end)

  it("is worked by keys, and says what they are", function()
    page({ monitor_stub.pool(THREE), monitor_stub.pool { name = "cache" } }, function()
      assert.equal("cache", one:text "#pool-name")
      one:press "j"
      one:wait "return document.getElementById('pool-name').textContent === 'db'"
      one:press "?"
      assert.is_true(one:run "return document.getElementById('keys').open")
      assert.equal("j|k|s|b|h|w|e|/|p|r|t|?|Esc", one:texts "#keys kbd")
      one:press "Escape"
      assert.is_false(one:run "return document.getElementById('keys').open")
      one:press "s"
      assert.equal("slots", one:run "return document.activeElement.id")
      one:press "p"
      stub:show { pools = { monitor_stub.pool { name = "db", state = "failed" } } }
      stub:record { message = "after that" }
      one:wait "return document.getElementById('pause').textContent === 'Go on'"
      assert.equal("running", one:text "#pool-state")
      one:press "p"
      one:wait "return document.getElementById('pool-state').textContent === 'failed'"
    end)
  end)

  it("can be heard: names for what can be used, tables as tables, what changed said once", function()
    page({ monitor_stub.pool(THREE) }, function()
      assert.equal("", one:run(NAMELESS))
      assert.equal("button: Pause", one:heard "#pause")
      assert.equal("listbox: Slots, grouped by backend", one:heard "#slots")
      assert.equal("option: slot 1: idle", one:heard "#slots .tile")
      assert.equal("group: 10.0.0.1:80, up: 2 idle, 2 leased", one:heard "#slots .group")
      assert.equal("table: Backends 3, 1 unhealthy", one:heard "#section-backends table")
      one:view { width = 360 }
      assert.equal("table: Backends 3, 1 unhealthy", one:heard "#section-backends table") -- though it looks like none
      assert.equal("row", one:heard("#backend-rows tr"):match "^%w+")
      assert.is_truthy(one:heard(".chart svg"):find "^im%a+: Utilisation, last 1 min: now 50 %%, at most 50 %%$")
      local backends = { THREE.backends[1], { key = "10.0.0.2:80", slots = "i" }, THREE.backends[3] }
      stub:show { pools = { monitor_stub.pool { backends = backends } } }
      one:wait "return document.getElementById('live').textContent === 'db: 10.0.0.2:80 is up'"
    end)
  end)
end)
