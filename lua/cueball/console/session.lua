--- What is typed at a prompt, and what comes of it. No I/O: whoever has the terminal, or the socket, calls it and is called.
--
--   local session = require("cueball.console.session").new { host = host, print = function(text, kind) … end }
--   session:submit "pool:stats()"     in a task: waits until it is over → "done"; or "incomplete": it wants more lines
--   session:interrupt()               from elsewhere: what was submitted is over, also if it waits; if nothing was, what goes on beside is
--   session:complete(line, position)  → list of { text =, note = }, and where the word begins that each of them stands for
--   session:prompt(is_more)           what stands before a line
--
-- What is submitted is Lua, ":name argument" (a command, see cueball.console.commands), or "?name" (the manual). Lua runs in a task of its
-- own, so it may wait. Results are numbered: `_1`, `_2`, … have them. Variables stay, locals too (cueball.console.chunk).
local chunk = require "cueball.console.chunk"
local commands = require "cueball.console.commands"
local completion = require "cueball.console.complete"
local environment = require "cueball.console.environment"
local manual = require "cueball.console.manual"
local misuse = require "cueball.misuse"
local options = require "cueball.options"
local show = require "cueball.console.show"
local text = require "cueball.text"
local verbs = require "cueball.console.verbs"

local session = {}

local RESULTS_MAX = 100   -- of `_1`, `_2`, …: an older one is forgotten
local RECORDED_MAX = 10000 -- lines for :script
-- Bytes that are compiled to find out where inputs end: a few hundred lines of one function, in some 50 ms. What is longer is taken for
-- one input.
local TRIED_MAX = 2 * 1024 * 1024

local Session = {}
Session.__index = Session

local OPTIONS = {
  environment = options.of_type("table", "a table of globals"),
  host = options.of_type("table", "a host"),
  world = options.of_type("table", "a world of cueball.host.sim"),
  print = options.of_type("function", "a function(text, kind)"),
  tell = options.of_type("function", "a function(text, kind)"),
  follows = options.of_type("table", "a table of limits"),
  bytes_max = options.whole(1000, 2 ^ 53),
  results_max = options.whole(1, 10000),
  is_terminal = options.of_type("boolean", "true or false"),
  commands = options.of_type("table", "a list of commands"),
  adopt = options.of_type("function", "a function(chunk) → chunk"),
  call = options.of_type("function", "a function(fn, handler) → as xpcall"),
  limits = options.of_type("table", "a table of limits"),
  interrupts = options.of_type("function", "a function() → number"),
}

-- What a person need not see from inside: a task.
local function describe(host)
  return function(value)
    if type(value) ~= "table" or not host.living()[value] then return nil end
    return value.is_done and "a task that is over" or value.is_parked and "a task that waits" or "a task"
  end
end

--- Makes one.
-- @param given
--   print        function(text, kind): shows lines; kind is "result", "error", "output" (of what runs) or "note"
--   tell         function(text, kind): shows lines that come by themselves (:watch); print by default
--   follows      what of them, see cueball.console.flow: { lines_max =, events_max = }; nil: all
--   host         whose tasks run what is submitted; cueball.host() by default
--   world        a world of cueball.host.sim in its place: its time goes on while something that was submitted waits
--   environment  the globals; a new table that falls back to _G by default
--   commands     more commands, or others of the same name: rows of cueball.console.commands
--   adopt        function(chunk) → chunk: hears of each piece of Lua before it runs
--   call         calls what was submitted, as xpcall does: budgets stand here
--   limits       of what is shown, see cueball.console.show
--   interrupts   function() → how often somebody has pressed Ctrl-C: asked while virtual time goes on, where the event loop does not
--   results_max  how many results stay, as `_1`, `_2`, …; 100 by default
--   bytes_max    of a list that is shown; nil: as many as it takes
--   is_terminal  whether a person looks: then results have their numbers before them
function session.new(given)
  given = options.check("session.new", given, OPTIONS)
  if not given.print then misuse.raise "session.new: option 'print' is required" end
  local self = setmetatable({
    host = given.world or given.host or require("cueball.host").default(), world = given.world, out = given.print,
    told = given.tell or given.print, follows = given.follows or {}, bytes_max = given.bytes_max,
    results_max = given.results_max or RESULTS_MAX,
    adopt = given.adopt or function(made) return made end, call = given.call or xpcall,
    interrupts = given.interrupts or function() return 0 end,
    is_terminal = given.is_terminal or false,
    is_over = false, status = 0,   -- after :quit
    failed = 0,                    -- so many submissions have thrown
    count = 0,                     -- of results
    submitted = 0,
    recorded = {},                 -- what went well: { text =, is_expression = }
    running = nil,                 -- { task =, waiter =, result =, is_interrupted = }
    undoing = {},                  -- what :undo goes back to, see cueball.console.commands
    endings = {},                  -- by name: functions that end what goes on beside (:watch)
  }, Session)
  self.limits = setmetatable({ describe = describe(self.host) }, { __index = given.limits or show.LIMITS })
  self.environment = given.environment or environment.new(self)
  self.commands = commands.all(given.world ~= nil, verbs.commands({ who = "prompt", undoing = self.undoing }, true), given.commands)
  return self
end

--- Shows a text, as lines of their own.
function Session:print(words, kind)
  self.out(words, kind or "output")
end

--- Shows a text that comes by itself.
function Session:tell(words, kind)
  self.told(words, kind or "output")
end

--- What stands before a line.
-- @param is_more whether it continues an input
function Session:prompt(is_more)
  local mark = is_more and ">> " or "> "
  if not self.world then return mark end
  return ("[%s] %s"):format(commands.duration_text(self.world.time_ms()), mark)
end

-- -------------------------------------------------------------- what comes --

-- Whether a function gave what functions of cueball give for a failure.
local function is_failure(count, values)
  return count >= 2 and values[1] == nil and type(values[2]) == "string"
end

--- Shows results, and gives them their numbers. A failure (nil, message, name) has none.
-- @param count of the values
function Session:show_results(count, values)
  if count == 0 or count == 1 and values[1] == nil then return end
  local shown = show.list(count, values, self.limits)
  if is_failure(count, values) then return self:print(shown, "error") end
  local names = {}
  for index = 1, count do
    self.count = self.count + 1
    names[index] = "_" .. self.count
    rawset(self.environment, names[index], values[index])
    rawset(self.environment, "_" .. self.count - self.results_max, nil)
  end
  self:print(self.is_terminal and table.concat(names, ", ") .. " = " .. shown or shown, "result")
end

-- The traceback as far as it is of what was typed and what that called.
local function outer_part(trace)
  trace = trace:match "^(.-)\n%s+%[C%]: in function 'xpcall'\n" or trace
  local head, frames = trace:match "^(.*)\nstack traceback:\n(.*)$"
  if not head then return trace end
  local kept, callers = {}, 0
  for frame in (frames .. "\n"):gmatch "(.-)\n" do
    local is_own = frame:find("cueball/console/", 1, true) or frame:find("cueball/cli/", 1, true) or frame:find "in function 'call'$"
    if frame ~= "" and not is_own and not frame:find "^%s+%[C%]: in function 'error'$" then
      kept[#kept + 1] = frame:gsub("(input %d+:%d+): in function 'made'$", "%1")
    end
    if not frame:find "^%s+%[C%]" and not is_own then callers = callers + 1 end
  end
  if callers <= 1 then return head end
  return head .. "\n" .. table.concat(kept, "\n")
end

-- For xpcall: what to tell, and a table that was thrown as what it is.
local function traced(thrown)
  local words = type(thrown) == "table" and show.value(thrown) or text.of(thrown)
  return outer_part(text.clean_lines(debug.traceback(words, 2)))
end

local function pack(...)
  return { n = select("#", ...), ... }
end

-- ----------------------------------------------------------------- running --

-- In virtual time: time goes on, event by event, until what was submitted is over or interrupted.
local STALL_MS = 86400000

local function drive(self, running)
  local world = self.world
  world.settle()
  local parked, parked_at, interrupts = nil, world.time_ms(), self.interrupts()
  while not running.result and not running.task.is_done and not running.is_interrupted do
    local count = running.task.parked_count
    if count ~= parked then parked, parked_at = count, world.time_ms() end
    if self.interrupts() ~= interrupts then return end
    local is_endless = not running.task.deadline and world.time_ms() - parked_at >= STALL_MS
    if is_endless or not world.step() then
      running.why = is_endless and "it has waited for a day of virtual time for something that does not come"
        or "it waits, and nothing is left that could happen"
      return
    end
  end
end

-- Runs fn in a task of its own, and waits until that is over.
-- @return what xpcall returned, packed; nil: it was interrupted
local function run(self, fn)
  local host = self.host
  local running = { waiter = not self.world and host.waiter() or nil, result = nil, is_interrupted = false, why = nil }
  self.running = running
  running.task = host.spawn(function()
    running.task = host.current()
    running.result = pack(self.call(fn, traced))
    if running.waiter then running.waiter:wake() end
  end)
  if self.world then
    drive(self, running)
  elseif not running.result then
    running.waiter:wait()
  end
  self.running = nil
  if not running.result and running.task and not running.task.is_done then host.kill(running.task) end
  return running.result, running.why
end

local function end_beside(self)
  local keys = {}
  for key in pairs(self.endings) do keys[#keys + 1] = key end
  table.sort(keys)
  for _, key in ipairs(keys) do self.endings[key]() end
  return keys
end

--- Ends what was submitted and is not over: its task is killed. What that has spawned goes on. If nothing was submitted, ends what goes on
-- beside the prompt.
-- @return whether there was something
function Session:interrupt()
  local running = self.running
  if not running then
    local keys = end_beside(self)
    if #keys > 0 then self:tell("ended: :" .. table.concat(keys, ", :"), "note") end
    return #keys > 0
  end
  if running.result or running.is_interrupted then return false end
  running.is_interrupted = true
  if self.world then return true end
  if running.task and running.task ~= self.host.current() then self.host.kill(running.task) end
  running.waiter:wake()
  return true
end

-- @return whether it went well, and whether it had results
local function evaluate(self, fn, is_command)
  local result, why = run(self, fn)
  if not result then
    self:print(why and "interrupted: " .. why or "interrupted", "error")
  elseif not result[1] then
    self:print(text.of(result[2]), "error")
  elseif not is_command then
    self:show_results(result.n - 1, { unpack(result, 2, result.n) })
    return true, result.n > 1
  elseif result[2] == nil and result[3] ~= nil then
    self:print(text.of(result[3]), "error")
  else
    return true
  end
  self.failed = self.failed + 1
  return false
end

local function record(self, input, is_expression)
  if #self.recorded >= RECORDED_MAX then table.remove(self.recorded, 1) end
  self.recorded[#self.recorded + 1] = { text = input, is_expression = is_expression }
end

-- ":name argument" → name, argument; nil: there is no name.
local function command_of(input)
  local name, rest = input:match "^%s*:%s*([%w_]+)(.*)$"
  if name then return name, text.trimmed(rest) end
end

--- Runs a command.
-- @param input ":name argument"
-- @return true; or nil, message. It waits as the command does
function Session:command(input)
  local name, argument = command_of(input)
  local row, message = commands.find(self.commands, name or input:sub(2))
  if not row then return nil, message end
  local done, why = row.run(self, argument)
  if done == nil and why ~= nil then return nil, why end
  local lua = row.as_lua and row.as_lua(self, argument)
  if lua then record(self, lua, false) end
  return true
end

--- Compiles an input in the session.
-- @param name what messages call it; nil: by its number
-- @return a function, and whether it is an expression; or nil, "incomplete"; or nil, message
function Session:compile(input, name)
  return chunk.compile(input, name or "input " .. self.submitted + 1, self.environment, self.adopt)
end

local function first_of(input)
  return input:match "^%s*([:?])"
end

-- Whether it may be run; else it wants more lines.
local function is_finished(self, input)
  local first = first_of(input)
  if first == "?" then return true end
  if not first then return select(2, self:compile(input)) ~= "incomplete" end
  local name, argument = command_of(input)
  local row = name and commands.find(self.commands, name)
  return not (row and row.takes_lua) or select(2, self:compile(argument)) ~= "incomplete"
end

-- What is to be run one after the other: of lines that are no whole, each by itself, or with those that finish it.
-- @return a list; nil: the last one is not finished
local function pieces_of(self, input)
  local has_others = ("\n" .. input):find "\n[^%S\n]*[:?]" ~= nil
  local made, told = self:compile(input)
  if made then return { input } end
  if told == "incomplete" and not has_others then return nil end
  local pieces, pending, tried = {}, nil, 0
  for line in (input .. "\n"):gmatch "(.-)\n" do
    local piece = pending and pending .. "\n" .. line or line
    tried = tried + #piece
    if tried > TRIED_MAX then return { input } end
    if not piece:find "%S" or is_finished(self, piece) then
      pieces[#pieces + 1] = piece:find "%S" and piece or nil
      pending = nil
    else
      pending = piece
    end
  end
  return not pending and pieces or nil
end

local function submit_lua(self, input)
  local made, told = self:compile(input)
  self.submitted = self.submitted + 1
  if not made then
    self.failed = self.failed + 1
    self:print(text.clean_lines(told), "error")
    return
  end
  local is_well, has_results = evaluate(self, made)
  if is_well then record(self, input, told and has_results) end
end

local function submit_piece(self, input)
  local first, rest = input:match "^%s*([:?])(.*)$"
  if first == ":" then
    evaluate(self, function() return self:command(":" .. text.trimmed(rest)) end, true)
  elseif first == "?" then
    evaluate(self, function() return manual.show(self, text.trimmed(rest)) end, true)
  else
    submit_lua(self, input)
  end
end

--- Runs what was typed, in a task, and waits until it is over.
-- @param input one line or several; of several inputs each is run, until one fails
-- @return "done"; "incomplete": it is not finished, and was not run
function Session:submit(input)
  if self.running then misuse.raise "session:submit: something that was submitted before still runs" end
  input = input:gsub("^%s*=", "return ", 1) -- as Lua's own prompt has it
  if not input:find "%S" then return "done" end
  local pieces = pieces_of(self, input)
  if not pieces then return "incomplete" end
  local failed = self.failed
  for _, piece in ipairs(pieces) do
    if self.failed > failed or self.is_over then break end
    submit_piece(self, piece)
  end
  return "done"
end

--- Runs a file in the session, in a task, and waits until it is over.
-- @return whether it went well
function Session:run_file(path, ...)
  local made, message = loadfile(path, "bt", self.environment)
  if not made then
    self:print(text.clean_lines(message), "error")
    self.failed = self.failed + 1
    return false
  end
  local arguments = pack(...)
  self.adopt(made)
  return evaluate(self, function()
    made(unpack(arguments, 1, arguments.n))
  end)
end

--- What the word at the cursor could become.
-- @param position of the cursor: how many bytes are left of it
-- @return a list of { text =, note = or nil }, in order; and where the word begins
function Session:complete(line, position)
  return completion.complete(self, line, position)
end

--- Ends what goes on beside the prompt.
function Session:close()
  if self.running then self:interrupt() end
  end_beside(self)
end

return session
