--- What ngx_lua's API has of the request that is being answered: there is none here. Libraries that serve and connect are loaded all the
-- same: what they need of a request raises an error when they use it, as in a timer of nginx.
local misuse = require "cueball.misuse"

local request = {}

local FUNCTIONS = [[eof exec exit flush on_abort print redirect say send_headers]]

local TABLES = {
  req = [[append_body clear_header discard_body finish_body get_body_data get_body_file get_headers get_method get_post_args get_uri_args
    http_version init_body is_internal raw_header read_body set_body_data set_body_file set_header set_method set_uri set_uri_args socket
    start_time]],
  resp = [[get_headers add_header set_status]],
  location = [[capture capture_multi]],
}

-- Their members are asked for by any name.
local OPEN_TABLES = { "var", "header", "arg" }

local function raiser(library, name)
  return function()
    misuse.raise(("%s: %s: there is no request here, as in a timer"):format(library, name))
  end
end

--- @param library its name, for messages
-- @param prefix what the API is called, for messages
-- @return the members that belong to requests, by name
function request.members(library, prefix)
  local made = {}
  for name in FUNCTIONS:gmatch "%S+" do made[name] = raiser(library, prefix .. name) end
  for name, members in pairs(TABLES) do
    made[name] = {}
    for member in members:gmatch "%S+" do made[name][member] = raiser(library, ("%s%s.%s"):format(prefix, name, member)) end
  end
  for _, name in ipairs(OPEN_TABLES) do
    local function refuse(_, key) raiser(library, ("%s%s.%s"):format(prefix, name, tostring(key)))() end
    made[name] = setmetatable({}, { __index = refuse, __newindex = refuse })
  end
  return made
end

--- Members that are read: of a request, too.
request.VALUES = { status = true, headers_sent = true, is_subrequest = true }

function request.raise(library, name)
  raiser(library, name)()
end

return request
