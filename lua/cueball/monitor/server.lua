--- The monitor over HTTP: /metrics, /snapshot, /events, /plan, and the dashboard at /.
--
-- The happy path: a request is read (cueball.http.server), may be answered (cueball.monitor.access), and is (cueball.monitor.routes).
-- It is for people and for Prometheus, not for the public: it listens on this machine alone unless there is a token.
local address_of = require "cueball.address"
local log = require "cueball.log"
local access = require "cueball.monitor.access"
local misuse = require "cueball.misuse"
local options = require "cueball.options"
local routes = require "cueball.monitor.routes"
local stream = require "cueball.monitor.stream"
local text = require "cueball.text"

local server = {}

local TOKEN_MIN = 16

local function is_list_of(check)
  return function(value)
    if type(value) ~= "table" then return false end
    for key, one in pairs(value) do
      if type(key) ~= "number" or not check(one) then return false end
    end
    return true
  end
end

local function is_name(value)
  return type(value) == "string" and value:find "^[%w._-]+$" ~= nil
end

--- What monitor.serve is given to listen.
server.OPTIONS = {
  listen = options.of_type("string", 'an address: "127.0.0.1:9190", "[::1]:9190" or "unix:/path"'),
  token = {
    check = function(value) return type(value) == "string" and #value >= TOKEN_MIN and value:find "^[%w%-._~+/=]+$" ~= nil end,
    range = ("a string of %d or more letters, digits and -._~+/="):format(TOKEN_MIN), is_secret = true,
  },
  tls = options.of_type("table", "a table of options of cueball.tls.server: cert_file, key_file …"),
  hosts = { check = is_list_of(is_name), range = "a list of names that this server is known by" },
  pools = { check = is_list_of(function(one) return type(one) == "string" end), range = "a list of names of pools" },
  mode = options.whole(0, tonumber("777", 8)),
  connections_max = options.whole(1, 1000),
  streams_max = options.whole(1, 1000),
}

local STREAMS_MAX = 16
local WARNED_S = 60

local Server = {}
Server.__index = Server

-- Somebody tries tokens: told once a minute.
local function note_refusal(self, connection)
  self.refused = self.refused + 1
  local now = self.host.now()
  if self.warned_at and now - self.warned_at < WARNED_S * 1e9 then return end
  self.warned_at = now
  log.say(self.host, "warn", ("the monitor: a request of %s had no token, or a wrong one (%d so far)"):format(
    text.message(connection.peer.address), self.refused), "access_refused", { cause = "token", count = self.refused })
end

--- Answers a request, or says why not.
local function handle(self, request, response, connection)
  local status, message, name, headers = access.objection(self.access, request, routes.is_public(request.path))
  if not status then return routes.answer(self, request, response, connection) end
  if status == 401 then note_refusal(self, connection) end
  response.keeps_alive = false
  routes.fail(response, status, message, name, headers)
end

--- Ends: nobody is answered any more.
function Server:close()
  if self.is_closed then return end
  self.is_closed = true
  self.stream:close()
  if self.http then self.http:close() end
end

-- The modules of HTTP are loaded when they are first wanted.
local function http_server(what)
  local is_loaded, loaded = pcall(require, "cueball.http.server")
  if is_loaded then return loaded end
  misuse.raise(("%s needs libcueball_http: %s"):format(what, tostring(loaded)))
end

local function tls_of(what, given)
  if not given then return nil end
  local is_loaded, tls = pcall(require, "cueball.tls")
  if not is_loaded then misuse.raise(what .. ": option 'tls': " .. tostring(tls)) end
  local context, message = tls.server(given)
  if not context then misuse.raise(what .. ": option 'tls': " .. message) end
  return context
end

local function check_address(what, host, given)
  local address, port = address_of.split(given.listen)
  if not address or not port then misuse.raise(("%s: option 'listen': %s"):format(what, address and "there is no port" or port)) end
  if access.is_local(given.listen) then return end
  if not given.token then
    misuse.raise(("%s: option 'listen': %s can be reached from other machines, which wants a token"):format(what, given.listen))
  end
  if not given.tls then
    log.say(host, "warn",
      ("the monitor: %s has no TLS: whoever is on the way can read the token, and all that is shown"):format(given.listen),
      "without_tls")
  end
end

local function wanted_of(given)
  if not given.pools then return function() return true end end
  local names = {}
  for _, name in ipairs(given.pools) do names[name] = true end
  return function(name, pool) return names[name] or pool ~= nil and names[pool.name] or false end
end

--- What answers requests, whoever reads them: server.handle.
-- @param listening where it listens
-- @param given     of server.OPTIONS
-- @param view      nil, or function(pause) → all workers, for /metrics; nil: only this process is known
function server.new(host, listening, given, view)
  local self = setmetatable({
    host = host, access = access.new(listening, given), is_wanted = wanted_of(given), view = view, kept = {}, kept_count = 0, refused = 0,
    warned_at = nil, is_closed = false, http = nil, stream = nil, address = nil,
  }, Server)
  self.stream = stream.new(host, {
    readers_max = given.streams_max or STREAMS_MAX,
    wants = function(pool) return pool == nil or self.is_wanted(pool) end,
    snapshot = function(focus) return routes.snapshot_text(self, { where = false, limit = routes.LIMIT, focus = focus }) end,
  })
  return self
end

server.handle = handle

--- Serves the pools of this process, and of nobody else.
-- @param given options that were checked by server.OPTIONS, with `listen`
-- @return the server: .address, :close(); or nil, message, name
function server.start(what, host, given)
  if not host.listen then misuse.raise(("%s: this host (%s) cannot listen; in nginx use a location"):format(what, host.name)) end
  check_address(what, host, given)
  local http = http_server(what)
  local self = server.new(host, given.listen, given)
  local message, name
  self.http, message, name = http.start(host, given.listen, {
    tls = tls_of(what, given.tls), mode = given.mode, limits = { connections_max = given.connections_max },
  }, function(request, response, connection) handle(self, request, response, connection) end)
  if not self.http then
    self:close()
    return nil, message, name
  end
  self.address = self.http.address
  return self
end

return server
