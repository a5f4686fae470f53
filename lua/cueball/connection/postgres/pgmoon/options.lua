--- What the options of cueball.connection.postgres mean over pgmoon: they are named as libpq has them, and not all of them can be had.
local misuse = require "cueball.misuse"
local tls = require "cueball.connection.tls"

local options = {}

-- What nothing stands for here. Some of it is harmless, if it asks for no more than there is.
local UNKNOWN = {
  service = true, passfile = true, sslpassword = true, sslcrldir = true, krbsrvname = true, gsslib = true, requirepeer = true,
  require_auth = true, ssl_max_protocol_version = true,
}
local REFUSED = {
  sslmode = { allow = "say \"prefer\" or \"require\"", ["verify-ca"] = "say \"verify-full\", perhaps with server_name" },
  channel_binding = { require = "it is never bound here" },
  gssencmode = { require = "there is no GSS here", prefer = "there is no GSS here" },
}
local VERSIONS = { ["TLSv1.2"] = "1.2", ["TLSv1.3"] = "1.3" }

local function refuse(what, name, value, why)
  misuse.raise(("%s: option '%s' = %q cannot be had over pgmoon: %s"):format(what, name, tostring(value), why))
end

local function check(what, made)
  for name in pairs(UNKNOWN) do
    if made[name] ~= nil then refuse(what, name, made[name], "leave it out, or use the driver libpq") end
  end
  for name, values in pairs(REFUSED) do
    local why = made[name] ~= nil and values[made[name]]
    if why then refuse(what, name, made[name], why) end
  end
  if made.sslmode == "require" and made.sslrootcert then
    refuse(what, "sslmode", "require", "with sslrootcert it would mean verify-ca; say \"verify-full\", perhaps with server_name")
  end
  local version = made.ssl_min_protocol_version
  if version and not VERSIONS[version] then refuse(what, "ssl_min_protocol_version", version, "say \"TLSv1.2\" or \"TLSv1.3\"") end
end

--- Reads what is said of TLS.
-- @param what who asks, for messages
-- @param made the options, of cueball.connection.postgres.settings
-- @return { tls = of cueball.connection.tls or nil, is_tls_required = boolean }; mistakes raise an error at the caller's line
function options.security(what, made)
  check(what, made)
  local mode = made.sslmode or made.sslrootcert and "verify-full" or "prefer"
  if mode == "disable" then return { tls = nil, is_tls_required = false } end
  local is_verified = mode == "verify-full"
  return {
    tls = tls.read(what, {
      verify = is_verified, server_name = made.server_name, ca_file = is_verified and made.sslrootcert or nil,
      crl_file = is_verified and made.sslcrl or nil, cert_file = made.sslcert, key_file = made.sslkey,
      min_version = VERSIONS[made.ssl_min_protocol_version or ""],
    }),
    is_tls_required = mode ~= "prefer",
  }
end

--- What a connection is opened with, where libpq would fill in more.
-- @param parameters of cueball.connection.postgres.settings
-- @return { user =, dbname =, password =, application_name =, options =, client_encoding = }; or nil, message
function options.complete(parameters)
  local user = parameters.user or os.getenv "PGUSER"
  if not user then return nil, "no user: give option 'user', as pgmoon does not ask the system for one" end
  return {
    user = user, dbname = parameters.dbname or os.getenv "PGDATABASE" or user, password = parameters.password or os.getenv "PGPASSWORD",
    application_name = parameters.application_name or os.getenv "PGAPPNAME" or parameters.fallback_application_name,
    options = parameters.options or os.getenv "PGOPTIONS", client_encoding = parameters.client_encoding,
  }
end

return options
