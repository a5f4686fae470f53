--- What runs in the thread of a runtime for C programs (src/runtime): loads the script, and does what other threads ask for.
--
-- C calls the function that this module is, in a protected call, with a table of what Lua may call (src/runtime/script.c):
--   name, file, text, arguments   of cueball_runtime_options
--   wake_fd                       is readable when there are requests
--   next_request()                → number, kind, first, second, value; or nothing
--   answer(number, result, text)  → whether somebody hears it
--   log(level, line)              nil: lines go to stderr
--   …
--
-- The happy path: the first request is "start"; then the others, until "stop" has been done. What can go wrong: the script, whose message
-- is the answer. Whatever else throws is C's to tell.
local host = require("cueball.host").default()
local log = require "cueball.log"
local monitor = require "cueball.monitor"
local native = require "cueball.native"
local script = require "cueball.runtime.script"
local text = require "cueball.text"
local threads = require "cueball.runtime.threads"
local lib = native.lib

local OK, EINVAL, ENOT_FOUND = lib.CUEBALL_OK, lib.CUEBALL_EINVAL, lib.CUEBALL_ENOT_FOUND
local ESCRIPT, EPOOL_STOPPING = lib.CUEBALL_ESCRIPT, lib.CUEBALL_EPOOL_STOPPING

-- What a request asks for, by kind: function(loaded, first, second, value) → result, text. They may wait.
local SERVE = {}

-- Options as C programs give them: the inside of a table, in which nothing but values can be.
local function read_options(given)
  local chunk, message = load("return ({" .. given .. "\n})", "=options", "t", {})
  if not chunk then return nil, message end
  local hook, mask, count = debug.gethook()
  jit.off(chunk, true) -- compiled code calls no hook
  debug.sethook(function() error("they are computed for too long", 0) end, "", 100000)
  local ok, options = pcall(chunk)
  debug.sethook(hook, mask, count)
  if not ok then return nil, options end
  return options
end

function SERVE.set(loaded, name, given)
  local pool = loaded:pool(name) or loaded:set(name)
  if not pool then return ENOT_FOUND, ("no pool has the name %s"):format(text.show(name)) end
  local options, message = read_options(given)
  if not options then return EINVAL, message end
  if options.name ~= nil then return EINVAL, "option 'name' cannot be changed: threads look the pool up by it" end
  local ok, fault = pcall(pool.set, pool, options)
  if not ok then return EINVAL, (text.of(fault):gsub("^[^\n]-:%d+: ", "")) end
  return OK
end

local queue -- of those that wait for their turn to load the script anew, while it is loaded; else nil

function SERVE.reload(loaded, _, _, is_dry)
  while queue do
    local turn = host.waiter()
    queue[#queue + 1] = turn
    turn:wait()
  end
  queue = {}
  local report, message, name = loaded:reload { dry_run = is_dry ~= 0 }
  local waiting = queue
  queue = nil
  for _, turn in ipairs(waiting) do turn:wake() end
  if report then return OK, tostring(report) end
  return name == "pool_stopping" and EPOOL_STOPPING or ESCRIPT, message
end

function SERVE.metrics() return OK, monitor.openmetrics() end
function SERVE.state() return OK, monitor.json() end

-- Answers one request, in a task.
local function serve(runtime, loaded, number, kind, ...)
  local ok, result, answer = xpcall(SERVE[kind], text.traceback, loaded, ...)
  if not ok then
    log.say(host, "error", ("%s threw: %s"):format(kind, result), "request_threw", { pool = runtime.name, cause = kind })
    result, answer = EINVAL, result
  end
  runtime.answer(number, result, answer)
end

-- Takes requests, until one asks for the end.
-- @return how long leases are waited for
local function take_requests(runtime, loaded)
  local wake = host.poll(runtime.wake_fd)
  while true do
    runtime.wake_clear(runtime.wake_fd)
    local number, kind, first, second, value = runtime.next_request()
    while number do
      if kind == "stop" then
        wake:close()
        return value
      end
      host.spawn(serve, runtime, loaded, number, kind, first, second, value)
      number, kind, first, second, value = runtime.next_request()
    end
    wake:wait "r"
  end
end

-- Requests that come now are all refused, with this answer.
local function refuse_requests(runtime)
  local wake = host.poll(runtime.wake_fd)
  wake:watch(function()
    runtime.wake_clear(runtime.wake_fd)
    local number, kind = runtime.next_request()
    while number do
      if kind ~= "stop" then runtime.answer(number, EPOOL_STOPPING, "the runtime is being stopped") end -- C answers that one
      number, kind = runtime.next_request()
    end
  end)
  return wake
end

-- Waits until threads have given back their connections. Whoever stopped the runtime does not wait for that.
local function linger(runtime)
  local done = host.waiter()
  if threads.when_none_lingers(function() done:wake() end) then return end
  runtime.linger()
  done:wait()
end

local function main(runtime)
  local number, _, _, _, limit_ms = runtime.next_request()
  local loaded, report = script.load {
    file = runtime.file, text = runtime.text, arguments = runtime.arguments, limit_ms = limit_ms, host = host,
  }
  if not loaded then
    runtime.answer(number, ESCRIPT, report)
    return
  end
  local is_heard = runtime.answer(number, OK)
  local drain_ms = is_heard and take_requests(runtime, loaded) or 0
  local wake = refuse_requests(runtime)
  loaded:stop { drain_timeout_ms = drain_ms }
  wake:close()
  linger(runtime)
end

-- A callback of the script's that throws is logged; luv would end the program.
local function guard_callbacks(runtime)
  local setter = host.callback_setter()
  if not setter then return end
  runtime.guard_callbacks(setter, function(message)
    log.say(host, "error", "a callback threw: " .. message, "task_threw", { pool = runtime.name })
  end)
end

return function(runtime)
  if runtime.log then host.log_to(runtime.log) end
  guard_callbacks(runtime)
  host.threaded = threads.on(host, runtime)
  host.run(main, runtime)
end
