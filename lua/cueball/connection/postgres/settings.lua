--- The options of cueball.connection.postgres, and what libpq is given of them for one connection.
--
-- Options that libpq has under the same name are passed on as they are; what is left out has the value of the service file, of the
-- environment variables PGUSER, PGPASSWORD and so on, or libpq's default, in this order, as with any program on libpq.
local address = require "cueball.address"
local misuse = require "cueball.misuse"
local options = require "cueball.options"
local secret = require "cueball.secret"

local settings = {}

local WHAT = "cueball.connection.postgres"

local LIMIT = options.number(1, 86400000, "milliseconds")

-- libpq takes texts that end with a NUL.
local TEXT = {
  check = function(value) return type(value) == "string" and not value:find("\0", 1, true) end, range = "a string without NUL bytes",
}

local function one_of(...)
  local words, quoted = {}, {}
  for index, word in ipairs { ... } do words[word], quoted[index] = true, ("%q"):format(word) end
  local last = table.remove(quoted)
  return { check = function(value) return words[value] ~= nil end, range = table.concat(quoted, ", ") .. " or " .. last }
end

-- Passed on under their own names.
local PASSED_ON = {
  dbname = TEXT, application_name = TEXT, options = TEXT, service = TEXT, passfile = TEXT, client_encoding = TEXT,
  sslmode = one_of("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
  sslrootcert = TEXT, sslcert = TEXT, sslkey = TEXT, sslcrl = TEXT, sslcrldir = TEXT,
  ssl_min_protocol_version = TEXT, ssl_max_protocol_version = TEXT, channel_binding = one_of("disable", "prefer", "require"),
  gssencmode = one_of("disable", "prefer", "require"), krbsrvname = TEXT, gsslib = TEXT, requirepeer = TEXT, require_auth = TEXT,
}

-- Texts, or functions that are asked at each connect; passed on.
local ASKED = { user = secret.RULE, password = secret.RULE, sslpassword = secret.RULE }
local SECRETS = { "password", "sslpassword" }

local FUNCTION = options.of_type "function"

local OWN = {
  driver = one_of("libpq", "pgmoon"),
  role = one_of("any", "primary", "standby", "prefer-standby"),
  reset = one_of("none", "rollback", "discard"),
  server_name = TEXT,
  setup = { check = function(value) return TEXT.check(value) or type(value) == "function" end, range = "SQL or a function(conn)" },
  connect_timeout_ms = LIMIT, query_timeout_ms = LIMIT, tcp_user_timeout_ms = LIMIT, keepalive_ms = LIMIT,
  types = options.of_type "table", null = { check = function() return true end, range = "any value" },
  notice = FUNCTION,
  prepare = options.whole(0, 100000), cancel_timeout_ms = LIMIT, max_notifications = options.whole(1, 10000000),
}

local RULES = {}
for _, rules in ipairs { PASSED_ON, ASKED, OWN } do
  for name, rule in pairs(rules) do RULES[name] = rule end
end
options.note(WHAT, RULES)

-- libpq's keywords for what is not an option here, and who says it.
local ELSEWHERE = {
  host = "the resolver says it", hostaddr = "the resolver says it", port = "the resolver says it",
  connect_timeout = "it is connect_timeout_ms here", tcp_user_timeout = "it is tcp_user_timeout_ms here",
  keepalives_idle = "it is keepalive_ms here", target_session_attrs = "it is role here", sslsni = "the name is always sent",
  database = "it is dbname here, as in libpq", username = "it is user here, as in libpq", sslca = "it is sslrootcert here, as in libpq",
}

local DEFAULT_QUERY_MS, TCP_USER_TIMEOUT_MS = 60000, 10000

--- Reads the options.
-- @return a table of its own; mistakes raise an error at the caller's line
function settings.read(given)
  if type(given) == "table" then
    for name, where in pairs(ELSEWHERE) do
      if given[name] ~= nil then misuse.raise(("%s: there is no option '%s': %s"):format(WHAT, name, where)) end
    end
  end
  local made = { role = "any", reset = "rollback", query_timeout_ms = DEFAULT_QUERY_MS }
  for name, value in pairs(options.check(WHAT, given, RULES)) do made[name] = value end
  return made
end

-- -------------------------------------------------------------- a connection --

-- A root certificate without a word of what it is for is there to verify the server with. libpq would take it for "prefer", which verifies
-- nothing that counts. Where a service file is named, that may have an sslmode.
local function default_sslmode(made)
  if made.sslmode or os.getenv "PGSSLMODE" then return nil end
  if made.sslrootcert then return "verify-full" end
  if os.getenv "PGSSLROOTCERT" and not made.service and not os.getenv "PGSERVICE" then return "verify-full" end
  return nil
end

-- What the certificate of the server has to be for, and what .pgpass is looked up by. A name that is for people only is none.
local function name_of(made, backend)
  if made.server_name then return made.server_name end
  local name = backend.name
  if name ~= backend.key and name:find "^[%w_]" and not name:find "[^%w_.:%%-]" then return name end
  return backend.address
end

-- "unix:/run/postgresql/.s.PGSQL.5432" is port 5432 in the folder /run/postgresql, as libpq says it; other paths are such folders.
local function place_of(made, backend)
  if not address.is_unix(backend.address) then
    return { hostaddr = backend.address, host = name_of(made, backend), port = ("%d"):format(backend.port) }
  end
  -- libpq would go there instead, and there is no way to tell it otherwise.
  if os.getenv "PGHOSTADDR" then return nil, "a UNIX socket cannot be used while the environment variable PGHOSTADDR is set" end
  local path = backend.address:match "^unix:(.*)$"
  local folder, port = path:match "^(.*)/%.s%.PGSQL%.(%d+)$"
  return { host = folder or path, port = port }
end

local NAME_MAX = 63 -- bytes of an application_name, of which the server cuts the rest

-- Which pool of which process: operators look for it in pg_stat_activity.
local function default_application_name(context)
  local process = (" %d"):format(context.host.workers and context.host.workers.pid() or 0)
  return (context.pool_name or "cueball"):sub(1, NAME_MAX - #process) .. process
end

-- The kernel gives a connection up whose data nobody acknowledges: before those who wait for it do, or for its successor.
local function user_timeout_of(made, context)
  if made.tcp_user_timeout_ms then return made.tcp_user_timeout_ms end
  return math.max(1, math.min(TCP_USER_TIMEOUT_MS, made.query_timeout_ms / 2, (context.claim_timeout_ms or math.huge) * 0.75))
end

local function ask(made, parameters, backend, context)
  local value, message
  if made.user then
    value, message = secret.ask("user", made.user, function() end, backend, context)
    if not value then return nil, message end
    parameters.user = value
  end
  for _, name in ipairs(SECRETS) do
    if made[name] then
      value, message = context.secret(name, made[name])
      if not value then return nil, message end
      parameters[name] = value
    end
  end
  return parameters
end

--- What one connection is opened with, by libpq's keywords; in an attempt's task, as secrets may be functions.
-- @return a table of strings; or nil, message
function settings.parameters(made, backend, context)
  local parameters, message = place_of(made, backend)
  if not parameters then return nil, message end
  for name in pairs(PASSED_ON) do parameters[name] = made[name] end
  parameters.sslmode = made.sslmode or default_sslmode(made)
  parameters.fallback_application_name = default_application_name(context)
  if not made.gssencmode and not os.getenv "PGGSSENCMODE" then parameters.gssencmode = "disable" end
  parameters.tcp_user_timeout = ("%.0f"):format(user_timeout_of(made, context))
  if made.keepalive_ms then parameters.keepalives_idle = ("%d"):format(math.ceil(made.keepalive_ms / 1000)) end
  return ask(made, parameters, backend, context)
end

return settings
