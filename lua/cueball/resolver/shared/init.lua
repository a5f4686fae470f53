--- One resolver for all workers: one of them runs it, the others follow what it finds, through shared memory.
--
--   resolver.shared { resolver = cueball.resolver.dns { domain = "db.example", default_port = 5432 }, dict = "cueball" }
--
-- The happy path: each pool's run looks into the dict every poll_ms.  A run that finds no lease there takes it (the dict lets only one),
-- leads: it runs the resolver, renews the lease, and writes down what the resolver says, with a version beside it.  The other runs, and the
-- leader's own pool, take up what is written whenever the version is another: also when they start, so that no pool begins with nothing.
-- What can go wrong:
-- - The leader dies: its lease ends by itself.  The leader exits: it gives the lease back.  Another run takes it, and what was found stays.
-- - The leader was held up, and another leads meanwhile: it finds the other's id in the lease, ends its resolver and follows.
-- - The dict throws keys away, or was written by a run that did not know yet that it leads no more: the leader writes anew when the version
--   is not the one it wrote.
-- - The dict is too small: that is said in the leader's log, and as the failure of the others.
-- - Others write to the dict: what cannot be ours is not believed; the leader writes it anew, and it is told of once.
-- On hosts with one process (host.workers.is_shared is false) one run serves all pools of that: the first begins it, the last ends it.
local made_of = require "cueball.made_of"
local misuse = require "cueball.misuse"
local options = require "cueball.options"
local recorder = require "cueball.resolver.shared.recorder"
local state = require "cueball.resolver.shared.state"

local WHAT = "cueball.resolver.shared"
local POLL_MS, LEASE_MS, RENEWALS = 250, 3000, 3
local COMPLAINT_NS, LEASE_MAX_MS = 60e9, 60e3
local FAILURE_NS, FAILURE_LASTS_NS = 5e9, 40e9 -- how often it is written that a pool has failed, and how long that holds

local Shared = {}
Shared.__index = Shared

-- One pool's run.
local Run = {}
Run.__index = Run

-- ------------------------------------------------------------------ following --

-- Tells the pool what is written, as far as it does not know.
local function tell(self, found)
  local sink, has_changed = self.sink, false
  if not self.known then
    sink:set(found.backends)
    has_changed = true
  else
    for _, backend in ipairs(found.backends) do
      if self.known[backend.key] ~= found.lines[backend.key] then
        sink:add(backend)
        has_changed = true
      end
    end
    for key in pairs(self.known) do
      if not found.lines[key] then
        sink:remove(key, found.gone[key])
        has_changed = true
      end
    end
  end
  self.known = found.lines
  if found.failure and (has_changed or found.failure ~= self.failure) then sink:fail(found.failure) end
  if not found.failure and self.failure then sink:recover() end
  self.failure = found.failure
end

local function apply(self, found)
  self.sink:at_once(tell, self, found)
end

-- The backends known stay. Why they are not kept up to date is said once.
local function apply_failure(self, message)
  if self.failure == message then return end
  self.failure = message
  self.sink:fail(message)
end

local function too_small(self, size, message)
  return ("the shared dict %q is too small: %d bytes of %s do not fit%s"):format(self.of.dict, size, self.of.name, message or "")
end

local VERSION_MAX = 2 ^ 53

-- The version in the dict; nil: there is none that could be ours.
local function version_in(self)
  local version = self.memory:get "version"
  if version == nil or type(version) == "number" and version % 1 == 0 and math.abs(version) <= VERSION_MAX then return version end
  self.memory:complain("version", version)
  return nil
end

-- What the leader has written; nil: there is nothing that could be ours.
local function state_in(self)
  local text = self.memory:get "state"
  if text == nil then return nil end
  local found = type(text) == "string" and state.read(text)
  if found then return found end
  self.memory:complain("state", text)
  return nil
end

-- Takes up what is written, if it is new. A version below 0 says how many bytes could not be written.
local function follow(self)
  local version = version_in(self)
  if version == self.version then return end
  if version and version < 0 then
    self.version = version
    return apply_failure(self, too_small(self, -version))
  end
  local found = state_in(self)
  if not found then return end
  self.version = version
  apply(self, found)
end

-- -------------------------------------------------------------------- leading --

local function complain(self, size, message)
  local now = self.host.now()
  if self.complained_at and now - self.complained_at < COMPLAINT_NS then return end
  self.complained_at = now
  self.sink.log("error", "resolver: " .. too_small(self, size, (" (%s)"):format(message)), "shared_memory")
end

-- A version is a time on a clock that all workers share, later than the one before: so it differs from what others have written.
local function next_version(self)
  self.last_version = math.max(self.host.now(), self.last_version + 1)
  return self.last_version
end

-- Writes what the resolver said. The leader's own pool hears of it first, so it is well off even if nothing can be written.
-- @param is_lost whether what was written before may not be there
local function publish(self, is_lost)
  self.is_dirty = false
  local text = state.write(self.id, self.recorder:facts())
  if text == self.text and not is_lost then return end
  self.text = text
  apply(self, state.read(text))
  local ok, message = self.memory:set("state", text)
  local version = ok and next_version(self) or -#text
  local has_version, why = self.memory:set("version", version)
  if ok then ok, message = has_version, why end
  if not ok then complain(self, #text, tostring(message)) end
  self.version = self.memory:get "version"
end

local function lead(self)
  local inherited = state_in(self)
  self.renewed_at = self.host.now()
  self.sink.log("info", ("resolver: this worker runs %s for all"):format(self.of.name), "resolver_moved")
  self.recorder = recorder.start(self.of.resolver, self.sink, inherited, function()
    self.is_dirty = true
    self.sink:wake() -- written in the next turn, with what else comes in this one
  end)
end

local function step_down(self)
  local one = self.recorder
  self.recorder, self.text, self.is_dirty = nil, nil, false
  if one then one:close() end
end

-- Takes the lease if nobody has it. A dict that is full may have no room for it.
local function take_lease(self)
  local ok, message = self.lease:take()
  if not ok and message ~= "exists" then
    apply_failure(self, ("the shared dict %q is too small: not even the lease of %s fits (%s)")
      :format(self.of.dict, self.of.name, tostring(message)))
  end
  return ok
end

-- Writes down that this run's pool has failed, so that the leader's resolver hears of it.
local function tell_failure(self)
  local now = self.host.now()
  if not self.sink:failed() or self.failure_at and now - self.failure_at < FAILURE_NS then return end
  self.failure_at = now
  self.memory:set("failure", now)
end

-- Has one of the pools failed lately, as they write?
local function hear_failure(self)
  local at = self.memory:get "failure"
  self.recorder:pool_failed(at ~= nil and self.host.now() - at < FAILURE_LASTS_NS)
end

local function keep_leading(self)
  local holder = self.lease:holder()
  if holder ~= self.id and (holder or not take_lease(self)) then
    self.sink.log("info", ("resolver: another worker runs %s now"):format(self.of.name), "resolver_moved")
    step_down(self)
    follow(self)
    return
  end
  local is_lost = self.memory:get "version" ~= self.version
  if self.host.now() - self.renewed_at >= self.of.lease_ms * 1e6 / RENEWALS then
    self.lease:renew()
    self.renewed_at = self.host.now()
    is_lost = is_lost or self.text ~= nil and self.memory:get "state" ~= self.text
  end
  hear_failure(self)
  self.recorder:tend()
  if self.is_dirty or is_lost and self.recorder:has_said() then publish(self, is_lost) end
end

local function turn(self)
  tell_failure(self)
  if self.recorder then return keep_leading(self) end
  follow(self)
  if not self.lease:holder() and take_lease(self) then lead(self) end
end

-- --------------------------------------------------------------------- running --

-- The run was ended or killed: a leader gives the lease back, so that another leads at once.
function Run:close()
  step_down(self)
  self.lease:release()
end

Run.abort = Run.close

local function new_run(self, sink, memory)
  return setmetatable({
    of = self, sink = sink, host = sink.host, memory = memory,
    id = memory.id, -- of this run alone, now and after reloads
    lease = memory:lock("lease", self.lease_ms / 1000, LEASE_MAX_MS), -- whose worker leads
    known = nil,      -- the backends that the pool was told of: their lines, by key
    version = nil,    -- of what it was told
    failure = nil,    -- the message it was told
    recorder = nil,   -- while it leads
    renewed_at = nil, is_dirty = false, complained_at = nil,
    failure_at = nil, -- when it wrote that its pool has failed
    text = nil,       -- that it wrote last, while it leads
    last_version = 0, -- of that
  }, Run)
end

-- ------------------------------------------------------------- in one process --

-- Where one process is all there is: the followers of each resolver's one run, by host, then by resolver.
local groups = setmetatable({}, { __mode = "k" })

local Group = {}
Group.__index = Group

local Follower = {}
Follower.__index = Follower

local function group_of(self, sink)
  local of_host = groups[sink.host] or setmetatable({}, { __mode = "k" })
  groups[sink.host] = of_host
  if of_host[self] then return of_host[self] end
  local group = setmetatable({ of_host = of_host, of = self, followers = {}, text = nil, recorder = nil, is_dirty = false }, Group)
  of_host[self] = group
  group.recorder = recorder.start(self.resolver, sink, nil, function()
    group.is_dirty = true
    for _, follower in ipairs(group.followers) do follower.sink:wake() end
  end)
  return group
end

-- Tells a follower what was said since, and the resolver whether a pool has failed.
function Group:serve(follower)
  if self.is_dirty then
    self.is_dirty = false
    self.text = state.write("", self.recorder:facts())
  end
  if self.text and self.text ~= follower.text and self.recorder:has_said() then
    follower.text = self.text
    apply(follower, state.read(self.text))
  end
  local has_failed = false
  for _, one in ipairs(self.followers) do has_failed = has_failed or one.sink:failed() end
  self.recorder:pool_failed(has_failed)
end

function Follower:close()
  local followers = self.group.followers
  for index, one in ipairs(followers) do
    if one == self then
      table.remove(followers, index)
      break
    end
  end
  if #followers > 0 or self.group.of_host[self.group.of] ~= self.group then return end
  self.group.of_host[self.group.of] = nil
  self.group.recorder:close()
end

Follower.abort = Follower.close

local function run_in_process(self, sink)
  local group = group_of(self, sink)
  local follower = setmetatable({ group = group, sink = sink, known = nil, failure = nil, text = nil }, Follower)
  table.insert(group.followers, follower)
  sink.host.guard(follower)
  repeat group:serve(follower) until not sink:sleep(math.huge)
  sink.host.unguard(follower)
  follower:close()
end

--- For a pool: see docs/contracts.md.
function Shared:run(sink)
  local host = sink.host
  if not host.workers.is_shared then return run_in_process(self, sink) end
  local memory, message = host.workers.open(host, self.dict, "cueball/resolver/" .. self.name .. "/", function(level, text)
    sink.log(level, "resolver: " .. text, "shared_memory")
  end)
  if not memory then
    sink:fail(message)
    return
  end
  local run = new_run(self, sink, memory)
  host.guard(run)
  repeat turn(run) until not sink:sleep(self.poll_ms)
  host.unguard(run)
  run:close()
end

-- ---------------------------------------------------------------------- making --

local OPTIONS = {
  resolver = options.RESOLVER,
  dict = options.of_type("string", "the name of a lua_shared_dict"),
  name = options.of_type "string",
  poll_ms = options.number(1, 1000, "milliseconds"),
  lease_ms = options.number(100, 60000, "milliseconds"),
}

-- Where things are shared, it is better to hear at once that they are not.
local function check_dict(name)
  local found, host = pcall(function() return require("cueball.host").default() end)
  if not found or not host.workers.is_shared then return end
  local dict, message = host.workers.dict(name)
  if not dict then misuse.raise(WHAT .. ": " .. message) end
end

--- Makes a resolver that is run once for all pools: of all workers of an nginx, or of the process elsewhere.
-- @param given
--   resolver  any resolver: a function, or a table with run
--   name      of what it finds, the same in all workers; the resolver's own by default, a function needs one
--   dict      the lua_shared_dict, "cueball" by default
--   poll_ms   how often each looks what is new, 250 by default, at most 1000
--   lease_ms  one that leads and is not heard of for so long has died, 3000 by default; at least four times poll_ms
-- @return a resolver; mistakes in the options, and on nginx a dict that is not there, raise an error at the caller's line
local function shared(given)
  given = options.check(WHAT, given, OPTIONS)
  if given.resolver == nil then misuse.raise(WHAT .. ": option 'resolver' is required: " .. OPTIONS.resolver.range) end
  local name = given.name or type(given.resolver) == "table" and given.resolver.name
  if type(name) ~= "string" then misuse.raise(WHAT .. ": option 'name' is required for a resolver that has none") end
  local self = setmetatable({
    resolver = given.resolver, name = name, dict = given.dict or "cueball",
    poll_ms = given.poll_ms or POLL_MS, lease_ms = given.lease_ms or LEASE_MS,
  }, Shared)
  if self.lease_ms < 4 * self.poll_ms then
    misuse.raise(("%s: option 'lease_ms' must be at least four times poll_ms, %.6g, not %.6g")
      :format(WHAT, 4 * self.poll_ms, self.lease_ms))
  end
  check_dict(self.dict)
  return made_of.note(self, WHAT, given)
end

return shared
