--- Requests and timers of nginx that claim connections. The core is told of the end of each from C, whatever ended it.
--
-- Lua code does not run when a request is aborted by its client or leaves by ngx.exit, ngx.redirect or ngx.exec, or when its light
-- thread is killed. nginx's own request cleanup does, and it calls C. So each request that claims gets one cleanup, which tells the
-- core that the request's owners have left (cueball_visit_over) and wakes the timer runner, so that whoever waits hears of it at once.
--
-- What is known of a request is found by its address, which nginx gives to another one later. The cleanup raises a flag in the record
-- of its request; a record whose flag is up is used again, with its owners, for the next request at that address. So there are only as
-- many as there were requests at once.
--
-- What can go wrong: nginx runs the cleanups before log_by_lua, and not at all for the make-believe requests of init_worker_by_lua and
-- exit_worker_by_lua. A record made there would never be over. So none is made there, and nothing can be claimed.
local ffi = require "ffi"
local base = require "resty.core.base"
local lib = require("cueball.native").lib
local owned = require "cueball.host.owned"
local get_request, get_phase = base.get_request, ngx.get_phase
local tonumber, cast = tonumber, ffi.cast

-- Declarations outlive the module; it may be loaded again.
if not pcall(ffi.typeof, "cueball_ngx_cleanup") then
  ffi.cdef [[
    typedef struct cueball_ngx_cleanup {
      void (*handler)(void *);
      void *data;
      struct cueball_ngx_cleanup *next;
    } cueball_ngx_cleanup;
    cueball_ngx_cleanup *cueball_ngx_cleanup_add(void *request, size_t size) __asm__("ngx_http_cleanup_add");
    int cueball_ngx_ring(void *semaphore, int count) __asm__("ngx_http_lua_ffi_sema_post");
  ]]
end

local C = ffi.C
local ADDRESS = ffi.typeof "uintptr_t"
local visit_over = ffi.cast("void (*)(void *)", lib.cueball_visit_over)
local ring = ffi.cast("int (*)(void *, int)", C.cueball_ngx_ring)

-- Phases in which a record would outlive its request.
local NO_CLEANUP = { init = true, init_worker = true, exit_worker = true, log = true }

-- Phases in which code may wait, and use sockets.
local CAN_WAIT = {}
for phase in ("rewrite server_rewrite access content timer ssl_cert ssl_session_fetch ssl_client_hello"):gmatch "%S+" do
  CAN_WAIT[phase] = true
end

local request = {
  complain = nil, -- function(message): a line for the log
}

--- Phases in which code may wait, and use sockets: a set.
request.CAN_WAIT = CAN_WAIT

local RECORDS_TO_PRUNE = 1024
local VISITS = 2 ^ 32 - 1 -- how many a record counts before it begins at 1 again
local records = {}   -- by the request's address
local record_count, prune_at = 0, RECORDS_TO_PRUNE
local bell = ffi.new "cueball_doorbell"
local parties, parties_made = {}, 0   -- see request.party; by number

-- nginx writes to visits, and the core to pools that have owners, until the requests end: they stay as long as the Lua state.
local anchors = { records = records, bell = bell, cores = {} }
debug.getregistry()["cueball.nginx.request"] = debug.getregistry()["cueball.nginx.request"] or {}
table.insert(debug.getregistry()["cueball.nginx.request"], anchors)

local function is_over(record)
  return record.visit.is_over ~= 0
end

-- ------------------------------------------------------------------ the end --

--- The timer runner waits for this semaphore, of ngx.semaphore; nil: no runner runs. C posts it when something that a request had is to
-- end.
function request.ring(semaphore)
  bell.ring, bell.user = semaphore and ring or nil, semaphore and semaphore.sem or nil
end

-- Tells the pools of requests that ended.
local function tell_pools()
  local visitor = bell.ended
  if visitor == nil then return end
  bell.ended = nil
  while visitor ~= nil do
    local following = visitor.next_ended
    visitor.next_ended, visitor.has_ended = nil, 0
    local party = parties[visitor.pool]
    if party then party.ended() end
    visitor = following
  end
end

-- ------------------------------------------------------------------ guarded --

-- Nothing of C's is told of what a request guards: the flags of those that guard something are looked at, within a second.
local guarding, guard_count = {}, 0 -- records of requests that guard something: a set
local orphans = {}                  -- what requests guarded that are over, each as cueball.host.owned has it

local function stop_guarding(record)
  guarding[record], guard_count = nil, guard_count - 1
  record.guards = nil
end

local function orphan(record)
  if not record.guards then return end
  orphans[#orphans + 1] = record.guards
  stop_guarding(record)
end

--- The resource is aborted if the present request ends before it is guarded no longer, whatever ends it. Nothing outside of any request.
-- @param resource has abort(self), which does not wait, and runs outside of the request
function request.guard(resource)
  local record = request.record()
  if not record or record.runner then return end -- a runner's code that is no task cannot be killed
  if not record.guards then
    record.guards, guarding[record], guard_count = {}, true, guard_count + 1
  end
  owned.add(record.guards, resource)
end

function request.unguard(resource)
  local record = request.known()
  if not record or not record.guards then return end
  owned.remove(record.guards, resource)
  if next(record.guards.owned) == nil then stop_guarding(record) end
end

-- What belonged to a request is of no use after it, and nginx says so.
local function abort_one(fn, resource)
  local ok, message = pcall(fn, resource)
  if not ok and not tostring(message):find "bad request$" then
    request.complain("what a request guarded could not be aborted: " .. tostring(message))
  end
end

local function abort_orphans()
  if guard_count > 0 then
    for record in pairs(guarding) do -- in whatever order: one request has nothing to do with another
      if is_over(record) then orphan(record) end
    end
  end
  if #orphans == 0 then return end
  local list = orphans
  orphans = {}
  for _, guards in ipairs(list) do owned.abort(guards, abort_one) end
end

--- Tells the pools of requests that ended, and aborts what those guarded. Not in a request that may be in the middle of something.
function request.tell_ended()
  abort_orphans()
  tell_pools()
end

-- ------------------------------------------------------------------ records --

-- The owners of a record go with it.
local function drop(record)
  for party, visitor in pairs(record.visitors) do party.core:owner_gone(visitor.owner) end
end

-- Requests' addresses are few, but nothing says so for sure.
local function prune()
  tell_pools() -- what hangs on the bell must not be collected
  for address, record in pairs(records) do
    if is_over(record) then
      orphan(record)
      drop(record)
      records[address], record_count = nil, record_count - 1
    end
  end
  prune_at = math.max(RECORDS_TO_PRUNE, 2 * record_count)
end

local function begin(current, address, record)
  local cleanup = C.cueball_ngx_cleanup_add(current, 0)
  if cleanup == nil then return nil end
  if not record then
    if record_count >= prune_at then prune() end
    record = { visit = ffi.new "cueball_visit", number = 0, runner = nil, visitors = {}, party = nil, visitor = nil, guards = nil }
    record.visit.bell = bell
    records[address], record_count = record, record_count + 1
  end
  orphan(record)
  local number = record.number
  record.runner, record.number = nil, number < VISITS and number + 1 or 1
  record.visit.first, record.visit.is_over = nil, 0
  cleanup.data, cleanup.handler = record.visit, visit_over
  return record
end

--- What is known of the request or timer that runs now: { runner: the timer runner whose timer it is, or nil }.
-- @return the record; nil outside of any, where it would outlive the request (log_by_lua), or without memory
function request.record()
  local current = get_request()
  if current == nil then return nil end
  local address = tonumber(cast(ADDRESS, current))
  local record = records[address]
  if record and not is_over(record) then return record end
  if NO_CLEANUP[get_phase()] then return nil end
  return begin(current, address, record)
end

--- A number for the request or timer that runs now: no other that lives has the same.
-- @return 0 outside of any
function request.number()
  local current = get_request()
  return current ~= nil and tonumber(cast(ADDRESS, current)) or 0
end

--- The record of the present request, if request.record was called in it before; else nil.
function request.known()
  local current = get_request()
  if current == nil then return nil end
  local record = records[tonumber(cast(ADDRESS, current))]
  if record and not is_over(record) then return record end
  return nil
end

--- Has it ended?
-- @param record of request.record(), asked for in that request
request.is_over = is_over

-- ------------------------------------------------------------------- owners --

-- All requests that claim from one pool.
local Party = {}
Party.__index = Party

--- @param core of cueball.pool.core; it stays as long as the Lua state once somebody has claimed, since a request may end at any time
-- @param ended called, soon and outside of any request, when what requests had is to end: the core is to be told that time has gone by
-- @return { owner = function(self), close = function(self) }
function request.party(core, ended)
  parties_made = parties_made + 1
  local self = setmetatable({ core = core, ended = ended, number = parties_made, owner = Party.owner }, Party)
  parties[self.number] = self
  return self
end

-- The record's first claim from this pool.
local function new_visitor(self, record)
  if self.core:owner_new() < 0 then return nil end
  local visitor = ffi.new "cueball_visitor"
  visitor.owner, visitor.pool = self.core.owner[0], self.number
  anchors.cores[self.core] = true
  record.visitors[self] = visitor
  return visitor
end

-- A request's claims go to one pool most often: the record knows the visitor of the latest.
local function visitor_of(self, record)
  if record.party == self then return record.visitor end
  local visitor = record.visitors[self] or new_visitor(self, record)
  if visitor then record.party, record.visitor = self, visitor end
  return visitor
end

--- The core's owner of what the present request claims from this pool. It ends with the request.
-- @return a cueball_owner; nil if none is needed (a task's end is told otherwise), or without memory;
--   false and the phase's name where nothing can be claimed
function Party:owner()
  local phase = get_phase()
  if not CAN_WAIT[phase] then return false, phase end
  local current = get_request()
  if current == nil then return nil end
  local address = tonumber(cast(ADDRESS, current))
  local record = records[address]
  if not record or is_over(record) then record = begin(current, address, record) end
  if not record or record.runner then return nil end
  local visitor, visit = visitor_of(self, record), record.visit
  if not visitor then return nil end
  if visitor.visit ~= record.number then -- its first claim from this pool
    visitor.next, visit.first, visitor.visit = visit.first, visitor, record.number
  end
  return (visitor.owner)
end

--- The pool is over: nothing is claimed from it any more.
function Party:close()
  parties[self.number], self.ended = nil, nil
  for _, record in pairs(records) do
    local visitor = record.visitors[self]
    if record.party == self then record.party, record.visitor = nil, nil end
    if visitor and is_over(record) and visitor.has_ended == 0 then
      record.visitors[self] = nil
      self.core:owner_gone(visitor.owner)
    end
  end
end

return request
