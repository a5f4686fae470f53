--- cueball.console.serve(options): answers the HTTP request that is being served as a console, on hosts that serve requests (nginx). What
-- comes next on its connection is the console's; the worker serves others meanwhile. docs/console.md.
local connection = require "cueball.console.connection"
local hosts = require "cueball.host"
local log = require "cueball.log"
local misuse = require "cueball.misuse"
local options = require "cueball.options"
local protocol = require "cueball.console.protocol"
local relay = require "cueball.console.relay"
local settings = require "cueball.console.settings"

local WHAT = "cueball.console.serve"

options.note(WHAT, settings.RULES)

local living, is_following = {}, false

local function living_count()
  local count = 0
  for _ in pairs(living) do count = count + 1 end
  return count
end

-- nginx waits for the requests of a worker that exits, and these would go on.
local function end_at_exit(host)
  if is_following then return end
  is_following = true
  host.workers.on_exit(function() connection.finish_all(living) end)
end

--- Answers the request.
-- @param given a table:
--   token  required: who connects to nginx is not known otherwise
--   connections_max  how many this worker has at once, 16 by default: those that it took, and as many that come by way of other workers
--   allow, budget_ms, name, values, host  as of cueball.console.listen
return function(given)
  given = options.check(WHAT, given, settings.RULES)
  if not given.token then misuse.raise(WHAT .. ": option 'token' is required, as every user of this machine can connect to nginx") end
  local host = hosts.of(WHAT, given.host)
  local http = host.http
  if not http or not http.upgrade then misuse.raise(WHAT .. ": this host serves no requests; use cueball.console.listen") end
  local is_wanted = http.header "Upgrade" == protocol.UPGRADE and not http.header "Origin"
  if not is_wanted then
    return http.answer(400, "text/plain; charset=utf-8", "This is a console of cueball: use `cueball attach`.\n")
  end
  local most = given.connections_max or settings.CONNECTIONS_MAX
  if living_count() >= most then
    log.say(host, "warn", ("a console was refused: this worker has %d, as many as it may have"):format(most), "access_refused",
      { cause = "connections_max" })
    return http.answer(503, "text/plain; charset=utf-8", connection.FULL .. "\n")
  end
  local stream, peer = http.upgrade(protocol.UPGRADE)
  if not stream then return log.say(host, "warn", "a console cannot be served: " .. peer, "access_refused", { cause = "upgrade" }) end
  local set = settings.of(WHAT, given, host)
  function set.reach(...) return relay.reach(host, ...) end
  set.living, set.cut = living, http.cut
  end_at_exit(host)
  relay.follow(host)
  connection.serve(stream, peer, set)
end
