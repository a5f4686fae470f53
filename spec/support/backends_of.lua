--- The backends of a pool that its resolver has not removed, sorted, in a line: backends_of(pool) → "10.0.0.1:80 10.0.0.2:80".
-- @param tell    nil: their keys; or function(backend) → text
-- @param between nil: a space between two
return function(pool, tell, between)
  local list = {}
  for _, backend in ipairs(pool:backends()) do
    if not backend.removed then list[#list + 1] = tell and tell(backend) or backend.key end
  end
  table.sort(list)
  return table.concat(list, between or " ")
end
