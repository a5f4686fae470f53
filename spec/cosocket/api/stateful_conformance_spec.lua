--- Dictionaries, semaphores, threads and timers of ngx_lua's API, on a real nginx and here: the same program, with the same random
-- operations, hears the same.
local conformance = require "spec.support.conformance"
local host = require "cueball.host.uv"
local library = require "cueball.cosocket.library"
local nginx = require "spec.support.nginx"

-- Runs in both: run(api, semaphore, seed) → lines.
local PROGRAM = conformance.HEAD .. [==[
function text(value)
  if type(value) == "table" and #value == 0 or type(value) == "userdata" then return "object" end
  if type(value) == "table" then
    if type(value[1]) == "userdata" then return "object" end
    local copy = {}
    for index, one in ipairs(value) do copy[index] = text(one) end
    table.sort(copy)
    return "{" .. table.concat(copy, ",") .. "}"
  end
  if type(value) == "thread" or type(value) == "function" then return type(value) end
  return tostring(value)
end

local KEYS, VALUES = { "a", "b", "c", 3, "list" }, { 1, 2.5, "text", "7", true, false, "" }

local function dictionary(dict)
  local what, key = random(16), one_of(KEYS)
  local function call(name, ...) note(name, dict[name], dict, ...) end
  if what == 0 then call("set", key, one_of(VALUES), 0, random(3))
  elseif what == 1 then call("safe_set", key, one_of(VALUES))
  elseif what == 2 then call("add", key, one_of(VALUES))
  elseif what == 3 then call("safe_add", key, one_of(VALUES))
  elseif what == 4 then call("replace", key, one_of(VALUES))
  elseif what == 5 then call("delete", key)
  elseif what == 6 then call("incr", key, 1)
  elseif what == 7 then call("incr", key, 2, 10)
  elseif what == 8 then call("lpush", key, one_of { 1, "x", "long text" })
  elseif what == 9 then call("rpush", key, one_of { 1, "x", "long text" })
  elseif what == 10 then call("lpop", key)
  elseif what == 11 then call("rpop", key)
  elseif what == 12 then call("llen", key)
  elseif what == 13 then call("get_keys", 0)
  elseif what == 14 and random(20) == 0 then call "flush_all"
  else call("get", key) end
end

local function oddities(dict)
  local function call(name, ...) note(name, dict[name], dict, ...) end
  for _, key in ipairs { "", ("k"):rep(65536) } do
    for _, name in ipairs { "get", "set", "incr", "ttl", "get_stale" } do note(name, dict[name], dict, key, 1) end
  end
  call("get", nil)
  call("set", nil, 1)
  call("set", "k", print)
  call("set", "k", 1, -1)
  call("incr", "k", 1, "x")
  call("incr", "k", 1, nil, 1)
  call("set", "k", 1)
  call("ttl", "k")
  call("ttl", "none")
  call("expire", "none", 1)
  call("expire", "k", 100)
  call("get_stale", "k")
  call("lpush", "new list", true)
  call("lpush", "new list", nil)
end

local function semaphores(api, semaphore)
  local one = semaphore.new(1)
  note("count", one.count, one)
  note("wait", one.wait, one, 0)
  note("wait", one.wait, one, 0)
  note("wait", one.wait, one, 0.01)
  local seen = {}
  for number = 1, 3 do
    api.thread.spawn(function() seen[#seen + 1] = number .. tostring(one:wait(5)) end)
  end
  note("count", one.count, one)
  note("post", one.post, one, 2)
  api.sleep(0.02)
  lines[#lines + 1] = table.concat(seen, " ")
  note("post", one.post, one, 3)
  api.sleep(0.02)
  lines[#lines + 1] = table.concat(seen, " ")
  note("count", one.count, one)
  note("post", one.post, one, 0)
  note("new", semaphore.new, -1)
  note("post", one.post, {}, 1)
end

local function threads(api)
  local function after(seconds, ...)
    local values = { ... }
    return api.thread.spawn(function()
      if seconds then api.sleep(seconds) end
      return unpack(values)
    end)
  end
  note("wait", api.thread.wait, after(nil, 1, 2))
  note("wait", api.thread.wait, after(0.01, 1, nil, 3))
  local slow, fast = after(0.3, "slow"), after(0.01, "fast")
  note("wait", api.thread.wait, slow, fast)
  note("wait", api.thread.wait, fast)
  note("wait", api.thread.wait, slow)
  local killed = after(10)
  note("kill", api.thread.kill, killed)
  note("kill", api.thread.kill, killed)
  note("wait", api.thread.wait, killed)
  local over = after(nil, 1)
  note("kill", api.thread.kill, over)
  api.ctx.mark = "mine"
  note("ctx", function() return api.ctx.mark, (select(2, api.thread.wait(api.thread.spawn(function() return api.ctx.mark end)))) end)
end

local function timers(api)
  local seen = {}
  local function timer(premature, word) seen[#seen + 1] = tostring(premature) .. " " .. word .. " " .. tostring(api.ctx.mark) end
  note("at", api.timer.at, 0, timer, "soon")
  lines[#lines + 1] = "at once: " .. #seen
  note("at", api.timer.at, 0.05, timer, "later")
  note("every", api.timer.every, 0, timer)
  note("at", api.timer.at, -1, timer, "past")
  api.sleep(0.2)
  lines[#lines + 1] = table.concat(seen, ", ")
  note("count", api.timer.pending_count)
end

return function(api, semaphore, seed)
  state = seed
  for _ = 1, 3000 do dictionary(api.shared.words) end
  oddities(api.shared.others)
  semaphores(api, semaphore)
  threads(api)
  timers(api)
  return lines
end
]==]

local define = nginx.is_there() and it or pending

define("what of `ngx` has a state behaves as nginx's", function()
  local seed = conformance.seed()
  local said = conformance.said(PROGRAM, ([[ngx, require "ngx.semaphore", %d]]):format(seed),
    "lua_shared_dict words 4m; lua_shared_dict others 4m;")
  local api = select(3, library.load(host, "resty.core"))
  conformance.compare(seed, said, host.run(loadstring(PROGRAM, "=program.lua")(), api, (library.load(host, "ngx.semaphore")), seed))
end)
