--- What resolvers and connection factories were made of. Two that were made of the same do the same, whatever functions they consist of:
-- by that a script that is loaded anew knows whether its pools have other ones than before (docs/reload.md).
--
-- It is no field of theirs: who dumps a factory does not dump its password.
local made_of = {}

local known = setmetatable({}, { __mode = "k" })

--- A resolver or a factory was made.
-- @param made    it: a table
-- @param what    by whom: "cueball.connection.tcp"
-- @param options what it was given
-- @param free    nil; or a set of names: options that connections which are open do not know
-- @return made
function made_of.note(made, what, options, free)
  local members = {}
  for name, value in pairs(made) do members[name] = value end
  known[made] = { what = what, options = options, free = free or {}, members = members }
  return made
end

--- What something was made of.
-- @return { what =, options =, free =, members = what it consisted of then }; nil: nobody has said
function made_of.of(made)
  return known[made]
end

return made_of
