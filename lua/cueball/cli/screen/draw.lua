--- The screen of `cueball top`: a function of what is known and how large it is.
--
--   draw.lines(state, 80, 24, now_s) → 24 lines (cueball.cli.screen.line), how many rows of the list are among them
--   draw.once(state)                 → lines of any number and width, for a pipe
local columns_of = require "cueball.cli.screen.columns"
local line = require "cueball.cli.screen.line"
local lists = require "cueball.cli.screen.lists"
local model = require "cueball.cli.screen.model"
local signals = require "cueball.cli.screen.signals"
local words = require "cueball.cli.screen.words"

local draw = {}

local WIDTH_OF_PIPE = 10000

draw.HELP = {
  { "1, 2, 3, 4, Tab", "backends, leases, waiters, events" },
  { "s, S, r", "sort by the next column, by the one before, the other way round" },
  { "/", "show only rows with a text; Enter keeps it, Esc ends it" },
  { "p", "show one pool, the next one, all" },
  { "Space", "hold the picture, and go on" },
  { "Up, Down, j, k, PgUp, PgDn, Home, End", "scroll" },
  { "Ctrl-L", "draw everything anew" },
  { "Ctrl-Z", "stop the program, as others do" },
  { "?, h", "this, and back" },
  { "q, Ctrl-C", "quit" },
  { "", "" },
  { "utilisation", "share of the connections that may be that are in use" },
  { "waiting", "claims that wait for a connection" },
  { "claim p99", "99 of 100 claims of late waited no longer than that" },
  { "churn", "connections that came or went, a second" },
  { "CUR, MAX, LIMIT", "connections now, the most there were, what the backend takes" },
  { "ERRORS", "share of the leases of late that did not go well" },
}

-- ------------------------------------------------------------------------------ parts --

local function who(state, snapshot)
  local process = snapshot and snapshot.process or {}
  local pieces = { { "cueball top", "bold" }, " ", state.address }
  if not snapshot then return pieces end
  pieces[#pieces + 1] = ("  pid %s, %s on %s, up %s"):format(words.text(process.pid), words.text(process.role), words.text(process.host),
    words.span((words.number(process.age_s) or 0) * 1000))
  return pieces
end

local function head_line(state, columns)
  local left = who(state, model.shown(state))
  local right = state.paused and { { ("PAUSED at %s"):format(words.clock(state.paused_s)), "reverse" } }
    or { words.clock(state.latest_s) }
  local gap = columns - line.width(left) - line.width(right)
  if gap < 1 then return line.cut(right, columns), line.cut(left, columns) end
  left[#left + 1] = (" "):rep(gap)
  for _, piece in ipairs(right) do left[#left + 1] = piece end
  return left
end

-- What keeps the program from being seen, if anything does.
local function lost_line(state, now_s)
  local lost = state.lost
  if not lost then return nil end
  local since = state.latest and (" The figures are of %s."):format(words.clock(state.latest_s)) or ""
  local again = math.max(0, lost.retry_at_s - now_s)
  return { { ("No answer since %s: %s. Tried again in %.0f s.%s"):format(words.clock(lost.since_s), lost.message, again, since), "red" } }
end

local function foot_line(state, count)
  if state.is_filtering then return { { "/", "bold" }, state.filter, { " ", "reverse" }, "  Enter keeps it, Esc ends it" } end
  if state.screen == "help" then return { "? back  q quit" } end
  local pieces = {}
  for number, name in ipairs(model.SCREENS) do
    pieces[#pieces + 1] = { ("%d %s"):format(number, name), name == state.screen and "reverse" or nil }
    pieces[#pieces + 1] = "  "
  end
  local order = model.sort(state).name .. (state.is_reverse[state.screen] and ", reversed" or "")
  pieces[#pieces + 1] = ("%d row%s, %s"):format(count, count == 1 and "" or "s", order)
  if state.filter ~= "" then pieces[#pieces + 1] = { ("  /%s"):format(state.filter), "yellow" } end
  if state.pool then pieces[#pieces + 1] = { ("  pool %s"):format(state.pool), "yellow" } end
  pieces[#pieces + 1] = "  ? help  q quit"
  return pieces
end

local function help_lines()
  local lines, widest = {}, 0
  for _, one in ipairs(draw.HELP) do widest = math.max(widest, #one[1]) end
  for index, one in ipairs(draw.HELP) do lines[index] = { { ("  %-" .. widest .. "s  "):format(one[1]), "bold" }, one[2] } end
  return nil, lines
end

-- What stands where there are no rows.
local function nothing(state)
  if not model.shown(state) and state.screen ~= "events" then return state.lost and "" or "waiting for the first answer …" end
  if state.filter ~= "" then return ("no row has the text %s"):format(state.filter) end
  if state.screen == "events" then return state.events_problem or "nothing has happened since this began" end
  if state.screen == "backends" and #model.pools(state) == 0 then return "the program has no pools" end
  return "none"
end

-- The title and the rows of the present screen.
local function list_lines(state, columns, rows)
  if state.screen == "help" then return help_lines() end
  if #rows == 0 then return nil, { { { nothing(state), "dim" } } } end
  local key = (state.sorts[state.screen] or 1) > 1 and model.sort(state).key or nil
  return columns_of.lines(lists[state.screen](#model.pools(state) > 1), rows, columns, key)
end

-- Entries that the program left out.
local function more_of(state)
  local sum = 0
  for _, pool in ipairs(model.pools(state)) do sum = sum + (words.number(pool.more[state.screen]) or 0) end
  return sum
end

-- ------------------------------------------------------------------------------ whole --

local function top_lines(state, columns, rows_max, now_s)
  local first, second = head_line(state, columns)
  local lines = { first, second }
  local lost = lost_line(state, now_s)
  if lost then lines[#lines + 1] = line.cut(lost, columns) end
  for _, one in ipairs(signals.lines(state, model.pools(state), columns, math.max(1, rows_max - #lines))) do lines[#lines + 1] = one end
  return lines
end

-- What of the list is on the screen.
local function add_window(lines, list, state, room)
  local last = math.max(0, #list - room)
  local offset = math.min(state.offset, last)
  for index = offset + 1, math.min(#list, offset + room) do lines[#lines + 1] = list[index] end
end

--- @param now_s the time that it is
-- @return as many lines as there are rows, none wider than the columns; how many rows of the list there is room for
function draw.lines(state, columns, rows, now_s)
  columns, rows = math.max(1, columns), math.max(1, rows)
  local lines = top_lines(state, columns, math.floor(rows / 3), now_s)
  local found = model.rows(state)
  local title, list = list_lines(state, columns, found)
  local more = more_of(state)
  if more > 0 and #found > 0 then list[#list + 1] = { { ("… %d more, which the program left out"):format(more), "dim" } } end
  if title then lines[#lines + 1] = title end
  local room = math.max(0, rows - #lines - 1)
  add_window(lines, list, state, room)
  while #lines < rows - 1 do lines[#lines + 1] = {} end
  for index = rows, #lines do lines[index] = nil end
  lines[rows] = foot_line(state, #found)
  for index, one in ipairs(lines) do lines[index] = line.cut(one, columns) end
  return lines, room
end

--- The same for a pipe: signals and backends of everything, nothing cut.
function draw.once(state)
  local lines = { who(state, state.latest) }
  for _, one in ipairs(signals.lines(state, model.pools(state), WIDTH_OF_PIPE, math.huge)) do lines[#lines + 1] = one end
  local title, list = list_lines(state, WIDTH_OF_PIPE, model.rows(state))
  lines[#lines + 1] = title
  for _, one in ipairs(list) do lines[#lines + 1] = one end
  return lines
end

return draw
