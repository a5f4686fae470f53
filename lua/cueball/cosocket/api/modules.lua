--- Modules that come with ngx_lua, for its client libraries on other hosts: ngx.semaphore, ngx.re, ngx.base64, and what there is of
-- resty.core, which is nginx's way to have its API.
local ffi = require "ffi"

local modules = {}

local VERSION = "0.1.25"

local function is_pcre_option(option)
  return option == "jit_stack_size"
end

local function regular_expressions()
  local re = require "cueball.cosocket.api.re"
  return {
    version = VERSION, split = re.split,
    opt = function(option)
      if not is_pcre_option(option) then error("unrecognized option name", 2) end -- what is too much for it is matched without
    end,
  }
end

local function new_table(...)
  local ok, make = pcall(require, "table.new")
  return ok and make(...) or {}
end

local function clear_table(given)
  for key in pairs(given) do given[key] = nil end
end

-- What libraries take from resty.core.base: tables and buffers.
local function core_base()
  local size = 4096
  local buffer
  local pointer = ffi.new "size_t[1]"
  return {
    version = VERSION, new_tab = new_table, clear_tab = clear_table, get_size_ptr = function() return pointer end,
    get_string_buf_size = function() return size end,
    set_string_buf_size = function(given) size, buffer = given, nil end,
    get_string_buf = function(wanted, is_own)
      if wanted > size or is_own then return ffi.new("char[?]", wanted) end
      buffer = buffer or ffi.new("char[?]", size)
      return buffer
    end,
    allows_subsystem = function() end,
    FFI_OK = 0, FFI_ERROR = -1, FFI_AGAIN = -2, FFI_BUSY = -3, FFI_DONE = -4, FFI_DECLINED = -5, FFI_NO_REQ_CTX = -100,
    FFI_BAD_CONTEXT = -101,
  }
end

-- Certificates and keys stay what they are: sockets of other hosts take PEM (setclientcert).
local function certificates()
  local function pem(what)
    return function(text)
      if type(text) == "string" and text:find("-----BEGIN ", 1, true) then return text end
      return nil, "no " .. what .. " in PEM"
    end
  end
  return { version = VERSION, parse_pem_cert = pem "certificate", parse_pem_priv_key = pem "private key" }
end

-- resty.core.regex for those who go around `re`: a compiled expression, and what it has found.
local function core_regex()
  local re, pcre = require "cueball.cosocket.api.re", require "cueball.cosocket.api.pcre"
  return {
    version = VERSION,
    re_match_compile = function(pattern, options)
      local regex, message = pcre.regex(pattern, options or "")
      if not regex then return nil, message end
      return regex, true, 0
    end,
    collect_captures = function(regex, groups, subject, _, found) return re.captures(regex, subject, groups, found) end,
    destroy_compiled_regex = function() end,
    is_regex_cache_empty = function() return false end,
  }
end

local MAKERS = {
  ["ngx.ssl"] = certificates,
  ["resty.core.regex"] = core_regex,
  ["ngx.semaphore"] = function(own) return own.threads.semaphore end,
  ["ngx.re"] = regular_expressions,
  ["ngx.base64"] = function()
    local made = { version = VERSION }
    for name, fn in pairs(require("cueball.cosocket.api.base64").for_urls) do made[name] = fn end
    return made
  end,
  ["resty.core.base"] = core_base,
  ["resty.core.time"] = function(own)
    local now = own.host.now
    return {
      version = VERSION,
      monotonic_msec = function() return math.floor(now() / 1e6) end,
      monotonic_time = function() return math.floor(now() / 1e6) / 1000 end,
    }
  end,
}

-- They only fill the API, which is there.
local function filled() return { version = VERSION, _VERSION = VERSION } end
MAKERS["resty.core"] = filled
for name in ("base64 ctx exit hash misc param phase response shdict socket time uri utils var worker coroutine"):gmatch "%S+" do
  MAKERS["resty.core." .. name] = MAKERS["resty.core." .. name] or filled
end

--- Is it a module of nginx's, which is never loaded from a file?
function modules.is_own(name)
  return MAKERS[name] ~= nil or name:find "^ngx%." ~= nil or name:find "^resty%.core%." ~= nil
end

--- @param own of cueball.cosocket.api
-- @return the module; nil: it is not there outside of nginx
function modules.make(own, name)
  local make = MAKERS[name]
  return make and make(own)
end

return modules
