--- A real browser for specs: Debian's Chromium without a window, driven by chromedriver (W3C WebDriver).
--
--   local one = browser.start()                  in a task, as all of the methods
--   one:open "http://127.0.0.1:9190/"
--   one:run("return document.title")             → what the script returns; arguments follow, as arguments[0] …
--   one:wait("return …")                         until the script returns something true: that
--   one:text "#pool-name"                        the text of the first element of that selector
--   one:texts ".name", one:labels ".tile"        those of all, with "|" between; the same of their aria-labels
--   one:press("?", "ArrowRight")                 keys, to whatever has the focus
--   one:type("#filter", "text"), one:click "#pause"
--   one:view { width =, height =, scheme = "dark" | "light" }
--   one:screenshot(path, is_whole)               a PNG of what is seen, or of the whole page
--   one:problems()                               what its console has complained of since it was asked last, one a line
--   one:stop()
local dkjson = require "dkjson"
local uv = require "luv"
local host = require "cueball.host.uv"
local free_port = require("spec.support.port").free
local shell = require "spec.support.shell"
local until_true = require "spec.support.until_true"

local browser = {}

-- As root there is no sandbox, and a container's /dev/shm is small.
local FLAGS = {
  "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
  "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
}

local HEAD = "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"

local EMPTY = setmetatable({}, { __jsontype = "object" })

-- Names of keys, as WebDriver has them.
local KEYS = {
  ArrowLeft = "\238\128\146", ArrowUp = "\238\128\147", ArrowRight = "\238\128\148", ArrowDown = "\238\128\149", Home = "\238\128\145",
  End = "\238\128\144", Escape = "\238\128\140", Enter = "\238\128\135", Tab = "\238\128\132",
}

local Browser = {}
Browser.__index = Browser

-- Sends one request, and reads its answer.
-- @return whether it came; its value, or why not
local function ask(self, method, path, body)
  local socket = host.tcp()
  socket:settimeouts(5000, 30000, 60000)
  local ok, message = socket:connect("127.0.0.1", self.port)
  if not ok then return false, message end
  local text = body and dkjson.encode(body) or ""
  socket:send { HEAD:format(method, path, self.port, #text), text }
  local head = socket:receiveuntil "\r\n\r\n" ()
  local found
  if head then found, message = socket:receive(tonumber(head:lower():match "content%-length: *(%d+)")) end
  socket:close()
  if not found then return false, message or "no answer" end
  return true, dkjson.decode(found).value
end

-- The same, of a session: errors are raised.
function Browser:ask(method, path, body)
  local came, value = ask(self, method, "/session/" .. self.session .. path, body)
  if not came then error("chromedriver: " .. value, 2) end
  if type(value) == "table" and value.error then error("chromedriver: " .. value.error .. ": " .. tostring(value.message), 2) end
  return value
end

local function command(self, name, parameters)
  return self:ask("POST", "/goog/cdp/execute", { cmd = name, params = parameters })
end

function Browser:open(url)
  self:ask("POST", "/url", { url = url })
end

function Browser:run(script, ...)
  local arguments = setmetatable({ ... }, { __jsontype = "array" })
  return self:ask("POST", "/execute/sync", { script = script, args = arguments })
end

function Browser:wait(script, ...)
  local value
  local arguments = { ... }
  until_true(function()
    value = self:run(script, unpack(arguments))
    return value
  end, function() return script .. "\n" .. tostring(self:run "return document.body.innerText.slice(0, 3000)") end)
  return value
end

function Browser:text(selector)
  return self:run("const node = document.querySelector(arguments[0]); return node && node.textContent.trim()", selector)
end

function Browser:texts(selector)
  return self:run("return [...document.querySelectorAll(arguments[0])].map((node) => node.textContent.trim()).join('|')", selector)
end

function Browser:labels(selector)
  return self:run("return [...document.querySelectorAll(arguments[0])].map((node) => node.getAttribute('aria-label')).join('|')", selector)
end

local function element(self, selector)
  local found = self:ask("POST", "/element", { using = "css selector", value = selector })
  return found["element-6066-11e4-a52e-4f735466cecf"]
end

function Browser:click(selector)
  self:ask("POST", "/element/" .. element(self, selector) .. "/click", EMPTY)
end

function Browser:type(selector, text)
  self:ask("POST", "/element/" .. element(self, selector) .. "/value", { text = text })
end

function Browser:press(...)
  local actions = setmetatable({}, { __jsontype = "array" })
  for _, key in ipairs { ... } do
    actions[#actions + 1] = { type = "keyDown", value = KEYS[key] or key }
    actions[#actions + 1] = { type = "keyUp", value = KEYS[key] or key }
  end
  self:ask("POST", "/actions", { actions = { { type = "key", id = "keys", actions = actions } } })
end

--- How a person who cannot see hears of an element: "button: Pause".
function Browser:heard(selector)
  local id = element(self, selector)
  return self:ask("GET", "/element/" .. id .. "/computedrole") .. ": " .. (self:ask("GET", "/element/" .. id .. "/computedlabel") or "")
end

function Browser:view(given)
  local width, height = given.width or 1440, given.height or 900
  command(self, "Emulation.setDeviceMetricsOverride", { width = width, height = height, deviceScaleFactor = 1, mobile = false })
  command(self, "Emulation.setEmulatedMedia", { features = {
    { name = "prefers-color-scheme", value = given.scheme or "light" }, { name = "prefers-reduced-motion", value = "reduce" },
  } })
end

function Browser:screenshot(path, is_whole)
  local shot = command(self, "Page.captureScreenshot", { format = "png", captureBeyondViewport = is_whole or false })
  shell.write(path .. ".base64", shot.data)
  shell.must(("base64 -d %s > %s && rm %s"):format(shell.quote(path .. ".base64"), shell.quote(path), shell.quote(path .. ".base64")))
end

function Browser:problems()
  local lines = {}
  for _, one in ipairs(self:ask("POST", "/se/log", { type = "browser" }) or {}) do
    if one.level == "SEVERE" or one.level == "WARNING" then lines[#lines + 1] = one.message end
  end
  return table.concat(lines, "\n")
end

function Browser:stop()
  if self.session then pcall(self.ask, self, "DELETE", "") end
  self.process:kill "sigterm"
  until_true(function() return self.is_over end)
  shell.must("rm -rf " .. shell.quote(self.folder))
end

local function begin(self)
  until_true(function()
    local came, status = ask(self, "GET", "/status")
    return came and status.ready
  end)
  local flags = { "--user-data-dir=" .. self.folder, unpack(FLAGS) }
  local came, session = ask(self, "POST", "/session", { capabilities = { alwaysMatch = {
    ["goog:loggingPrefs"] = { browser = "ALL" }, ["goog:chromeOptions"] = { args = flags },
  } } })
  assert(came and session.sessionId, came and session.message or session)
  self.session = session.sessionId
  self:view {}
end

--- Starts one; its profile is in a folder that goes with it. Where that fails, nothing is left behind.
function browser.start()
  local self = setmetatable({ port = free_port(), folder = shell.must "mktemp -d" }, Browser)
  local arguments = { "--port=" .. self.port, "--silent" }
  local environment = {} -- without a sanitizer's library, which is for LuaJIT alone
  for name, value in pairs(uv.os_environ()) do
    if name ~= "LD_PRELOAD" then environment[#environment + 1] = name .. "=" .. value end
  end
  local given = { args = arguments, env = environment, stdio = { nil, nil, nil } }
  local process, pid = uv.spawn("chromedriver", given, function() self.is_over = true end)
  assert(process, pid)
  self.process = process
  local ok, message = pcall(begin, self)
  if ok then return self end
  self:stop()
  error(message, 0)
end

return browser
