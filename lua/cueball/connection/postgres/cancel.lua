--- Cancels what a connection has under way: another connection to the same server, which asks for it and waits until the server closes it.
--
-- That the server has closed it proves that the cancel is over, so that it cannot hit a later query of the same connection. Without that
-- proof the connection may not be used again.
--
-- libpq 17 and later do this without blocking. PQcancel of earlier ones blocks, without a time limit: in a thread, it would hold up the
-- end of the process for as long as a server hangs. So the request (protocol, 55.2.8) is sent over a socket of the host's; the server's key
-- for it is read from what PQtrace writes while connecting, in the form that its documentation says.
local ffi = require "ffi"
local bit = require "bit"
local log = require "cueball.log"
local trimmed_end = require("cueball.text").trimmed_end

local cancel = {}

local AT_ONCE_MAX = 8       -- cancels of a process; others wait for their turn
local REQUEST_CODE = 80877102

-- ---------------------------------------------------------------------- key --

--- Has libpq write down what the server says, from now on.
-- @return what cancel.key takes; nil where that is not needed, or there is no memory
function cancel.listen(pq, pg)
  if pq.has_cancel then return nil end
  local ear = { text = ffi.new "char *[1]", size = ffi.new "size_t[1]" }
  ear.file = ffi.C.cueball_pq_open_memstream(ear.text, ear.size)
  if ear.file == nil then return nil end
  pq.PQtrace(pg, ear.file)
  pq.PQsetTraceFlags(pg, 1)
  return ear
end

--- Ends that. It wipes what was written: passwords may be in it.
-- @return { pid =, key = }, as the server said last; nil: it did not
function cancel.key(pq, pg, ear)
  if not ear then return nil end
  pq.PQuntrace(pg)
  ffi.C.cueball_pq_fclose(ear.file)
  local text = ffi.string(ear.text[0], ear.size[0])
  ffi.fill(ear.text[0], ear.size[0])
  ffi.C.cueball_pq_free(ear.text[0])
  local found
  for pid, key in text:gmatch "BackendKeyData\t *(%-?%d+) (%-?%d+)\n" do found = { pid = tonumber(pid), key = tonumber(key) } end
  return found
end

-- -------------------------------------------------------------------- turns --

local turns = setmetatable({}, { __mode = "k" }) -- by host: how many are under way, and who waits

-- @return true; false: not in time
local function take_turn(host, limit_ms)
  local all = turns[host] or { count = 0, first = 1, last = 0 }
  turns[host] = all
  if all.count < AT_ONCE_MAX then
    all.count = all.count + 1
    return true
  end
  local mine = { waiter = host.waiter(), has_turn = false, is_gone = false }
  function mine:abort()
    self.is_gone = true
    if self.has_turn then cancel.leave_turn(host) end
  end
  all.last = all.last + 1
  all[all.last] = mine
  host.guard(mine)
  mine.waiter:wait(limit_ms)
  host.unguard(mine)
  mine.is_gone = not mine.has_turn
  return mine.has_turn
end

-- The turn goes to who has waited longest; one that gave up, or was killed, is passed over.
function cancel.leave_turn(host)
  local all = turns[host]
  while all.first <= all.last do
    local mine = all[all.first]
    all[all.first] = nil
    all.first = all.first + 1
    if not mine.is_gone then
      mine.has_turn = true
      return mine.waiter:wake(true)
    end
  end
  all.first, all.last, all.count = 1, 0, all.count - 1
end

-- ------------------------------------------------------------------ requests --

local function big_endian(number)
  local value = bit.tobit(number)
  return string.char(bit.band(bit.rshift(value, 24), 255), bit.band(bit.rshift(value, 16), 255), bit.band(bit.rshift(value, 8), 255),
    bit.band(value, 255))
end

local function connect(socket, target)
  if target.path then return socket:connect("unix:" .. target.path) end
  return socket:connect(target.address, target.port)
end

-- Over a socket of the host's. → true; or nil, message
local function request(host, target, deadline)
  local socket = host.tcp()
  local function limit() socket:settimeout(math.max(1, (deadline - host.now()) / 1e6)) end
  limit()
  local ok, message = connect(socket, target)
  if ok then
    limit()
    ok, message = socket:send(big_endian(16) .. big_endian(REQUEST_CODE) .. big_endian(target.pid) .. big_endian(target.key))
  end
  if ok then
    limit()
    ok, message = socket:receive "*a"
  end
  socket:close()
  if not ok then return nil, message end
  return true
end

-- As libpq 17 has it. → true; or nil, message
local function request_by_library(host, pq, handle, deadline)
  local state = pq.PQcancelStart(handle) ~= 0 and "w" or "failed"
  while state == "r" or state == "w" do
    local poll, message = host.poll(pq.PQcancelSocket(handle))
    if not poll then return nil, message end
    local ready
    ready, message = poll:wait(state, math.max(0, (deadline - host.now()) / 1e6))
    poll:close() -- the next call may close the socket
    if not ready then return nil, message end
    state = ({ [0] = "failed", [1] = "r", [2] = "w", [3] = "ok" })[pq.PQcancelPoll(handle)]
  end
  if state == "ok" then return true end
  return nil, trimmed_end(ffi.string(pq.PQcancelErrorMessage(handle)))
end

--- What is needed to cancel what a connection does, even once that is closed.
-- @return it; or nil, message
function cancel.target(conn)
  local pq, pg = conn.pq, conn.pg
  if pq.has_cancel then
    local handle = pq.PQcancelCreate(pg)
    if handle == nil then return nil, "out of memory" end
    return { pq = pq, handle = ffi.gc(handle, pq.PQcancelFinish) }
  end
  local key = conn.cancel_key
  if not key then return nil, "the server gave no key to cancel by" end
  local name, port = ffi.string(pq.PQhost(pg)), ffi.string(pq.PQport(pg))
  if name:find "^/" then return { path = ("%s/.s.PGSQL.%s"):format(name, port), pid = key.pid, key = key.key } end
  return { address = ffi.string(pq.PQhostaddr(pg)), port = tonumber(port), pid = key.pid, key = key.key }
end

--- Asks the server to cancel, in a task, and waits until that is over.
-- @return true; or nil, message
function cancel.send(host, target, limit_ms)
  local deadline = host.now() + limit_ms * 1e6
  local has_turn = take_turn(host, limit_ms)
  if not has_turn then return nil, "too many cancels are under way" end
  local resource = { abort = function() cancel.leave_turn(host) end }
  host.guard(resource)
  local ok, message
  if target.handle then
    ok, message = request_by_library(host, target.pq, target.handle, deadline)
  else
    ok, message = request(host, target, deadline)
  end
  host.unguard(resource)
  cancel.leave_turn(host)
  return ok, message
end

--- The same, in a task of its own: for a connection that is closed in the middle of something.
function cancel.send_later(conn)
  local host, limit_ms = conn.host, conn.settings.cancel_ms
  local target = cancel.target(conn)
  if not target then return end
  host.spawn(function()
    local ok, message = cancel.send(host, target, limit_ms)
    if not ok then log.say(host, "debug", "PostgreSQL: a query of a closed connection could not be cancelled: " .. message,
        "cancel_failed") end
  end)
end

return cancel
