--- A busted output handler: busted's plain one, and the counts for spec/run in the file $CUEBALL_TALLY.
--
-- The file has three lines: passed, failed (errors included), and the name of the spec that is running, empty at the
-- orderly end. It is written before each spec, so that a crash can be told from an end, and by name.
--
-- With $CUEBALL_SLOWEST=N, the N files that took longest are listed at the end.

local uv = require "luv"

--- Adds up what each file took, to print it at the end of the run.
local function list_slowest(busted, number)
  local files, began = {}, nil
  busted.subscribe({ "file", "start" }, function()
    began = uv.hrtime()
    return nil, true
  end)
  busted.subscribe({ "file", "end" }, function(file)
    files[#files + 1] = { name = file.name, seconds = (uv.hrtime() - began) / 1e9 }
    return nil, true
  end)
  busted.subscribe({ "suite", "end" }, function()
    table.sort(files, function(a, b) return a.seconds > b.seconds end)
    for i = 1, math.min(number, #files) do print(("%6.1f s  %s"):format(files[i].seconds, files[i].name)) end
    return nil, true
  end)
end

return function(options)
  local busted = require "busted"
  local handler = require "busted.outputHandlers.plainTerminal"(options)
  local path = os.getenv "CUEBALL_TALLY"

  if os.getenv "CUEBALL_SLOWEST" then list_slowest(busted, tonumber(os.getenv "CUEBALL_SLOWEST")) end

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
  -- What failed is told at once, too: a run that is killed has no end at which busted would tell it.
  local function tell(element, _, message)
    io.stderr:write("\nfailed: ", handler.getFullName(element), ": ", tostring(message), "\n")
    return nil, true
  end
  busted.subscribe({ "failure" }, tell)
  busted.subscribe({ "error" }, tell)
  busted.subscribe({ "test", "end" }, function()
    return write "between specs"
  end)
  busted.subscribe({ "suite", "end" }, function()
    uv.run "nowait"   -- luv before 1.45 crashes at exit if a handle is closing still
    return write ""
  end)

  return handler
end
