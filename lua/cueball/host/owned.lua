--- What a task owns: resources that are aborted if the task is killed. The same for the tasks of all hosts.
--
-- A resource with a method `task_ended`, as sockets have it, is told as well when the task ends by itself.
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

-- What the task owns, in the order in which it came by it, so that a run that is repeated does the same again; nothing from now on.
local function take(task)
  local all, list = task.owned, {}
  task.owned = nil
  for resource in pairs(all) do list[#list + 1] = resource end
  table.sort(list, function(a, b) return all[a] < all[b] end)
  return list
end

--- The task is killed: aborts all that it owns.
-- @param call nil; or function(fn, resource): how to call each, where an error must not stop the others
function owned.abort(task, call)
  if not task.owned then return end
  for _, resource in ipairs(take(task)) do
    if call then call(abort, resource) else abort(resource) end
  end
end

--- The task has ended by itself.
-- @param heir the task that spawned it, if it is not done
function owned.finish(task, heir)
  local all = task.owned
  if not all or next(all) == nil then return end
  for _, resource in ipairs(take(task)) do
    if resource.task_ended then resource:task_ended(heir) end
  end
end

--- The sockets of the task outlive it: somebody else sees to them.
function owned.keep(task)
  local all = task.owned
  if not all then return end
  for resource in pairs(all) do
    if resource.task_ended then all[resource] = nil end
  end
end

return owned
