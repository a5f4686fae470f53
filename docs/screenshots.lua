-- Makes the pictures of the dashboard in docs/images anew: a browser looks at examples/dashboard.lua for three minutes.
--
--   examples/run docs/screenshots.lua [seconds]     wants: apt install chromium chromium-driver pngquant
--
-- Run it whenever words or looks of the page have changed.
local root = arg[0]:match "^(.*)/docs/[^/]*$" or "."
package.path = root .. "/?.lua;" .. package.path
local cueball = require "cueball"
local uv = require "luv"
local browser = require "spec.support.browser"
local free_port = require("spec.support.port").free
local until_true = require "spec.support.until_true"

local LOOK_S = tonumber(arg[1] or 150) -- how long there are charts when it is photographed
local SECONDS = LOOK_S + 60
local IS_DEAD = [[return document.querySelector('.group[data-condition="dead"]') !== null]]

-- Points at a tile that is leased, so that the line below the slots tells of it.
local CHOOSE = [[
  const tiles = [...document.querySelectorAll(".tiles .tile")];
  const tile = tiles.find((one) => (one.getAttribute("aria-label") || "").includes("leased")) || tiles[0];
  tile.focus();
  tile.dispatchEvent(new Event("pointerover", { bubbles: true }));]]

local function start(port)
  local over = false
  uv.os_setenv("CUEBALL_DASHBOARD_PORT", tostring(port))
  local process = assert(uv.spawn("luajit", { args = { "examples/dashboard.lua", tostring(SECONDS) }, stdio = { nil, nil, 2 }, cwd = root },
    function() over = true end))
  return process, function() return over end
end

local function photograph(one, name, view)
  one:view(view)
  one:run(CHOOSE)
  cueball.sleep(1500)
  one:run(CHOOSE)
  local path = root .. "/docs/images/" .. name .. ".png"
  one:screenshot(path)
  os.execute(("pngquant --force --ext .png 256 '%s'"):format(path))
end

cueball.run(function()
  local port = free_port()
  local program, is_over = start(port)
  local one = browser.start()
  local ok, message = pcall(function()
    cueball.sleep(1000)
    one:view { width = 1280, height = 860 }
    one:open(("http://127.0.0.1:%d/"):format(port))
    cueball.sleep(LOOK_S * 1000)
    one:wait(IS_DEAD)
    photograph(one, "dashboard", { width = 1280, height = 860, scheme = "light" })
    photograph(one, "dashboard-dark", { width = 1280, height = 860, scheme = "dark" })
    photograph(one, "dashboard-narrow", { width = 360, height = 780, scheme = "dark" })
  end)
  one:stop()
  program:kill "sigint"
  until_true(is_over)
  if not ok then error(message, 0) end
end)
