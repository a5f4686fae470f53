--- What a task owns: resources that are aborted if the task is killed. The same for the tasks of all hosts.
local owned = {}

--- The task owns it from now on.
-- @param resource has abort(self)
function owned.add(task, resource)
  local all = task.owned
  if not all then
    all = {}
    task.owned = all
  end
  local order = (task.owned_count or 0) + 1
  task.owned_count = order
  all[resource] = order
end

--- The task does not own it any more.
function owned.remove(task, resource)
  if task.owned then task.owned[resource] = nil end
end

local function abort(resource)
  resource:abort()
end

--- The task is killed: aborts all that it owns, in the order in which it came by them, so that a run that is repeated does the same again.
-- @param call nil; or function(fn, resource): how to call each, where an error must not stop the others
function owned.abort(task, call)
  local all, list = task.owned, {}
  task.owned = nil
  if not all then return end
  for resource in pairs(all) do list[#list + 1] = resource end
  table.sort(list, function(a, b) return all[a] < all[b] end)
  for _, resource in ipairs(list) do
    if call then call(abort, resource) else abort(resource) end
  end
end

return owned
