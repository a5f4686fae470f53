--- A prompt without a terminal, in virtual time.
--
--   local prompt = require("spec.support.prompt").new { seed = 1 }
--   prompt:type "1 + 1"         submits a line → "done" or "incomplete"
--   prompt:said()               what was printed since the last call, as text: errors with "! " before them, notes with "# "
--   prompt:close()
local hosts = require "cueball.host"
local registry = require "cueball.pool.registry"
local sessions = require "cueball.console.session"
local sim = require "cueball.host.sim"

local prompt = {}

local Prompt = {}
Prompt.__index = Prompt

local MARKS = { error = "! ", note = "# ", result = "", output = "" }

function prompt.new(given)
  local self = setmetatable({ lines = {} }, Prompt)
  self.world = sim.new { seed = given and given.seed or 1, task_errors = "log" }
  self.before = hosts.use(self.world)
  self.others = {} -- pools of before
  for _, pool in ipairs(registry.pools()) do self.others[pool] = true end
  self.session = sessions.new {
    world = self.world, is_terminal = not (given and given.is_plain), interrupts = given and given.interrupts,
    print = function(words, kind)
      for line in (words .. "\n"):gmatch "(.-)\n" do self.lines[#self.lines + 1] = MARKS[kind] .. line end
    end,
  }
  self.session.seed = given and given.seed or 1
  return self
end

--- The pools that were made since.
function Prompt:pools()
  local pools = {}
  for _, pool in ipairs(registry.pools()) do
    if not self.others[pool] then pools[#pools + 1] = pool end
  end
  return pools
end

function Prompt:type(line)
  return self.session:submit(line)
end

function Prompt:said()
  local said = table.concat(self.lines, "\n")
  self.lines = {}
  return said
end

--- Types a line → what came of it.
function Prompt:ask(line)
  self:type(line)
  return self:said()
end

function Prompt:close()
  self.session:close()
  for _, pool in ipairs(self:pools()) do self.world.spawn(function() pool:stop() end) end
  self.world.advance(31000) -- leases are waited for
  self.world.close()
  hosts.use(self.before)
end

return prompt
