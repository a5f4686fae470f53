--- A table with the members of several, the later ones first; none is changed, and nil has no members: with({ spares = 2 }, options)
return function(...)
  local all = {}
  for index = 1, select("#", ...) do
    for name, value in pairs((select(index, ...)) or {}) do all[name] = value end
  end
  return all
end
