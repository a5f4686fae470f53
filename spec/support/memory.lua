--- What this process holds: what malloc gave out and nobody has freed, and Lua's heap.
--
--   memory.held_kb() → KB
--   memory.heap_kib() → KiB               Lua's heap, when what is garbage is gone
--   memory.least_growth(sizes)            of a list of such sizes: by how much it has grown where it grew least between two of them
--   memory.least_growth_kib(rounds, fn)   calls fn() so often → by how many KiB Lua's heap has grown in the round in which it grew least:
--                                         what leaks grows in each, what is compiled on the way in some
--
-- Not resident memory: what is freed stays resident for as long as malloc, or a sanitizer's quarantine, keeps it.
local ffi = require "ffi"

local memory = {}

-- Declarations outlive the module, which each file of specs loads anew.
if not pcall(ffi.typeof, "struct cueball_spec_mallinfo") then ffi.cdef [[
  struct cueball_spec_mallinfo { size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost; };
  struct cueball_spec_mallinfo cueball_spec_mallinfo2(void) __asm__("mallinfo2");
  size_t cueball_spec_allocated(void) __asm__("__sanitizer_get_current_allocated_bytes");
]] end

-- AddressSanitizer brings a malloc of its own.
local is_sanitized, allocated = pcall(function() return ffi.C.cueball_spec_allocated end)

local function malloced()
  if is_sanitized then return tonumber(allocated()) end
  local info = ffi.C.cueball_spec_mallinfo2()
  return tonumber(info.uordblks) + tonumber(info.hblkhd)
end

function memory.held_kb()
  return malloced() / 1024 + collectgarbage "count"
end

function memory.heap_kib()
  for _ = 1, 3 do collectgarbage() end
  return collectgarbage "count"
end

function memory.least_growth(sizes)
  local least = math.huge
  for index = 2, #sizes do least = math.min(least, sizes[index] - sizes[index - 1]) end
  return least
end

function memory.least_growth_kib(rounds, fn)
  local sizes = { memory.heap_kib() }
  for _ = 1, rounds do
    fn()
    sizes[#sizes + 1] = memory.heap_kib()
  end
  return memory.least_growth(sizes)
end

return memory
