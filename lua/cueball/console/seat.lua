--- One who sits at a console: his session, what he may do, and what he may use.
--
--   local one = seat.new { host = host, allow = "read", who = "uid 1000", budget_ms = 50, output = function(text, kind) … end }
--   one:run("backends()", "table")      in a task → "done" or "incomplete", whether it went well
--   one:complete(line, position)        in a task → list, start
--   one:interrupt()
--   one:close()
local budget = require "cueball.console.budget"
local characters = require "cueball.console.editor.characters"
local listing = require "cueball.console.listing"
local log = require "cueball.log"
local readonly = require "cueball.console.readonly"
local session = require "cueball.console.session"
local text = require "cueball.text"
local verbs = require "cueball.console.verbs"

local seat = {}

local Seat = {}
Seat.__index = Seat

local OUTPUT_MAX = 64 * 1024 -- bytes of one command
local READER_RESULTS = 20    -- that stay; all that a reader keeps is counted after each command
local LIST_MAX = 60 * 1024   -- of a list, whose last rows are left out whole
local CANDIDATES_MAX = 200
-- Bytes that one command of a reader may have compiled: of lines that go on, each is tried with all before it.
local COMPILED_MAX = 512 * 1024
-- The commands of a prompt that change nothing of the program.
local HARMLESS = { help = true, time = true, quit = true, watch = true, trace = true, unwatch = true }
-- Who may only look is told of events as long as that costs the program little, however many look.
local READER_FOLLOWS, WRITER_FOLLOWS = { lines_max = 1000, together_max = 2000, events_max = 20000 }, { lines_max = 1000 }

-- Shows a text, as far as the command may say more.
local function put(self, words, kind)
  local room = OUTPUT_MAX - self.written
  self.written = self.written + #words
  if room <= 0 then
    self.unsaid = self.unsaid + #words
    return
  end
  if #words > room then
    self.unsaid = self.unsaid + #words - room
    words = characters.cut(words, room)
  end
  self.output(words, kind)
end

local function put_list(self, list, number)
  local shown, note = listing.within(list, self.form, LIST_MAX)
  put(self, shown .. (number or ""), "result")
  if note then put(self, note, "note") end
end

local function show_results(self)
  local own = self.session.show_results
  return function(of, count, values)
    if self.form ~= "table" then
      for index = 1, count do
        if listing.is(values[index]) then
          put_list(self, values[index])
        else
          put(self, listing.text(values[index], self.form), "result")
        end
      end
      return
    end
    if self.is_reader and readonly.is_too_much(values) then
      return put(self, "the result is too large to be shown, or kept; choose a part of it", "error")
    end
    if count ~= 1 or not listing.is(values[1]) then return own(of, count, values) end
    of.count = of.count + 1
    rawset(of.environment, "_" .. of.count, values[1])
    rawset(of.environment, "_" .. of.count - of.results_max, nil)
    put_list(self, values[1], self.is_terminal and ("\n-- _%d"):format(of.count) or "")
  end
end

-- What a reader has: globals of his own, few commands, functions that are bounded.
local function make_reader(self)
  self.budget = budget.new { host = self.host, ms = self.budget_ms, may_wait = false }
  local function used(...)
    self.used_ms = self.used_ms + self.budget.used_ms
    return ...
  end
  local function call(fn, handler)
    local function handle(thrown)
      readonly.outside()
      return handler(thrown)
    end
    return used(self.budget:call(fn, handle))
  end
  local made = session.new {
    host = self.host, print = function(words, kind) put(self, words, kind) end, tell = self.tell, follows = READER_FOLLOWS, call = call,
    bytes_max = LIST_MAX, results_max = READER_RESULTS,
    is_terminal = self.is_terminal,
    environment = readonly.globals(self.context, function(words) put(self, text.clean_lines(words), "output") end),
    adopt = function(chunk) return self.budget:adopt(chunk) end,
    commands = verbs.commands(self.context, false),
  }
  local compile = made.compile
  function made.compile(of, input, name)
    self.compiled = self.compiled + #input
    if self.compiled > COMPILED_MAX then return nil, "this is too long: give it in several pieces" end
    local began = self.host.now()
    local bound, message = readonly.text(input)
    if not bound then return nil, message end
    local chunk, told = compile(of, bound, name)
    self.used_ms = self.used_ms + (self.host.now() - began) / 1e6
    return chunk and readonly.adopt(chunk, function() self.budget:check() end), told
  end
  local all = made.commands
  for index = #all.names, 1, -1 do
    local name = all.names[index]
    local row = verbs.row(name)
    if not HARMLESS[name] and not (row and row.kind == "look") then
      all.by_name[name] = nil
      table.remove(all.names, index)
    end
  end
  for _, row in ipairs(verbs.rows) do
    if row.kind == "change" then -- not among the names: neither listed nor completed
      local function run() return nil, readonly.refusal(":" .. row.name) end
      all.by_name[row.name] = { name = row.name, arguments = "", help = row.help, run = run }
    end
  end
  return made
end

-- Who may write has the program's own globals, and the verbs beside them; where the program has a global of that name, it is that.
local function make_writer(self)
  self.budget = budget.new { host = self.host, ms = self.budget_ms }
  local made = session.new {
    host = self.host, print = function(words, kind) put(self, words, kind) end, tell = self.tell, follows = WRITER_FOLLOWS,
    bytes_max = LIST_MAX,
    is_terminal = self.is_terminal,
    call = function(fn, handler) return self.budget:call(fn, handler) end,
    adopt = function(chunk) return self.budget:adopt(chunk) end,
    commands = verbs.commands(self.context, true),
  }
  local functions = verbs.functions(self.context, true)
  for name, fn in pairs(functions) do
    if rawget(_G, name) == nil then rawset(made.environment, name, fn) end
  end
  rawset(made.environment, "console", functions)
  for name, value in pairs(self.values or {}) do rawset(made.environment, name, value) end
  return made
end

--- Makes one.
-- @param given
--   host       its tasks run what is typed
--   allow      "read" or "write"
--   who        a text that says who it is, for changes() and the log
--   budget_ms  how long a command may run
--   is_terminal  whether a person looks at it: results have their numbers
--   values     nil, or globals beside those of the program, by name: for "write"
--   output     function(text, kind): lines to show; kind as of cueball.console.session
--   tell       function(text, kind): lines that come by themselves; output by default
function seat.new(given)
  local self = setmetatable({
    host = given.host, is_reader = given.allow ~= "write", who = given.who, budget_ms = given.budget_ms, values = given.values,
    output = given.output, tell = given.tell or given.output, is_terminal = given.is_terminal or false,
    context = { who = given.who, host = given.host }, budget = nil, session = nil,
    form = "table", written = 0, unsaid = 0,
    compiled = 0, used_ms = 0,
  }, Seat)
  self.session = self.is_reader and make_reader(self) or make_writer(self)
  self.context.undoing = self.session.undoing
  self.session.show_results = show_results(self)
  return self
end

--- Runs what was typed, in a task, and waits until it is over.
-- @param input Lua, ":command" or "?name"
-- @param form  "table", "lua" or "json": how results are shown
-- @return "done", and whether it went well; or "incomplete": it wants more lines
function Seat:run(input, form)
  self.form, self.written, self.unsaid, self.compiled, self.used_ms = form or "table", 0, 0, 0, 0
  local failed = self.session.failed
  if not self.is_reader then
    log.say(self.host, "info", text.message(("a console runs %s, for %s"):format(text.show(input), self.who)), "console_command",
      { who = self.who })
  end
  local status = self.session:submit(input)
  if self.unsaid > 0 then self.output(("… %d more bytes"):format(self.unsaid), "note") end
  if self.is_reader then self.session.recorded = {} end -- nobody makes a script of that
  if self.is_reader and readonly.is_too_much(self.session.environment) then
    readonly.forget(self.session.environment)
    self.output("the variables of this session took too much memory: they are forgotten", "error")
  end
  return status, self.session.failed == failed
end

--- What the word at the cursor could become.
-- @return list of { text =, note = }, of which there may be `more`; and where the word begins
function Seat:complete(line, position)
  local list, start = self.session:complete(line, position)
  local found = {}
  for index = 1, math.min(#list, CANDIDATES_MAX) do found[index] = list[index] end
  if #list > CANDIDATES_MAX then found.more = #list - CANDIDATES_MAX end
  return found, start
end

--- Ends what runs, if it waits.
function Seat:interrupt()
  local had = self.session:interrupt()
  self.budget:stop()
  return had
end

--- Ends what goes on beside.
function Seat:close()
  self.session:close()
  self.budget:stop()
end

return seat
