--- Who claims, under nginx: a request, or a timer. Its end is told to the core from C, whatever ended it.
--
-- Lua code does not run when a request is aborted by its client or leaves by ngx.exit, ngx.redirect or ngx.exec, or when its light
-- thread is killed. nginx's own request cleanup does, always, and it calls C. So each request that claims gets an owner in the core
-- and a cleanup that says the owner is gone, both once.
--
-- What is known of a request is found by its address. nginx gives the address of one that ended to another, so each record has a
-- flag that a second cleanup raises, from C too: a POSIX semaphore, since sem_post is a function of one pointer that any libc has.
-- Records are used again for the next request at that address, which is why there are only as many as there were requests at once.
local ffi = require "ffi"
local base = require "resty.core.base"
local clear = require "table.clear"
local lib = require("cueball.native").lib
local get_request = base.get_request

-- Declarations outlive the module; it may be loaded again.
if not pcall(ffi.typeof, "cueball_ngx_cleanup") then
  ffi.cdef [[
    typedef struct cueball_ngx_cleanup {
      void (*handler)(void *);
      void *data;
      struct cueball_ngx_cleanup *next;
    } cueball_ngx_cleanup;
    cueball_ngx_cleanup *cueball_ngx_cleanup_add(void *request, size_t size) __asm__("ngx_http_cleanup_add");
    typedef union { int value; char room[64]; long long align; } cueball_ngx_flag; /* room for a sem_t, whose value comes first */
    int cueball_ngx_flag_raise(void *flag) __asm__("sem_post");
  ]]
end

local C = ffi.C
local HANDLER = ffi.typeof "void (*)(void *)"
local ADDRESS = ffi.typeof "uintptr_t"
local raise = ffi.cast(HANDLER, C.cueball_ngx_flag_raise)
local owner_gone = ffi.cast(HANDLER, lib.cueball_owner_gone)
local made = ffi.new "cueball_owner *[1]"

local request = {}

local RECORDS_TO_PRUNE = 1024
local records = {}   -- by the request's address
local record_count, prune_at = 0, RECORDS_TO_PRUNE

-- nginx writes to flags, and the core to pools that have owners, until the requests end: they stay as long as the Lua state.
local anchors = { records = records, cores = {} }
debug.getregistry()["cueball.host.ngx.request"] = debug.getregistry()["cueball.host.ngx.request"] or {}
table.insert(debug.getregistry()["cueball.host.ngx.request"], anchors)

local function is_over(record)
  return record.flag.value ~= 0
end

-- Requests' addresses are few, but nothing says so for sure.
local function prune()
  for address, record in pairs(records) do
    if is_over(record) then records[address], record_count = nil, record_count - 1 end
  end
  prune_at = math.max(RECORDS_TO_PRUNE, 2 * record_count)
end

local function begin(current, address, record)
  local cleanup = C.cueball_ngx_cleanup_add(current, 0)
  if cleanup == nil then return nil end
  if record then
    clear(record.owners)
  else
    if record_count >= prune_at then prune() end
    record = { flag = ffi.new "cueball_ngx_flag", owners = {} }
    records[address], record_count = record, record_count + 1
  end
  record.crew = nil
  record.flag.value = 0
  cleanup.data, cleanup.handler = record.flag, raise
  return record
end

--- What is known of the request or timer that runs now: { owners, crew }.
-- @return the record; nil outside of any, or without memory
function request.record()
  local current = get_request()
  if current == nil then return nil end
  local address = tonumber(ffi.cast(ADDRESS, current))
  local record = records[address]
  if record and not is_over(record) then return record end
  return begin(current, address, record)
end

--- The same, if it was asked for before; else nil.
function request.known()
  local current = get_request()
  if current == nil then return nil end
  local record = records[tonumber(ffi.cast(ADDRESS, current))]
  if record and not is_over(record) then return record end
  return nil
end

--- Has it ended?
-- @param record of request.record(), asked for in that request
request.is_over = is_over

local function new_owner(record, core)
  if lib.cueball_pool_owner_new(core, made) < 0 then return nil end
  local owner = made[0]
  local cleanup = C.cueball_ngx_cleanup_add(get_request(), 0)
  if cleanup == nil then
    lib.cueball_owner_gone(owner)
    return nil
  end
  cleanup.data, cleanup.handler = owner, owner_gone
  anchors.cores[core] = true
  record.owners[core] = owner
  return owner
end

--- The owner of what the present request claims from this pool.
-- @param core a cueball_pool, always the same cdata; from then on it stays as long as the Lua state, since a cleanup may come at any time
-- @return a cueball_owner that ends with the request; nil where there is no request, or no memory, or it is a crew's
function request.owner(core)
  local record = request.record()
  if not record or record.crew then return nil end
  return record.owners[core] or new_owner(record, core)
end

return request
