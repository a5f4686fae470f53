--- cueball.console.listen(address, options): lets people and tools look into this program, by `cueball attach`. docs/console.md.
--
-- Whoever could connect could look, so: a UNIX socket has mode 0600, and the kernel is asked who is at its other end; a port is one of
-- loopback, and wants a token.
local address_of = require "cueball.address"
local connection = require "cueball.console.connection"
local hosts = require "cueball.host"
local log = require "cueball.log"
local misuse = require "cueball.misuse"
local options = require "cueball.options"
local settings = require "cueball.console.settings"
local text = require "cueball.text"

local WHAT = "cueball.console.listen"

local RULES = options.merge(settings.RULES, {
  users = {
    check = function(value)
      if type(value) ~= "table" then return false end
      for _, uid in ipairs(value) do
        if type(uid) ~= "number" or uid < 0 or uid % 1 ~= 0 then return false end
      end
      return #value > 0
    end,
    range = "a list of users' numbers",
  },
  mode = options.whole(0, tonumber("777", 8)),
})

options.note(WHAT, RULES)

local listeners = {} -- by address

local function is_loopback(host)
  return host == "::1" or host:find "^127%.%d+%.%d+%.%d+$" ~= nil
end

local function check_address(address, given)
  if type(address) ~= "string" then misuse.raise(("%s: expected an address, got %s"):format(WHAT, text.show(address))) end
  if address_of.is_unix(address) then return end
  local host, port = address_of.split(address)
  if not host then misuse.raise(("%s: %s"):format(WHAT, port)) end
  if not port then misuse.raise(("%s: %s: there is no port"):format(WHAT, text.show(address))) end
  if not is_loopback(host) then
    misuse.raise(("%s: %s is no address of loopback; a console is for this machine: use unix:/PATH, and ssh from elsewhere")
      :format(WHAT, address))
  end
  if not given.token then
    misuse.raise(("%s: a port wants option 'token', as every user of this machine can connect to it; unix:/PATH does without"):format(WHAT))
  end
  if given.users or given.mode then misuse.raise(WHAT .. ": options 'users' and 'mode' are for unix:/PATH") end
end

-- May this user connect? The program's own, and root, where nobody else is named.
local function is_welcome(users, own, peer)
  if not peer.uid then return not users end -- this system does not tell: the path's mode has to do
  if peer.uid == own or peer.uid == 0 then return true end
  for _, uid in ipairs(users or {}) do
    if uid == peer.uid then return true end
  end
  return false
end

local function on_connection(self)
  return function(stream, peer)
    local set = self.settings
    if peer.address:sub(1, 5) == "unix:" and not is_welcome(self.users, self.host.workers.uid(), peer) then
      log.say(self.host, "warn", ("a console refused user %s, process %s"):format(tostring(peer.uid), tostring(peer.pid)),
        "access_refused", { cause = "user", uid = peer.uid, pid = peer.pid })
      return
    end
    connection.serve(stream, peer, set)
  end
end

--- Offers a console.
-- @param address "unix:/run/app.sock", or "127.0.0.1:PORT" with a token
-- @param given nil, or a table:
--   allow            "read" (the default): looks at the program and changes nothing. "write": runs whatever is typed, with its globals
--   token            a secret of 16 bytes or more that who connects has to know
--   users            numbers of users who may connect besides the program's own and root; `mode` has to let them
--   mode             of the path, 0600 by default
--   budget_ms        how long a command may run, 50 by default
--   connections_max  16 by default
--   name             of the program, for the prompt
--   values           for "write": globals beside those of the program
--   host             the event loop
-- @return a listener: .address, :close(); or nil, message, "address_in_use" or "failed". An address where this program has a console
--   already keeps its listener, which has the options given now
return function(address, given)
  given = options.check(WHAT, given, RULES)
  check_address(address, given)
  local host = hosts.of(WHAT, given.host)
  if not host.listen then misuse.raise(WHAT .. ": this host cannot listen; in nginx use cueball.console.serve in a location") end
  local set = settings.of(WHAT, given, host)
  local self = listeners[address]
  if self and not self.is_closed then
    self.settings, self.users = set, given.users
    return self
  end
  self = { host = host, settings = set, users = given.users, is_closed = false, address = address, listener = nil }
  local listener, message, name = host.listen(address, {
    mode = given.mode, connections_max = given.connections_max or settings.CONNECTIONS_MAX,
  }, on_connection(self))
  if not listener then return nil, WHAT .. ": " .. message, name end
  self.address = listener.address

  --- Nobody can connect any more; who is attached is cut off.
  function self.close()
    self.is_closed = true
    if listeners[address] == self then listeners[address] = nil end
    listener:close()
  end

  listeners[address] = self
  return self
end
