--- Signals to other processes, one after the other: of a signal that comes again while it waits, the system keeps one.
--
--   local signal = require "spec.support.signal"
--   signal.send(pid, "INT")      and waits until the process has taken it, or is gone
local until_true = require "spec.support.until_true"
local uv = require "luv"

local signal = {}

local NUMBERS = { INT = 2 }

-- Whether a signal waits for the process: by proc(5), in masks of 64 bits, as hexadecimal digits.
local function is_pending(pid, number)
  local file = io.open(("/proc/%d/status"):format(pid))
  local status = file and file:read "*a" or ""
  if file then file:close() end
  if status:find "\nState:%s+[ZX]" then return false end
  for mask in status:gmatch "\n%a+Pnd:%s+(%x+)" do
    if math.floor(tonumber(mask:sub(-8), 16) / 2 ^ (number - 1)) % 2 == 1 then return true end
  end
  return false
end

function signal.send(pid, name)
  uv.kill(pid, NUMBERS[name])
  until_true(function() return not is_pending(pid, NUMBERS[name]) end, function() return "it does not take the signal" end)
end

return signal
