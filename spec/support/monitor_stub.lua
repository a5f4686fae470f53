--- Stands in for the server of cueball.monitor where a real program cannot be made to look so: with 1,000 slots, hostile names, a stream
-- that is cut, another process at the same address.
--
--   local stub = monitor_stub.start()
--   stub.url                           "http://127.0.0.1:…/"
--   stub:show { pools = { … } }        a snapshot, now and from now on, to all that listen
--   stub:record { message = "…" }      an event
--   stub:cut(), stub:heal()            nobody can connect meanwhile
--   stub.token = "…"                   is asked for; stub.no_stream = true: 503; stub.is_mute = true: takes connections, and says nothing
--   stub.answers["/plan"] = table; stub.asked: what came, in order: { path =, query =, headers = }
--   stub:close()
--   monitor_stub.pool { backends = { { key =, state =, slots = "iibc" } } }   → a pool of a snapshot; a letter is a slot's state
local uv = require "luv"
local dashboard = require "cueball.monitor.dashboard"
local free_port = require("spec.support.port").free
local json = require "cueball.monitor.json"

local monitor_stub = {}

local Stub = {}
Stub.__index = Stub

local REASONS = { [200] = "OK", [401] = "Unauthorized", [404] = "Not Found", [503] = "Service Unavailable" }

local function head(status, kind, length)
  local lines = { ("HTTP/1.1 %d %s"):format(status, REASONS[status]), "Content-Type: " .. kind, "Connection: close" }
  for _, header in ipairs(dashboard.headers) do lines[#lines + 1] = header[1] .. ": " .. header[2] end
  if length then lines[#lines + 1] = "Content-Length: " .. length end
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

local function answer(client, status, kind, body)
  client:write(head(status, kind, #body) .. body, function()
    if not client:is_closing() then client:close() end
  end)
end

local function answer_json(client, status, value)
  answer(client, status, "application/json", json.encode(value))
end

local function event(kind, id, value)
  return ("id: %d\nevent: %s\ndata: %s\n\n"):format(id, kind, json.encode(value))
end

local function stream(self, client)
  client:write(head(200, "text/event-stream"))
  self.streams[client] = true
  if self.shown then client:write(event("snapshot", self.number, self.shown)) end
end

local function serve(self, client, request)
  local path, query = request.path, request.query
  local file = dashboard.find(path)
  self.asked[#self.asked + 1] = request
  if self.is_mute then return end
  if file then return answer(client, 200, file.type, file.body) end
  if self.token and request.headers.authorization ~= "Bearer " .. self.token then
    return answer_json(client, 401, { error = "a token is needed", name = "no_token" })
  end
  if path == "/events" and self.no_stream then return answer_json(client, 503, { error = "too many streams" }) end
  if path == "/events" then return stream(self, client) end
  if path == "/snapshot" then return answer_json(client, 200, self.shown) end
  local made = self.answers[path]
  if not made then return answer_json(client, 404, { error = "there is no " .. path, query = query }) end
  return answer_json(client, made.status or 200, made)
end

local function read_request(text)
  local path, query = text:match "^GET ([^ ?]*)%??(%S*) HTTP"
  local headers = {}
  for name, value in text:gmatch "\r\n([%w-]+): ([^\r]*)" do headers[name:lower()] = value end
  return { path = path, query = query, headers = headers }
end

local function accept(self, client)
  local text = ""
  self.clients[client] = true
  client:read_start(function(_, bytes)
    if not bytes then
      self.streams[client], self.clients[client] = nil, nil
      if not client:is_closing() then client:close() end
      return
    end
    text = text .. bytes
    if not text:find("\r\n\r\n", 1, true) then return end
    local request = read_request(text)
    text = ""
    if request.path then serve(self, client, request) end
  end)
end

function Stub:heal()
  self.port = self.port or free_port()
  self.handle = uv.new_tcp()
  assert(self.handle:bind("127.0.0.1", self.port))
  assert(self.handle:listen(64, function()
    local client = uv.new_tcp()
    self.handle:accept(client)
    accept(self, client)
  end))
end

function Stub:cut()
  if not self.handle:is_closing() then self.handle:close() end
  for client in pairs(self.clients) do
    if not client:is_closing() then client:close() end
  end
  self.clients, self.streams = {}, {}
end

function Stub:close()
  self:cut()
  self.pulse:close()
end

local function tell(self, kind, value)
  self.number = self.number + 1
  for client in pairs(self.streams) do
    if not client:is_closing() then client:write(event(kind, self.number, value)) end
  end
end

local function now_s()
  local seconds, microseconds = uv.gettimeofday()
  return seconds + microseconds / 1e6
end

function Stub:show(given)
  local time_s = now_s()
  local process = { pid = 71, role = "program", host = "uv", started_s = self.started_s, age_s = time_s - self.started_s }
  self.shown = { version = "0.1.0", time_s = given.time_s or time_s, process = given.process or process, pools = json.list(given.pools) }
  tell(self, "snapshot", self.shown)
end

function Stub:record(given)
  given.time_s, given.level = given.time_s or now_s(), given.level or "info"
  tell(self, "record", given)
end

function monitor_stub.start()
  local self = setmetatable({ streams = {}, clients = {}, asked = {}, answers = {}, number = 0, started_s = now_s() - 60 }, Stub)
  self:heal()
  -- A page takes a stream for cut in which nothing comes for 5 s: on a busy machine a spec lasts longer.
  self.pulse = uv.new_timer()
  self.pulse:start(1000, 1000, function()
    if self.is_mute then return end
    for client in pairs(self.streams) do
      if not client:is_closing() then client:write ":\n\n" end
    end
  end)
  self.url = ("http://127.0.0.1:%d/"):format(self.port)
  return self
end

-- ---------------------------------------------------------------------- pools --

local STATES = { i = "idle", b = "busy", c = "connecting", p = "backing_off", k = "checking", x = "closing" }

local function add_slots(pool, backend, letters)
  local counts = { idle = 0, busy = 0, connecting = 0 }
  for letter in letters:gmatch "." do
    local slot = #pool.connections + 1
    local state = STATES[letter]
    local one = { slot = slot, backend = backend.key, state = state, since_ms = 1000, uses = 3, age_ms = 60000 }
    if state == "busy" then
      one.lease = 100 + slot
      pool.leases[#pool.leases + 1] = {
        id = one.lease, slot = slot, backend = backend.key, held_ms = 10 * slot, site = "app.lua:" .. slot, task = "task " .. slot,
      }
    end
    pool.connections[slot] = one
    local count = state == "backing_off" and "connecting" or state
    if counts[count] then counts[count] = counts[count] + 1 end
  end
  for name, count in pairs(counts) do backend[name] = count end
  backend.total = #letters
  backend.total_max = math.max(backend.total_max, backend.total)
end

function monitor_stub.pool(given)
  local pool = { name = "db", state = "running", is_paused = false, stats = {}, options = {}, resolver = { is_failing = false } }
  for name, value in pairs(given) do pool[name] = value end
  pool.backends, pool.connections, pool.leases = json.list {}, json.list {}, json.list {}
  pool.waiters = json.list(given.waiters or {})
  for _, one in ipairs(given.backends or {}) do
    local backend = { state = "up", since_ms = 5000, success_rate = 1, latency_ms = 0, total_max = 0, limit = 10 }
    for name, value in pairs(one) do backend[name] = value end
    backend.slots = nil
    add_slots(pool, backend, one.slots or "")
    pool.backends[#pool.backends + 1] = backend
  end
  pool.more = given.more or { connections = 0, leases = 0, waiters = 0 }
  pool.signals = given.signals or { utilisation = 0.5, waiting = #pool.waiters, claim_p99_ms = 12, churn_per_s = 0 }
  return pool
end

return monitor_stub
