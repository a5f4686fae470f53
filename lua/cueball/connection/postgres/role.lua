--- What a server is, primary or standby, and whether that is what was asked for. The server itself says so.
local role = {}

local IS_STANDBY = "SELECT pg_catalog.pg_is_in_recovery() AS is_standby, "
  .. "pg_catalog.current_setting('default_transaction_read_only') AS read_only"

local NOT_WANTED = {
  primary = "the server is a standby, not a primary",
  standby = "the server is the primary, not a standby",
}

local BECAME = {
  primary = "the server became a standby",
  standby = "the server became the primary",
}

--- What the server reported last: since 14 it says so unasked, but only with an answer.
-- @return "primary" or "standby"; nil: this one does not report it
function role.reported(conn)
  local is_standby = conn:parameter "in_hot_standby"
  if is_standby == "on" then return "standby" end
  if is_standby == "off" then return "primary" end
  return nil
end

--- Asks the server.
-- @return "primary" or "standby", and whether its sessions are read-only by default; or nil, message, name
function role.ask(conn)
  local result, message, name = conn:query(IS_STANDBY)
  if not result then return nil, message, name end
  local row = result[1] or {}
  local is_standby = row.is_standby == true or row.is_standby == "t"
  return is_standby and "standby" or "primary", row.read_only == "on"
end

--- Is that role what was asked for?
-- @param wanted "any", "primary", "standby" or "prefer-standby"
-- @return nil: it is; or a message
function role.fault(wanted, found, has_changed)
  if wanted ~= "primary" and wanted ~= "standby" or found == wanted then return nil end
  return (has_changed and BECAME or NOT_WANTED)[wanted]
end

return role
