--- cueball top: the pools of a running program, in a terminal.
--
-- The happy path: one task asks for the state again and again, another listens to events, keys come from the terminal, and after each of
-- these the screen is drawn. What can go wrong: the program does not answer, which stands on the screen while it is tried again; this one
-- ends in the middle, and the terminal is what it was before (cueball.cli.terminal).
local output = require "cueball.cli.output"
local read = require "cueball.cli.read"
local said = require("cueball.text").format
local status = require "cueball.cli.status"
local text = require "cueball.text"

local top = {}

local DEFAULT_ADDRESS = "127.0.0.1:9190"
local TIMEOUT_MS = 5000
local RETRY_S, RETRY_S_MAX = 1, 10
local QUIET_MS = 60000           -- an event stream on which nothing comes for so long is opened again
local EVENTS_RETRY_MS = 5000
local CLOCK_MS = 1000            -- what counts down on the screen
local NOT_THERE = ": no pools are shown there; give the path of the monitor's location, as in http://HOST:PORT/pools/"

top.help = [[
Usage: cueball top [OPTION...] [ADDRESS]

Shows the pools of a running program in a terminal: four signals for each pool,
and a row for each backend with its state, its connections and why it is so.
The program calls cueball.monitor.serve, or cueball.console.listen. ADDRESS is
HOST:PORT, https://HOST:PORT/ (with TLS) or unix:/PATH [127.0.0.1:9190]; for
nginx with the path of its location, http://HOST:PORT/pools/.

Options:
  -i, --interval TIME      How often to ask: 500ms, 2s [1s]
  -s, --sort COLUMN        Sort backends by state, current, busy, latency,
                           errors, since or backend
  -f, --filter TEXT        Only rows that have this text
      --pool NAME          Only this pool
      --once               Print it once, without the screen; so it does where
                           standard output is no terminal
      --token-file FILE    The token that the program wants is in this file; or
                           it is in CUEBALL_TOKEN
      --ca-file FILE       With https: who may have signed the certificate, as
                           PEM [whom the system trusts]
      --color WHEN         auto, always or never [auto]
  -h, --help               Print this

Keys: ? help, q quit, 1 to 4 lists, s sort, / filter, Space hold.

Exit status: 0 quit, or printed; 1 the program does not answer as it should;
2 wrong usage; 3 it did not answer in time; 4 something is missing or broken
here; 129 the terminal went; 130 interrupted; 143 terminated.
]]

function top.define(parser)
  parser:argument "address":args "?"
  parser:option "-i --interval":default "1s"
  parser:option "-s --sort"
  parser:option "-f --filter"
  parser:option "--pool"
  parser:flag "--once"
  parser:option "--token-file"
  parser:option "--ca-file"
  parser:option "--color":choices { "auto", "always", "never" }:default "auto"
end

-- ---------------------------------------------------------------------------- options --

-- The number of a way of sorting.
local function sort_of(name)
  local names = {}
  for number, sort in ipairs(require("cueball.cli.screen.model").SORTS.backends) do
    if sort.name == name then return number end
    if number > 1 then names[#names + 1] = sort.name end
  end
  return nil, said("option '-s/--sort' must be one of %s, not %q", table.concat(names, ", "), name)
end

-- Whether the terminal takes UTF-8: as the C library decides it.
local function is_utf8(system)
  for _, name in ipairs(top.LOCALES) do
    local value = system.environment(name)
    if value and value ~= "" then return value:lower():find "utf%-?8" ~= nil end
  end
  return false
end
top.LOCALES = { "LC_ALL", "LC_CTYPE", "LANG" }

-- Everything that was asked for; or nil, message.
local function asked_of(given, system)
  local asked, message = {}
  asked.interval_ms, message = read.time(given.interval)
  if not asked.interval_ms then return nil, said("option '-i/--interval' %s, not %q", message, given.interval) end
  if asked.interval_ms < 100 then return nil, "option '-i/--interval' must be 100ms at least" end
  asked.at, message = require("cueball.cli.source").at(given.address or DEFAULT_ADDRESS)
  if not asked.at then return nil, message end
  if given.sort then
    asked.sort, message = sort_of(given.sort)
    if not asked.sort then return nil, message end
  end
  asked.token, message = read.token(given.token_file, system.environment "CUEBALL_TOKEN")
  if message then return nil, message end
  if given.ca_file and not asked.at.is_tls then return nil, "option '--ca-file' is for an ADDRESS with https://" end
  asked.filter, asked.pool, asked.ca_file = text.clean(given.filter or ""), given.pool, given.ca_file
  return asked
end

-- ----------------------------------------------------------------------------- asking --

-- @return the snapshot; or nil, message, name
local function ask(host, asked)
  local source = require "cueball.cli.source"
  local code, body = source.get(host, asked.at, "snapshot", {
    timeout_ms = TIMEOUT_MS, token = asked.token, ca_file = asked.ca_file,
  })
  if not code then return nil, body, body:find "timeout" and "timeout" or "failed" end
  local value = require "cueball.cli.screen.received".decode(body)
  if code == 401 or code == 403 then
    return nil, ("it wants %s token (%d); see --token-file"):format(asked.token and "another" or "a", code), "failed"
  end
  if code ~= 200 then
    local why = type(value) == "table" and type(value.error) == "string" and ": " .. text.message(value.error) or ""
    if code == 404 and why == "" then why = NOT_THERE end
    return nil, ("it answers %d%s"):format(code, why), "failed"
  end
  if type(value) ~= "table" or type(value.pools) ~= "table" then return nil, "its answer is no snapshot of pools", "failed" end
  return value
end

local function new_state(asked)
  local model = require "cueball.cli.screen.model"
  local state = model.new { address = asked.at.name }
  state.filter, state.pool, state.sorts.backends = asked.filter, asked.pool, asked.sort
  return state, model
end

-- Once, to whatever standard output is.
local function print_once(host, system, asked, look)
  local out = output.new(system, {})
  local state, model = new_state(asked)
  local value, message, name = ask(host, asked)
  if not value then
    out:complain(("%s: %s"):format(asked.at.name, message))
    return name == "timeout" and status.timeout or status.failed
  end
  model.snapshot(state, value, system.time())
  local line, lines = require "cueball.cli.screen.line", {}
  for index, pieces in ipairs(require("cueball.cli.screen.draw").once(state)) do
    lines[index] = line.render(pieces, look):gsub(" +$", "")
  end
  return out:status_of(out:put(table.concat(lines, "\n") .. "\n"))
end

-- ------------------------------------------------------------------------- the screen --

local Screen = {}
Screen.__index = Screen

function Screen:draw()
  local columns, rows = self.terminal:size()
  local lines, room = self.lines_of(self.state, columns, rows, self.system.time())
  self.room = room
  local bytes = self.painter:frame(lines, columns, rows)
  if bytes == "" then return end
  self.system.stdout:write(bytes)
  self.system.stdout:flush()
end

-- Asks again and again; less often while nobody answers.
function Screen:poll()
  local retry_s = RETRY_S
  while true do
    local value, message = ask(self.host, self.asked)
    if value and self.model.snapshot(self.state, value, self.system.time()) then
      retry_s = RETRY_S
      self:draw()
      self.host.sleep(self.asked.interval_ms)
    else
      self.model.lost(self.state, message or "its answer is no snapshot of pools", self.system.time(), retry_s)
      self:draw()
      self.host.sleep(retry_s * 1000)
      retry_s = math.min(retry_s * 2, RETRY_S_MAX)
    end
  end
end

-- Listens to events, as long as there are any to be had.
function Screen:listen()
  local source, decode = require "cueball.cli.source", require "cueball.cli.screen.received".decode
  local options = { timeout_ms = TIMEOUT_MS, quiet_ms = QUIET_MS, token = self.asked.token, ca_file = self.asked.ca_file }
  while true do
    local _, message, code = source.follow(self.host, self.asked.at, "events", options, function(name, data, id)
      options.last_id = id or options.last_id
      if name ~= "record" then return end
      self.model.event(self.state, decode(data))
      if self.state.screen == "events" then self:draw() end
    end)
    if code and code ~= 200 then self.state.events_problem = "events cannot be had: " .. message end
    self.host.sleep(EVENTS_RETRY_MS)
  end
end

function Screen:press(key)
  local wish = self.model.key(self.state, key, self.room)
  if wish == "quit" then return self.done:wake(status.found) end
  if wish == "interrupt" then return self.done:wake(status.interrupted) end
  if wish == "redraw" then self.painter:forget() end
  self:draw()
end

-- Something was typed; or the terminal is gone.
function Screen:typed()
  local bytes = self.terminal:read()
  if not bytes then
    self.terminal:listen(false)
    return self.done:wake(status.terminated)
  end
  for _, key in ipairs(self.keys:feed(bytes)) do self:press(key) end
end

local NEWS = {
  interrupted = function(self) self:press "ctrl-c" end,
  resized = Screen.draw,
  continued = function(self) self:press "ctrl-l" end, -- others have written to the terminal
}

-- Everything at once, until somebody quits.
-- @return the exit status
local function show(host, self)
  self.done = host.waiter()
  local tasks = {}
  local function guarded(method)
    tasks[#tasks + 1] = host.spawn(function()
      local ok, message = xpcall(method, text.traced, self)
      if not ok then self.failure = message self.done:wake(status.broken) end
    end)
  end
  self.terminal:watch(host, { keys = function() self:typed() end, news = function(what) NEWS[what](self) end })
  self.terminal:raw(true)
  self:draw()
  guarded(self.poll)
  guarded(self.listen)
  guarded(function()
    while true do
      host.sleep(CLOCK_MS)
      if self.state.lost then self:draw() end
    end
  end)
  local code = self.done:wait()
  for _, task in ipairs(tasks) do host.kill(task) end
  return code
end

-- The screen, and the terminal as it was afterwards, whatever happens.
local function run_screen(host, system, asked, look, terminal)
  local painter = require "cueball.cli.screen.painter"
  local state, model = new_state(asked)
  local self = setmetatable({
    host = host, system = system, asked = asked, terminal = terminal, state = state, model = model, room = 1,
    painter = painter.new(look), keys = require("cueball.cli.screen.keys").new(), lines_of = require("cueball.cli.screen.draw").lines,
    failure = nil, done = nil,
  }, Screen)
  terminal:sequences(painter.ENTER, painter.LEAVE)
  local logged = host.log
  host.log = function(_, message) self.model.event(state, { time_s = system.time(), level = "warn", message = "top: " .. message }) end
  local ok, code = xpcall(show, text.traced, host, self)
  host.log = logged
  terminal:close()
  if not ok then error(code, 0) end
  if self.failure then error(self.failure, 0) end
  return code
end

--- Runs the command.
-- @return the exit status; or nil, message: it was called wrongly
function top.run(given, system)
  local asked, message = asked_of(given, system)
  if not asked then return nil, message end
  local host = system.host()
  local out = output.new(system, { color = given.color })
  local look = { has_color = out.is_colored, is_ascii = not is_utf8(system) }
  local is_once = given.once or system.environment "TERM" == "dumb" or not system.is_terminal(system.stdout)
  local terminal
  if not is_once then terminal, message = require("cueball.cli.terminal").open() end
  if not is_once and not terminal then
    out:complain(message .. ": printed once")
    is_once = true
  end
  if is_once then
    if not system.is_terminal(system.stdout) then look.is_ascii = false end
    look.is_plain = not look.has_color and not (system.is_terminal(system.stdout) and system.environment "TERM" ~= "dumb")
    return host.run(print_once, host, system, asked, look)
  end
  return host.run(run_screen, host, system, asked, look, terminal)
end

return top
