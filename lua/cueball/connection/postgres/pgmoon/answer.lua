--- The answer of a PostgreSQL server to what was asked, received from a channel of messages.
--
-- The happy path: rows and completions come, until the server says that it is ready for the next query.
--
-- What can go wrong: an error, after which the server skips to the end of what was asked; a time-out, for which see pgmoon.lua; a COPY,
-- which would leave both ends waiting for each other: it is refused.
local text_of = require "cueball.text"
local values = require "cueball.connection.postgres.values"
local wire = require "cueball.connection.postgres.pgmoon.wire"

local answers = {}

local COPY_REFUSED = "COPY is not to be had over pgmoon: use the driver libpq"

local ON = {}

ON["T"] = function(answer, body)
  local names, oids = wire.columns(body)
  local readers, by_oid = {}, answer.settings.readers
  for index, oid in ipairs(oids) do readers[index] = by_oid[oid] or values.read_text end
  answer.current, answer.readers = { columns = names }, readers
end

ON["D"] = function(answer, body)
  local result = answer.current
  -- Readers may be the user's functions.
  local ok, row = pcall(wire.row, body, result.columns, answer.readers, answer.settings.null)
  if ok then result[#result + 1] = row else answer.unreadable = answer.unreadable or text_of.message(row) end
end

-- After these the server knows no prepared statement any more.
local FORGETS = { ["DISCARD ALL"] = true, ["DEALLOCATE ALL"] = true }

ON["C"] = function(answer, body)
  local result = answer.current or { columns = {} }
  result.command, result.affected = wire.command(body)
  if FORGETS[result.command] then
    local state = answer.channel.state
    state.statements, state.statement_order = {}, {}
  end
  answer.results[#answer.results + 1] = result
  answer.current = nil
end

-- A query without a statement in it.
ON["I"] = function(answer)
  answer.results[#answer.results + 1] = { columns = {}, command = "" }
end

ON["E"] = function(answer, body)
  answer.fields = answer.fields or wire.fields(body)
  answer.current = nil
end

ON["t"] = function(answer, body) answer.parameter_count = wire.parameter_count(body) end

-- The server wants data, and looks at nothing else until it has them, or is told that there are none.
ON["G"] = function(answer)
  answer.unsupported = COPY_REFUSED
  answer.channel:send(wire.copy_fail(COPY_REFUSED) .. (answer.is_extended and wire.SYNC or ""))
end

ON["H"] = function(answer) answer.unsupported = COPY_REFUSED end

--- @param settings { readers =, null = }
-- @param is_extended whether parse, bind and the like are sent
function answers.new(channel, settings, is_extended)
  return {
    channel = channel, settings = settings, is_extended = is_extended,
    results = {},           -- of the statements that are done
    current = nil,          -- of the one whose rows come
    readers = nil,
    fields = nil,           -- of the first error
    unsupported = nil,      -- a text
    unreadable = nil,       -- a text: what reading a value threw
    parameter_count = nil,  -- of a statement that was described
  }
end

--- Receives what is left of the answer.
-- @return true; or nil, message, name
function answers.finish(answer)
  local channel = answer.channel
  while true do
    local letter, body, name = channel:receive()
    if not letter then return nil, body, name end
    if letter == "Z" then return true end
    local on = ON[letter]
    if on then
      local ok, message = pcall(on, answer, body)
      if not ok then return channel:fail("the server sent a message that cannot be read: " .. tostring(message), "protocol") end
    end
  end
end

return answers
