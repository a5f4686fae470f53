--- The order of the core's files: each calls and includes only what stands before it, so that there is no circle.

local root = os.getenv "CUEBALL_ROOT" or "."
local build = os.getenv "CUEBALL_BUILD" or root .. "/build"

-- Lowest first; a line is a layer, and within one the order counts too. A new file takes its place here.
local ORDER = [[
  kit/list kit/memory kit/check kit/sized kit/sort kit/random kit/histogram kit/timers kit/table kit/backoff kit/trace

  pool/state pool/names pool/plan pool/health
  pool/options pool/event pool/action pool/explain pool/stats
  pool/churn pool/slow_start pool/priority pool/overload pool/latency pool/preference pool/demand pool/outlier pool/probe pool/evidence
  pool/idle pool/slot
  pool/life pool/backend pool/check pool/arrange pool/conn
  pool/lease pool/claim
  pool/meet pool/owner
  pool/turn
  pool/pool pool/input pool/manage
  pool/copy pool/preview

  tracker/state tracker/text tracker/candidate tracker/accepted
  tracker/lookup tracker/name tracker/srv
  tracker/schedule tracker/search tracker/failure
  tracker/attempt tracker/publish tracker/action tracker/options tracker/check
  tracker/tracker
]]

-- What calls upwards or in circles still: it may only get less.
local LEFT = {}

local function lines_of(command)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local lines = {}
  for line in pipe:lines() do lines[#lines + 1] = line end
  pipe:close()
  return lines
end

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

--- What nm says of object files, "FILE.c.o: ADDRESS KIND SYMBOL": who calls whom, "a calls b: symbol", a and b without their ends.
local function calls_of(lines)
  local defined, found = {}, {}
  for _, line in ipairs(lines) do
    local object, kind, symbol = line:match "^(.-)%.c%.o:%x*%s+(%a)%s+(%S+)$"
    if object and kind:upper() == kind and kind ~= "U" then defined[symbol] = object end
  end
  for _, line in ipairs(lines) do
    local object, symbol = line:match "^(.-)%.c%.o:%s+U%s+(%S+)$"
    local other = object and defined[symbol]
    if other and other ~= object then found[#found + 1] = { object, other, symbol } end
  end
  return found
end

--- What the text of a file includes of the core.
local function includes_of(path, text, known)
  local found = {}
  local folder, name = path:match "^(.-)([^/]+)%.[ch]$"
  for included in text:gmatch '#include "([%w_/]+)%.h"' do
    local other = known[folder .. included] and folder .. included or known[included] and included
    if other and other ~= folder .. name then found[#found + 1] = { folder .. name, other, "included" } end
  end
  return found
end

--- Those that go upwards: "a -> b: symbol".
local function upward(uses, rank)
  local found, seen = {}, {}
  for _, one in ipairs(uses) do
    local from, to = rank[one[1]], rank[one[2]]
    local text = ("%s -> %s: %s"):format(one[1], one[2], one[3])
    if not (from and to and to < from) and not seen[text] and not LEFT[text] then
      found[#found + 1], seen[text] = text, true
    end
  end
  table.sort(found)
  return found
end

local function ranks(order)
  local rank, count = {}, 0
  for name in order:gmatch "%S+" do
    count = count + 1
    rank[name] = count
  end
  return rank
end

describe("the check of the order", function()
  it("refuses a call upwards, a circle, an include upwards, and a file without a place", function()
    local rank = ranks "kit/list pool/slot pool/meet"
    local lines = {
      "pool/slot.c.o:0000000000000000 T cueball__slot_set", "pool/slot.c.o:                 U cueball__meet_offer",
      "pool/slot.c.o:                 U memcpy", "pool/meet.c.o:0000000000000010 T cueball__meet_offer",
      "pool/meet.c.o:                 U cueball__slot_set", "pool/new.c.o:                 U cueball__slot_set",
      "pool/meet.c.o:0000000000000040 t slot_set",
    }
    assert.same({ "pool/new -> pool/slot: cueball__slot_set", "pool/slot -> pool/meet: cueball__meet_offer" },
      upward(calls_of(lines), rank))
    assert.same({ "pool/slot -> pool/meet: included" },
      upward(includes_of("pool/slot.h", '#include "meet.h"\n#include "kit/list.h"\n#include <stdint.h>', rank), rank))
  end)
end)

describe("the core", function()
  local rank = ranks(ORDER)

  local function files(pattern)
    return lines_of(("cd '%s/src/core' && find kit pool tracker -name '%s' -type f | sort"):format(root, pattern))
  end

  it("has a place for each file, and a file for each place", function()
    local there, missing = {}, {}
    for _, path in ipairs(files "*.[ch]") do there[path:match "^(.-)%.[ch]$"] = true end
    for name in pairs(there) do
      if not rank[name] then missing[#missing + 1] = name end
    end
    for name in pairs(rank) do
      if not there[name] then missing[#missing + 1] = name .. " is no file" end
    end
    table.sort(missing)
    assert.same({}, missing)
  end)

  it("calls nothing that stands above the caller", function()
    local objects = table.concat(files "*.c", ".o ") .. ".o"
    local calls = calls_of(lines_of(("cd '%s/CMakeFiles/cueball_core.dir/src/core' && nm -A %s"):format(build, objects)))
    assert.is_true(#calls > 200)
    assert.same({}, upward(calls, rank))
  end)

  it("includes nothing that stands above who includes it", function()
    local uses = {}
    for _, path in ipairs(files "*.[ch]") do
      for _, one in ipairs(includes_of(path, read(root .. "/src/core/" .. path), rank)) do uses[#uses + 1] = one end
    end
    assert.is_true(#uses > 100)
    assert.same({}, upward(uses, rank))
  end)
end)
