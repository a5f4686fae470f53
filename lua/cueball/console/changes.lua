--- What was changed through consoles: who did it, when, what it was before, and the line that undoes it. The last 200.
local changes = {}

local KEPT = 200

local list, count = {}, 0

--- A change was made.
-- @param change { who = text, what = text, pool = name, old =, new =, undo = a line, or nil: it cannot be undone, time_s = }
function changes.note(change)
  count = count + 1
  change.number = count
  list[#list + 1] = change
  if #list > KEPT then table.remove(list, 1) end
  return change
end

--- A change that :undo of a session can take back: the last 200 of each.
-- @param undoing of the session
-- @param change  { what = text, undo = function() → true; or nil, message, as_lua = nil, or function(session) → text }
function changes.note_undo(undoing, change)
  undoing[#undoing + 1] = change
  if #undoing > KEPT then table.remove(undoing, 1) end
end

--- The changes, oldest first, as copies: { number, time_s, who, what, pool, old, new, undo }.
function changes.list()
  local copies = {}
  for index, change in ipairs(list) do
    local copy = {}
    for name, value in pairs(change) do copy[name] = value end
    copies[index] = copy
  end
  return copies
end

return changes
