--- `:load 200/s 10s`: claims at a rate, and how long they waited.
--
-- Claims come when they are due, whether those before have been answered or not; what a claim waits counts from when it was due. So a pool
-- that stands still for a second shows it in every claim of that second.
local commands = require "cueball.console.commands"
local target = require "cueball.console.target"
local words = require "cueball.console.words"

local span = commands.duration_text

local RATE_MAX, SECONDS_MAX, OUT_MAX = 100000, 3600, 50000

-- @return { rate = per second, ms = how long, hold_ms = of each lease }; or nil, message
local function read(argument)
  local asked = { rate = nil, ms = nil, hold_ms = 0 }
  for _, word in ipairs(words.split(argument)) do
    local rate = word.text:match "^(%d+%.?%d*)/s$"
    local ms, message = nil, nil
    if not rate then ms, message = commands.duration(word.text) end
    if word.name and word.name ~= "hold" then return nil, (":load knows no %s="):format(word.name) end
    if not rate and not ms then return nil, message end
    if rate then
      asked.rate = tonumber(rate)
    elseif word.name then
      asked.hold_ms = ms
    else
      asked.ms = ms
    end
  end
  if not asked.rate or not asked.ms then return nil, ":load wants a rate and a time: :load 200/s 10s hold=5ms" end
  if asked.rate <= 0 or asked.rate > RATE_MAX or asked.ms > SECONDS_MAX * 1000 then
    return nil, (":load takes up to %d/s, for up to %d s"):format(RATE_MAX, SECONDS_MAX)
  end
  return asked
end

-- One claim that was due then.
local function claim(self, due)
  self.out = self.out + 1
  self.host.spawn(function()
    local lease, _, name = self.pool:claim()
    local waited_ms = (self.host.now() - due) / 1e6
    if lease then
      self.waits[#self.waits + 1] = waited_ms
      if self.hold_ms > 0 then self.host.sleep(self.hold_ms) end
      lease:release()
    else
      self.refused[name or "failed"] = (self.refused[name or "failed"] or 0) + 1
    end
    self.out = self.out - 1
    if self.out == 0 and self.waiter then self.waiter:wake() end
  end)
end

local function quantile(sorted, share)
  return sorted[math.max(1, math.ceil(#sorted * share))]
end

-- What came of it, in lines.
local function report(self, took_ms)
  local waits, lines = self.waits, {}
  table.sort(waits)
  lines[1] = ("%d claims in %s, %d were granted"):format(self.begun, span(took_ms), #waits)
  if #waits > 0 then
    lines[2] = ("waits: p50 %s, p90 %s, p99 %s, max %s"):format(span(quantile(waits, 0.5)), span(quantile(waits, 0.9)),
      span(quantile(waits, 0.99)), span(waits[#waits]))
  end
  local names = {}
  for name in pairs(self.refused) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do lines[#lines + 1] = ("refused, %s: %d"):format(name, self.refused[name]) end
  if self.skipped > 0 then lines[#lines + 1] = ("left out, since %d waited already: %d"):format(OUT_MAX, self.skipped) end
  return table.concat(lines, "\n")
end

-- Makes claims when they are due, and waits for the last answer.
local function drive(self, rate, ms)
  local host, began = self.host, self.host.now()
  local count, gap = math.floor(rate * ms / 1000), 1e9 / rate
  for index = 1, count do
    local due = began + (index - 1) * gap
    local early_ms = (due - host.now()) / 1e6
    if early_ms >= 1 then host.sleep(early_ms) end
    self.begun = index
    if self.out < OUT_MAX then claim(self, due) else self.skipped = self.skipped + 1 end
  end
  if self.out > 0 then
    self.waiter = host.waiter()
    self.waiter:wait()
  end
  return (host.now() - began) / 1e6
end

-- The same in a script: claims at that rate, until the last one has its answer.
local LUA = [[
do
  local out = %d
  for _ = 1, %d do
    cueball.spawn(function()
      %s:with(function() cueball.sleep(%.15g) end)
      out = out - 1
    end)
    cueball.sleep(%.15g)
  end
  repeat cueball.sleep(1) until out == 0
end]]

local function lua_of(session, pool, asked)
  local count = math.floor(asked.rate * asked.ms / 1000)
  return LUA:format(count, count, target.expression(session, pool) or "pool", asked.hold_ms, 1000 / asked.rate)
end

return { {
  name = "load", arguments = "[POOL] RATE/s TIME [hold=TIME]", help = "claims at a rate, and tells how long they waited",
  complete = target.names,
  run = function(session, argument)
    local pool, rest = target.split(session, argument)
    if not pool then return nil, rest end
    local asked, message = read(rest)
    if not asked then return nil, message end
    local self = { pool = pool, host = session.host, hold_ms = asked.hold_ms, waits = {}, refused = {}, out = 0, begun = 0, skipped = 0 }
    local took_ms = drive(self, asked.rate, asked.ms)
    session.latest_lua = lua_of(session, pool, asked)
    session:print(report(self, took_ms), "result")
    return true
  end,
  as_lua = function(session) return session.latest_lua end,
} }
