--- The core's options for specs: read from the core's own list, written by name, past any check.
--
--     local core_options = require "spec.support.core_options"
--     core_options.options { max_connections = 2, ["recovery.connect.delay_ms"] = 5 }    a cueball_options
--     core_options.recovery({ attempts = 2 }, { max_connections = 2 })                   the options with every operation's recovery

local native = require "cueball.native"
local with = require "spec.support.with"
local ffi, lib = native.ffi, native.lib

local core_options = {}

--- name -> { kind =, offset =, min =, max =, initial =, may_be_none =, choices = }, and a list of the names.
local function describe_options()
  local found, option = {}, ffi.new "cueball_option"
  local index = 0
  while lib.cueball_option_describe(index, option) do
    local name = ffi.string(option.name)
    found[name] = {
      kind = option.kind, offset = option.offset, min = option.min, max = option.max, initial = option.initial,
      may_be_none = option.may_be_none, choices = option.choices ~= nil and ffi.string(option.choices) or nil,
    }
    found[#found + 1] = name
    index = index + 1
  end
  return found
end

core_options.descriptors = describe_options()

local CTYPES = { [0] = "uint32_t *", "double *", "double *", "int32_t *", "double *" }

--- Writes one option, past any check; math.huge is "none".
function core_options.write(options, name, value)
  local option = assert(core_options.descriptors[name], "no option " .. name)
  if option.choices and type(value) == "string" then
    local position = 0
    for choice in option.choices:gmatch "%S+" do
      if choice == value then
        value = position
      end
      position = position + 1
    end
  end
  if option.kind == 0 and value == math.huge then
    value = 0xffffffff
  end
  ffi.cast(CTYPES[option.kind], ffi.cast("char *", options) + option.offset)[0] = value
end

--- The defaults with some changes, a copy of `base` if there is one. Underscores in names of recovery are dots:
-- { max_connections = 2, ["recovery.connect.delay_ms"] = 5 }.
function core_options.options(changes, base)
  local options = ffi.new "cueball_options"
  if base then
    ffi.copy(options, base, ffi.sizeof "cueball_options")
  else
    lib.cueball_options_init_sized(options, ffi.sizeof(options))
  end
  for name, value in pairs(changes or {}) do
    core_options.write(options, name, value)
  end
  return options
end

local OPERATIONS = { "default", "initial", "connect" }

--- Every operation's recovery at once, beside the options.
function core_options.recovery(values, options)
  options = with(options)
  for name, value in pairs(values) do
    for _, operation in ipairs(OPERATIONS) do
      options["recovery." .. operation .. "." .. name] = value
    end
  end
  return options
end

return core_options
