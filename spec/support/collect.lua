--- Collects all that nothing refers to. What the compiler made of functions that ran often refers to what they saw, such as the pool
-- of a closure; it is thrown away first, or an object would be kept in one run of a hundred.
return function()
  jit.flush()
  for _ = 1, 4 do collectgarbage() end
end
