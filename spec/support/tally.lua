--- A busted output handler: busted's plain one, and the counts for spec/run in the file $CUEBALL_TALLY.
--
-- The file has three lines: passed, failed (errors included), and the name of the spec that is running, empty at the
-- orderly end. It is written before each spec, so that a crash can be told from an end, and by name.

return function(options)
  local busted = require "busted"
  local handler = require "busted.outputHandlers.plainTerminal"(options)
  local path = os.getenv "CUEBALL_TALLY"

  local function write(running)
    if path then
      local file = assert(io.open(path, "w"))
      file:write(handler.successesCount, "\n", handler.failuresCount + handler.errorsCount, "\n",
        (running:gsub("%s+", " ")), "\n")
      file:close()
    end
    return nil, true
  end

  busted.subscribe({ "suite", "start" }, function()
    return write "the loading of the specs"
  end)
  busted.subscribe({ "test", "start" }, function(element)
    return write(handler.getFullName(element))
  end)
  busted.subscribe({ "test", "end" }, function()
    return write "between specs"
  end)
  busted.subscribe({ "suite", "end" }, function()
    return write ""
  end)

  return handler
end
