--- The `ngx` of client libraries that were written for nginx's ngx_lua, on any other host.
--
--   local own = api.of(host)             what all libraries of a host share: clocks, threads, dictionaries
--   local view = api.view(own, "resty.http")     the table that the library knows by that name
--
-- A view belongs to one library: what the library writes into it, nobody else sees, and what is not there raises an error that names the
-- library. Its members are found when they are first asked for.
local constants = require "cueball.cosocket.api.constants"
local log = require "cueball.log"
local misuse = require "cueball.misuse"
local request = require "cueball.cosocket.api.request"

local api = {}

local PREFIX = "ngx."

-- Members that come and go with versions of ngx_lua: libraries look whether they are there.
local OPTIONAL = {}
for name in ("run_worker_thread ssl process pipe balancer errlog _phase_ctx get_today IS_CLI resolver ocsp upstream stream _VERSION")
  :gmatch "%S+" do
  OPTIONAL[name] = true
end

--- What libraries take for a null: that of cjson, if it is there, as both are one value in nginx.
local function find_null()
  local ok, cjson = pcall(require, "cjson")
  if ok and type(cjson) == "table" and cjson.null ~= nil then return cjson.null end
  return setmetatable({}, { __tostring = function() return "null" end })
end

api.null = find_null()

-- ------------------------------------------------------------- members --

local LEVELS = { [0] = "error", "error", "error", "error", "error", "warn", "info", "info", "debug" }

-- A value as nginx logs it.
local function word_of(value)
  if value == api.null then return "null" end
  return tostring(value)
end

local function log_of(host, library)
  return function(level, ...)
    local name = LEVELS[level]
    if not name then misuse.raise("log: bad log level: " .. tostring(level)) end
    local words = { ... }
    for index = 1, select("#", ...) do words[index] = word_of(words[index]) end
    log.say(host, name, library .. ": " .. table.concat(words), "library_says", { cause = library })
  end
end

local function worker_of(host)
  local workers = host.workers
  return {
    id = function() return workers.number() or 0 end,
    pid = function() return workers.pid() end,
    pids = function() return { workers.pid() } end,
    count = function() return workers.count() end,
    exiting = function() return workers.is_exiting() end,
  }
end

local function sockets_of(host)
  local function tcp() return host.tcp() end
  local function connect(...)
    local made = tcp()
    local ok, message = made:connect(...)
    if not ok then return nil, message end
    return made
  end
  return { tcp = tcp, stream = tcp, connect = connect, udp = function() return host.udp() end }
end

local function config()
  return {
    debug = false, subsystem = "http", ngx_lua_version = 10023, nginx_version = 1022001,
    prefix = function() return (os.getenv "PWD" or ".") .. "/" end,
    nginx_configure = function() return "" end,
  }
end

local function phase() return "timer" end

local TEXT_MODULES = { "cueball.cosocket.api.uri", "cueball.cosocket.api.base64", "cueball.cosocket.api.digest" }

-- Groups of members by what loads them.
local function load_texts()
  local found = {}
  for _, name in ipairs(TEXT_MODULES) do
    for member, value in pairs(require(name)) do
      if type(value) == "function" then found[member] = value end
    end
  end
  return found
end

local TEXTS = "escape_uri unescape_uri encode_args decode_args quote_sql_str encode_base64 decode_base64 md5 md5_bin sha1_bin hmac_sha1 "
  .. "crc32_short crc32_long"
local TIMES = "now time today localtime utctime update_time http_time cookie_time parse_http_time"

local function with(list, names, group)
  for name in names:gmatch "%S+" do list[name] = function(own) return own[group][name] end end
end

-- How to find a member: function(own).
local FINDERS = {
  null = function() return api.null end,
  socket = function(own) return sockets_of(own.host) end,
  worker = function(own) return worker_of(own.host) end,
  shared = function(own) return require("cueball.cosocket.api.shared").of(own.host) end,
  re = function()
    local re = require "cueball.cosocket.api.re"
    return { match = re.match, find = re.find, gmatch = re.gmatch, sub = re.sub, gsub = re.gsub }
  end,
  config = config,
  get_phase = function() return phase end,
  get_raw_phase = function() return phase end,
}
with(FINDERS, "sleep thread timer", "threads")
with(FINDERS, TEXTS, "texts")
with(FINDERS, TIMES, "times")
for name, number in pairs(constants) do FINDERS[name] = function() return number end end

local GROUPS = {
  threads = function(own) return require("cueball.cosocket.api.thread").of(own.host) end,
  times = function(own) return require("cueball.cosocket.api.time").of(own.host) end,
  texts = load_texts,
  members = function() return {} end,
}

--- @param host complete
-- @return what its libraries share
function api.of(host)
  return setmetatable({ host = host }, { __index = function(own, name)
    local load = GROUPS[name]
    if not load then return nil end
    own[name] = load(own)
    return own[name]
  end })
end

-- One value for all libraries of the host; nil: there is none of that name.
local function member(own, name)
  local value = own.members[name]
  if value == nil and FINDERS[name] then
    value = FINDERS[name](own)
    own.members[name] = value
  end
  return value
end

-- --------------------------------------------------------------- views --

local function refuse(library, name)
  misuse.raise(("%s: %s is not there outside of nginx"):format(library, name))
end

local OPEN = { config = true, shared = true, var = true, header = true, arg = true } -- no names of functions of ours

-- A table of members, as one library sees it.
local function view_of_table(library, path, members)
  return setmetatable({}, { __index = function(view, name)
    local value = members[name]
    if value == nil then refuse(library, path .. "." .. tostring(name)) end
    rawset(view, name, value)
    return value
  end })
end

--- @param own of api.of
-- @param library its name, for messages and the log
-- @return what the library has as its `ngx`
function api.view(own, library)
  local of_request = request.members(library, PREFIX)
  local library_log = log_of(own.host, library)
  local function find(view, name)
    if name == "ctx" then return own.threads.context().value end
    if name == "log" then return library_log end
    if request.VALUES[name] then request.raise(library, PREFIX .. name) end
    local value = of_request[name]
    if value == nil then value = member(own, name) end
    if value == nil then
      if OPTIONAL[name] then return nil end
      refuse(library, PREFIX .. tostring(name))
    end
    if type(value) == "table" and value ~= api.null and not OPEN[name] then
      value = view_of_table(library, PREFIX .. name, value)
    end
    rawset(view, name, value)
    return value
  end
  return setmetatable({}, { __index = find, __newindex = function(view, name, value)
    if name == "ctx" then
      own.threads.context().value = value
    else
      rawset(view, name, value)
    end
  end })
end

return api
