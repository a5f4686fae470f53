--- The dashboard of a real program, in a real browser: a backend under load is killed and started again, and the page shows it.
-- What is seen is left in build/dashboard/ as pictures.
local cueball = require "cueball"
local host = require "cueball.host.uv"
local browser = require "spec.support.browser"
local monitor = require "cueball.monitor"
local free_port = require("spec.support.port").free
local servers = require "examples.support.servers"
local shell = require "spec.support.shell"
local until_true = require "spec.support.until_true"

local PICTURES = shell.build .. "/dashboard"
local CLAIMERS = 12

-- A pool over two servers, claimers that go on until they are told, and the page.
local function world(one, fn)
  local all = { servers.start(), servers.start() }
  local pool = cueball.pool {
    name = "orders", resolver = cueball.resolver.static { all[1].address, all[2].address }, connect = cueball.connection.tcp {},
    max_connections = 8, claim_timeout_ms = 5000, claim_sites = true,
    recovery = { default = { timeout_ms = 1000, delay_ms = 50, max_delay_ms = 3000, attempts = 2 } },
  }
  local is_over, answered = false, 0
  for _ = 1, CLAIMERS do
    cueball.spawn(function()
      while not is_over do
        pool:with(function(socket)
          socket:send "x\n"
          if socket:receive "*l" then answered = answered + 1 end
          cueball.sleep(20)
        end)
      end
    end)
  end
  local server = assert(monitor.serve { listen = "127.0.0.1:0" })
  local ok, message = xpcall(fn, debug.traceback, { one = one, pool = pool, servers = all, url = ("http://%s/"):format(server.address),
    answered = function() return answered end })
  is_over = true
  one:open "about:blank"
  server:close()
  pool:stop()
  servers.kill_all()
  if not ok then error(message, 0) end
end

local function picture(one, name, view)
  one:view(view)
  one:wait "return document.querySelectorAll('#slots .tile').length > 0"
  one:screenshot(("%s/%s.png"):format(PICTURES, name), true)
end

-- What stands in the row of a backend, in one of its parts, if it is so.
local ROW = [[
  const row = [...document.querySelectorAll('#backend-rows tr')].find((one) => one.querySelector('th').textContent.includes(arguments[0]));
  const found = row && row.querySelector(arguments[1]).textContent.match(arguments[2]);
  return found && found[0];]]

local LOG = "return [...document.querySelectorAll('#log .what')].some((node) => node.textContent.includes(arguments[0]))"

describe("the dashboard of a real program", function()
  local one

  setup(function()
    shell.must("mkdir -p " .. shell.quote(PICTURES))
    one = host.run(browser.start)
  end)
  teardown(function()
    if one then host.run(one.stop, one) end
  end)

  it("shows a backend that dies under load, why, when it is tried, and that it is back", function()
    host.run(world, one, function(it)
      local key = it.servers[2].address
      one:problems()
      one:view {}
      one:open(it.url)
      one:wait "return document.querySelectorAll('#slots .tile[data-state=busy]').length === 8"
      one:wait(ROW, key, ".badge", "^● up$")
      assert.matches("^4 / %d+ / 8$", one:wait(ROW, key, ".figures", ".+"))
      one:wait "return /dashboard_live_spec.lua:\\d+/.test(document.getElementById('holder-rows').textContent)"
      one:wait "return /dashboard_live_spec.lua:\\d+/.test(document.getElementById('waiter-rows').textContent)"
      one:wait "return /^[1-9].*\\/s claims/.test(document.getElementById('pool-rates').textContent)"
      assert.equal("100 %", one:text ".chart[data-signal=utilisation] .value")

      it.servers[2]:kill()
      one:wait(ROW, key, ".badge", "^✕ dead$")
      assert.equal("connection refused", one:wait(ROW, key, ".reason", "connection refused"))
      assert.matches("^tried again", one:wait(ROW, key, ".next", "^tried again (in \\\\d+ s|now)$"))
      one:wait("return document.querySelector('.group[data-condition=dead]').getAttribute('aria-label').startsWith(arguments[0])", key)
      one:wait(LOG, "backend " .. key .. " is dead after 2 attempts")
      one:wait "return document.querySelectorAll('#slots .tile[data-state=backing_off], #slots .tile[data-state=connecting]').length > 0"
      local before = it.answered()
      one:wait "return document.querySelectorAll('#slots .tile[data-state=busy]').length >= 7" -- the other has its part
      until_true(function() return it.answered() > before end)
      picture(one, "dead-light", { scheme = "light" })
      picture(one, "dead-dark", { scheme = "dark" })
      picture(one, "dead-phone", { width = 360, height = 740, scheme = "dark" })
      one:view {}

      it.servers[2]:restart()
      one:wait(ROW, key, ".badge", "^● up$")
      one:wait(LOG, "backend " .. key .. " is alive again")
      one:wait(ROW, key, ".figures", "^4 / ")
      assert.equal("", one:text "#notices")
      assert.equal("", one:problems())
    end)
  end)

  it("asks the planner, which changes nothing", function()
    host.run(world, one, function(it)
      local key = it.servers[2].address
      one:open(it.url)
      one:wait "return document.querySelectorAll('#slots .tile').length === 8"
      one:click(("#whatif-remove input[value='%s']"):format(key))
      one:click "#whatif button"
      one:wait "return document.querySelector('#whatif-answer table')"
      local rows = { [key .. "40−4"] = true, [it.servers[1].address .. "48+4"] = true }
      for text in one:texts("#whatif-answer tbody tr"):gmatch "[^|]+" do rows[text] = nil end
      assert.is_nil(next(rows))
      assert.matches("^4 connections opened, 4 closed", one:text "#whatif-answer .plan")
      assert.same({ 4, 4 }, { it.pool:backends()[1].total, it.pool:backends()[2].total })
    end)
  end)

  it("says that the program does not answer, and goes on when it does", function()
    host.run(function()
      local pool = cueball.pool {
        name = "idle", resolver = cueball.resolver.static { "127.0.0.1:1" }, connect = cueball.connection.tcp {}, max_connections = 2,
      }
      local address = "127.0.0.1:" .. free_port() -- none that a client is given while nobody has it
      local server = assert(monitor.serve { listen = address })
      one:open(("http://%s/"):format(address))
      one:wait "return document.getElementById('pool-state').textContent === 'failed'"
      assert.matches("The pool has failed: claims are refused. The last error: 127.0.0.1:1: connection refused", one:text "#pool-problem")
      server:close()
      one:wait "return document.querySelector('.notice[data-kind=bad]')"
      assert.matches("Shown is how it was at %d%d:%d%d:%d%d", one:text ".notice .text")
      assert.matches("^That was .* ago%.$", one:text ".notice .age")
      server = assert(monitor.serve { listen = address })
      one:press "r"
      one:wait "return !document.querySelector('.notice[data-kind=bad]')"
      one:open "about:blank"
      server:close()
      pool:stop()
    end)
  end)
end)
