--- Consoles in another worker of the same server. Which worker takes a connection is for the kernel to choose. So the worker that took it
-- passes on what is said, through memory that all workers share, and the wanted one answers.
--
-- The happy path: the one that took the connection leaves a call for the wanted one, which looks for calls twice a second and begins a
-- session. What is said lies in the memory in numbered pieces, some of each direction at a time; the other side takes them away.
-- What can go wrong: the wanted worker computes, or is gone: the call is taken back after 5 s. A worker dies in a session: its process is
-- asked for each second, and the other side ends. What nobody took away ends by itself; of a session that both sides have closed nothing
-- is left.
local json = require "cueball.monitor.json"
local text = require "cueball.text"
local workers = require "cueball.console.workers"

local relay = {}

local LOOK_MS = 500                      -- between two looks for calls
local ANSWER_MS = 5000                   -- for the wanted worker to begin
local PIECE, PIECES = 8192, 8            -- bytes of a piece, and how many lie there at a time
local KEPT_S = 600                       -- a piece that nobody takes away
local BUSY_MS, IDLE_MS, IDLE_AFTER = 10, 50, 100 -- between two looks for a piece; after so many looks it is seldom
local ALIVE_MS = 1000                    -- between two looks whether the other worker lives
local FOREVER_MS = 0x7fffffff

-- ---------------------------------------------------------------------------- streams --

local Stream = {}
Stream.__index = Stream

-- One end of a session's two pipes: a socket for cueball.console.connection.
-- @param others  id of the worker at the other end
local function new_stream(self, id, own, other, others)
  return setmetatable({
    host = self.host, memory = self.memory, others = others, id = id,
    out = ("pipe:%s:%s:"):format(id, own), came = ("pipe:%s:%s:"):format(id, other), sent = 0, received = 0,
    looked_at = self.host.now(), send_ms = ANSWER_MS, read_ms = ANSWER_MS, is_closed = false,
  }, Stream)
end

function Stream:settimeouts(_, send_ms, read_ms)
  self.send_ms, self.read_ms = send_ms, read_ms == 0 and FOREVER_MS or read_ms
end

-- Whether nobody is at the other end any more, or soon at this one.
local function is_over(self)
  if self.is_closed or self.memory:has(self.came .. "over") or self.host.workers.is_exiting() then return true end
  local now = self.host.now()
  if now - self.looked_at < ALIVE_MS * 1e6 then return false end
  self.looked_at = now
  return self.memory.is_alive(self.others) == false
end

-- @return a piece; nil, "closed"; nil, "timeout"
function Stream:receiveany()
  local deadline, looks = self.host.now() + self.read_ms * 1e6, 0
  while true do
    local key = self.came .. self.received + 1
    local piece = self.memory:get(key)
    if type(piece) == "string" then
      self.memory:delete(key)
      self.received = self.received + 1
      return piece
    end
    if is_over(self) then return nil, "closed" end
    if self.host.now() >= deadline then return nil, "timeout" end
    looks = looks + 1
    self.host.sleep(looks < IDLE_AFTER and BUSY_MS or IDLE_MS)
  end
end

-- Waits until there is room, and puts a piece there.
local function put(self, piece)
  local deadline = self.host.now() + self.send_ms * 1e6
  while not is_over(self) do
    local has_room = self.sent < PIECES or not self.memory:has(self.out .. self.sent - PIECES + 1)
    if has_room and self.memory:set(self.out .. self.sent + 1, piece, KEPT_S) then
      self.sent = self.sent + 1
      return true
    end
    if self.host.now() >= deadline then return nil, "timeout" end
    self.host.sleep(BUSY_MS)
  end
  return nil, "closed"
end

function Stream:send(words)
  for from = 1, #words, PIECE do
    local ok, message = put(self, words:sub(from, from + PIECE - 1))
    if not ok then return nil, message end
  end
  return #words
end

-- The other end is closed, or its process gone: it takes nothing away any more, and need not hear that this end is closed.
local function sweep(self)
  for number = self.sent - PIECES + 1, self.sent do self.memory:delete(self.out .. number) end
  self.memory:delete(self.out .. "over")
  self.memory:delete(self.came .. "over")
end

--- What was not taken away yet goes, but for what the other end has to hear. Whoever closes last leaves nothing: both say first that they
-- are closed, and look then.
function Stream:close()
  if self.is_closed then return end
  self.is_closed = true
  self.memory:set(self.out .. "over", true, KEPT_S)
  for number = self.received + 1, self.received + PIECES do self.memory:delete(self.came .. number) end
  if self.memory:has(self.came .. "over") or self.memory.is_alive(self.others) == false then sweep(self) end
end

-- ------------------------------------------------------------------------ the wanted one --

local function call_key(id) return "call:" .. id end

local function is_call(call)
  return type(call) == "table" and type(call.id) == "string" and type(call.from) == "string" and type(call.who) == "string"
    and (call.allow == "read" or call.allow == "write") and type(call.budget_ms) == "number"
    and (call.name == nil or type(call.name) == "string")
    and (call.connections_max == nil or type(call.connections_max) == "number") -- a worker of an older version says none
end

local serving = 0 -- sessions that came by way of other workers

local function serve(self, call)
  local console = workers.console -- loaded when one is wanted
  local stream = new_stream(self, call.id, "back", "there", call.from)
  local host = self.host
  local has_ended = false
  function stream.abort() -- as host.guard has it
    if has_ended then return end
    has_ended, serving = true, serving - 1
    stream:close()
  end
  serving = serving + 1
  host.guard(stream)
  local set = console.settings.of("cueball.console.serve", { allow = call.allow, budget_ms = call.budget_ms, name = call.name }, host)
  set.beside, set.is_full = host.spawn, serving > (call.connections_max or console.settings.CONNECTIONS_MAX)
  console.connection.serve(stream, { address = call.who }, set)
  host.unguard(stream)
  stream:abort()
end

-- Begins the session that somebody wants of this worker.
local function take_call(self)
  local key = call_key(self.memory.id)
  local found = self.memory:get(key)
  if found == nil then return end
  self.memory:delete(key)
  local call = type(found) == "string" and json.decode(found)
  if not is_call(call) then return self.memory:complain("call:", found) end
  self.host.spawn(serve, self, call)
end

local function run(self)
  while true do
    workers.tend(self)
    take_call(self)
    self.host.sleep(LOOK_MS)
    take_call(self)
    self.host.sleep(LOOK_MS)
  end
end

local is_running = false

--- From now on this worker can be had through others. Calling it again is harmless.
-- @return it; nil, message: no memory is shared
function relay.follow(host)
  local self, message = workers.follow(host)
  if not self then return nil, message end
  if not is_running then
    is_running = true
    host.service(run, self)
  end
  return self
end

-- ---------------------------------------------------------------------- the one that took it --

local function names_of(list)
  local names = {}
  for index, one in ipairs(list) do names[index] = ("%s (pid %d)"):format(one.worker or "none", one.pid) end
  return table.concat(names, ", ")
end

local sessions = 0

-- Leaves a call, and waits until it is answered.
-- @return the stream; or nil, message
local function call(self, wanted, given)
  local memory, host = self.memory, self.host
  sessions = sessions + 1
  given.id, given.from = ("%s.%d"):format(memory.id, sessions), memory.id
  local key, deadline = call_key(wanted.member.id), host.now() + ANSWER_MS * 1e6
  local stream = new_stream(self, given.id, "there", "back", wanted.member.id)
  stream.sent = 1
  if not memory:set(stream.out .. 1, given.first, KEPT_S) then return nil, "the shared dict \"cueball\" is full" end
  given.first = nil
  local words, has_called = json.encode(given), false
  while host.now() < deadline and not memory:has(stream.came .. 1) and memory.is_alive(wanted.member.id) ~= false do
    has_called = has_called or memory:add(key, words, ANSWER_MS / 1000 + 1) -- others may call it as well
    host.sleep(BUSY_MS)
  end
  if memory:has(stream.came .. 1) then return stream end
  local is_taken = has_called and memory:get(key) ~= words
  if has_called and not is_taken then memory:delete(key) end
  stream:close()
  if not is_taken then sweep(stream) end -- nobody comes who would have to hear that it is closed
  return nil, ("worker %d (pid %d) did not answer within %d s: it computes, or is ending"):format(wanted.worker, wanted.pid,
    ANSWER_MS / 1000)
end

--- A session in another worker.
-- @param number of the worker
-- @param given  { who = text, allow =, budget_ms =, name =, connections_max =, first = what that one is to hear first }
-- @return a stream; or nil, message
function relay.reach(host, number, given)
  local self, message = relay.follow(host)
  if not self then return nil, ("only the worker that takes a connection can be had: %s"):format(text.message(message)) end
  local list = workers.list(host)
  for _, one in ipairs(list) do
    if one.worker == number and not one.here then return call(self, one, given) end
  end
  return nil, ("there is no worker %d with a pool or a console; there are %s"):format(number, names_of(list))
end

return relay
