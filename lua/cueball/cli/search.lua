--- Finding the nodes of a name on a host: once, or as they change.
--
-- Both run in one task that waits for whichever is first: the answer, an interrupt, or that nobody reads any more.
local output = require "cueball.cli.output"
local status = require "cueball.cli.status"

local search = {}

local SERVERS_ASSUMED = 3    -- where they are found by name; resolv.conf(5) has at most so many
local SHARE = 0.85           -- of the time, for questions: what went wrong shall be known before the time is over
local ATTEMPTS, PASSES = 3, 7 -- 1 + 2 + 4 times the first limit
local READER_LOOK_MS = 1000  -- a reader that goes away while nothing happens is noticed so late
local STATUS_OF = { timeout = status.timeout, not_supported = status.broken }

local function servers_asked(host, resolvers)
  if type(resolvers) == "table" then return #resolvers end
  local system = not resolvers and host.dns and host.dns.system()
  return system and math.max(1, #system.servers) or SERVERS_ASSUMED
end

--- The option `recovery` that makes the best of the time: three attempts, each twice as long as the one before, fill it at the step
-- at which nobody answers. So each step (SRV, then addresses; the same before for nameservers that have to be found) may take what
-- the steps before have left, every server is asked at every step, and one that is slow is listened to while others are asked.
-- @param asked { resolvers =, timeout = milliseconds }
function search.recovery(host, asked)
  local timeout_ms = math.max(1, asked.timeout * SHARE / (PASSES * servers_asked(host, asked.resolvers)))
  return { default = { attempts = ATTEMPTS, timeout_ms = timeout_ms, max_timeout_ms = timeout_ms * 2 ^ (ATTEMPTS - 1) } }
end

-- Runs fn(done) on the host, in a task; done(result) ends it and gives what is returned here. So does an interrupt.
-- @param fn returns a function that cleans up, or nil
local function run_until_done(host, fn)
  return host.run(function()
    local waiter = host.waiter()
    local function done(result) waiter:wake(result) end
    local forget = host.on_signal("int", function() done(status.interrupted) end)
    local cleanup = fn(done)
    local result = waiter:wait()
    if cleanup then cleanup() end
    if forget then forget() end
    return result
  end)
end

--- Looks once and prints what there is.
-- @param resolver of cueball.resolver.dns
-- @param asked    { name =, service =, timeout = milliseconds }
-- @return the exit status
function search.once(host, out, resolver, asked)
  local result = run_until_done(host, function(done)
    local task = host.spawn(function()
      local ok, list, message, name = xpcall(function()
        return resolver:lookup { timeout_ms = asked.timeout, host = host }
      end, debug.traceback)
      done { is_thrown = not ok, list = list, message = message, name = name }
    end)
    return function() host.kill(task) end
  end)
  if type(result) == "number" then return result end
  if result.is_thrown then error(result.list, 0) end
  if result.list then return out:status_of(out:backends(result.list, asked)) end
  out:complain(result.message)
  return STATUS_OF[result.name] or status.failed
end

--- Prints each change, until interrupted or until nobody reads any more.
-- @return the exit status
function search.follow(host, out, resolver)
  local function tell(text)
    out:say(("%s %s"):format(output.timestamp(out.system.time()), text))
  end
  return run_until_done(host, function(done)
    local function event(word)
      return function(backend)
        local code = out:status_of(out:event(word, backend))
        if code ~= status.found then done(code) end
      end
    end
    local run, message = resolver:follow(host, {
      add = event "added", change = event "changed", remove = event "removed",
      fail = function(why) tell("failing: " .. why) end,
      recover = function() tell "recovered" end,
    })
    if not run then
      out:complain(message)
      return done(status.broken)
    end
    local watch = host.spawn(function()
      while not out.system.is_reader_gone() do host.sleep(READER_LOOK_MS) end
      done(status.reader_gone)
    end)
    return function()
      host.kill(watch)
      run:close()
    end
  end)
end

return search
