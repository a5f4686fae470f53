--- What the runtime's thread hears of threads: nothing is left unheard.
local native = require "cueball.native"
local threads = require "cueball.runtime.threads"

-- A pool to which threads tell something just as it has done what its core wanted, as C has it then: nobody is woken for what was told
-- before that.
local function lends(told_while_pumping)
  local self = threads.on({}, { name = "spec", wake_open = function() return 3, 4 end })("db", {})
  local told, heard = { 1 }, {}
  local core = { shared = true, returned = { kind = native.lib.CUEBALL_RETURN_FAILED, slot = 0, conn = 0, lease = 0, text = "why" } }
  function core.next_return() return table.remove(told) ~= nil end
  self.pool = { core = core, slot_backends = setmetatable({}, { __index = function() heard[#heard + 1] = true end }) }
  function self.pool.pump()
    if told_while_pumping > 0 then told[#told + 1] = 1 end
    told_while_pumping = told_while_pumping - 1
  end
  self:hear()
  return #heard, #told
end

describe("the runtime's thread", function()
  it("hears also what it is told while it does what the core wants", function()
    for count = 0, 3 do
      local heard, left = lends(count)
      assert.equal(1 + count, heard)
      assert.equal(0, left)
    end
  end)
end)
