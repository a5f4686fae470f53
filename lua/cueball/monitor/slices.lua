--- Gives way now and then in what takes long: a thousand pools take a worker a quarter of a second, in which it would answer nobody.
--
--   local pause = slices.of(host)
--   for … do work() pause() end        gives way now and then
local slices = {}

local SLICE_NS = 5e6

--- A pause that gives no way: for those who cannot wait.
function slices.none() end

--- @param host its now and sleep are used
-- @return function(): to be called, in a task, after each piece of work
function slices.of(host)
  local began = host.now()
  return function()
    if host.now() - began < SLICE_NS then return end
    host.sleep(1)
    began = host.now()
  end
end

return slices
