--- The manual at the prompt: `?pool:claim` shows what the pages say of it. The pages are docs/*.md; installed, they lie beside the modules
-- in cueball/manual/.
--
--   manual.lookup "pool:claim"        → the text under the heading of that name
--   manual.lookup "max_connections"   → the row of the table that has it
--   manual.lookup "tls"               → what the page of that name is about
--   manual.names()                    → all names, in order
local text = require "cueball.text"
local text_of_file = require("cueball.file").text

local manual = {}

local LINES_MAX = 60 -- of one answer

--- The pages, those first in which a name is sought first.
manual.PAGES = {
  "reference", "lua", "sets", "contracts", "dns", "simulation", "repl", "console", "postgres", "tls", "monitor", "dashboard", "logs",
  "tracing", "reload", "openresty", "balancer", "libraries", "native", "hosts", "runtime", "threads-in-lua", "core", "cli",
  "first-session", "first-program", "concepts", "discovery", "keepalive", "sockets", "testing", "operations", "sizing",
  "troubleshooting", "tutorial", "design", "overload", "simulations", "index",
}

local OWN_FILE = debug.getinfo(1, "S").source:match "^@(.*)console/manual%.lua$"

-- A page as the clone or the installation has it; nil: there is none.
local function page_text(name)
  if not OWN_FILE then return nil end
  return (text_of_file(OWN_FILE .. "manual/" .. name .. ".md") or text_of_file(OWN_FILE .. "../../docs/" .. name .. ".md"))
end

-- ----------------------------------------------------------------- reading --

-- "### `pool:claim([options])` → lease" and "### pool:claim([options]) → lease": "pool:claim"
local function name_in(heading)
  local code = heading:match "^`([^`]+)`" or heading
  return code:match "^([%a_][%w_.:]*)%s*[({]" or code:match "^([%a_][%w_]*[.:][%w_.:]*[%w_])%s*$"
    or heading:match "^`([%a_][%w_.:]*)`" or heading:match "^`?(cueball %l+)`?$"
end

-- The names that the row of a table is about: "| `idle`, `busy` | …", "| [cueball top](cli.md#cueball-top) | …".
local function names_of_row(line)
  local names, first = {}, line:match "^|(.-)|" or ""
  local linked = first:match "^%s*%[([%a_][%w_.: ]*)%]%([^)]*%)%s*$"
  if linked then return { linked } end
  if not first:find "^%s*`" then return names end
  for name, behind in first:gmatch "`([%a_][%w_.:]*)`%s*([^`]?)" do
    names[#names + 1] = name
    if behind ~= "," then break end
  end
  return names
end

-- A function's heading comes before a page, and both before the row of a table: what is rather meant.
local function add(index, name, entry)
  if not index.by_name[name] then index.names[#index.names + 1] = name end
  local there = index.by_name[name]
  if not there or there.is_row and not entry.is_row then index.by_name[name] = entry end
  local last = name:match "[.:]([%w_]+)$"
  there = last and index.by_last[last]
  if last and (not there or there.is_row and not entry.is_row) then index.by_last[last] = entry end
end

-- One page: its headings, and the rows of its tables. The whole manual is read at the first question, while somebody waits. So of a heading
-- only the place of its text is noted, and lines that begin no heading, no row and no block of code are not looked at.
local function read_page(index, page, content)
  local open, is_code, first, under = {}, false, nil, nil
  content = "\n" .. content
  local function close(level, at)
    for deeper = level, 6 do
      if open[deeper] then open[deeper].to = at - 1 end
      open[deeper] = nil
    end
  end
  for at, line, behind in content:gmatch "\n()([#|`][^\n]*)()" do
    if line:find "^```" then is_code = not is_code end
    local marks, heading = line:match "^(#+)%s+(.*)$"
    if heading and not is_code then
      close(#marks, at)
      local entry = { page = page, heading = heading:gsub("`", ""), content = content, from = behind + 1, to = #content }
      entry.is_page = not first
      open[#marks], first, under = entry, first or entry, entry
      local name = name_in(heading)
      if name then add(index, name, entry) end
    elseif not is_code then
      for _, name in ipairs(names_of_row(line)) do
        add(index, name, { page = page, heading = under and under.heading or page, row = line, is_row = true })
      end
    end
  end
  if first then add(index, page, first) end
end

-- The lines under a heading, without the headings among them.
local function lines_of(entry)
  local lines, is_code = {}, false
  for line in (entry.content:sub(entry.from, entry.to) .. "\n"):gmatch "([^\n]*)\n" do
    if line:find "^```" then is_code = not is_code end
    if is_code or not line:find "^#+%s" then lines[#lines + 1] = line end
    if entry.is_page and #lines == LINES_MAX then break end
  end
  return lines
end

local index

local function read_all()
  if index then return index end
  index = { by_name = {}, by_last = {}, names = {} }
  for _, page in ipairs(manual.PAGES) do
    local content = page_text(page)
    if content then read_page(index, page, content) end
  end
  table.sort(index.names)
  return index
end

-- ----------------------------------------------------------------- showing --

-- Markdown as plain text: a link is its words.
local function plain(line)
  return (line:gsub("%[([^%]]*)%]%([^)]*%)", "%1"):gsub("\\|", "|"))
end

local function row_text(line)
  local cells = {}
  for cell in (line:gsub("\\|", "\1")):gmatch "|%s*([^|]-)%s*%f[|]" do cells[#cells + 1] = plain((cell:gsub("\1", "|"))) end
  local name = table.remove(cells, 1):gsub("`", "")
  local last = table.remove(cells) or ""
  return #cells > 0 and ("%s: %s\n  %s"):format(name, table.concat(cells, "; default "), last) or ("%s: %s"):format(name, last)
end

local function entry_text(entry)
  local lines = {}
  if entry.is_row then
    lines[1] = row_text(entry.row)
  else
    lines[1] = plain(entry.heading)
    for _, line in ipairs(lines_of(entry)) do
      if not line:find "^|%s*%-%-%-" and not line:find "^|%-" then lines[#lines + 1] = plain(line) end
    end
    while lines[#lines] == "" do lines[#lines] = nil end
  end
  local more = #lines - LINES_MAX
  while #lines > LINES_MAX do lines[#lines] = nil end
  if more > 0 then lines[#lines + 1] = ("… %d more lines"):format(more) end
  local where = entry.is_row and entry.heading ~= entry.page and (" (%s)"):format(plain(entry.heading)) or ""
  lines[#lines + 1] = ("— docs/%s.md%s"):format(entry.page, where)
  return text.clean_lines(table.concat(lines, "\n"))
end

-- Names that have the word in them, a few.
local function similar(all, word)
  local found = {}
  for _, name in ipairs(all.names) do
    if name:lower():find(word:lower(), 1, true) then found[#found + 1] = name end
    if #found == 12 then break end
  end
  return found
end

--- What the manual says of a name.
-- @param name "pool:claim", "max_connections", "tls"; the last part will do: "claim"
-- @return a text; or nil, message, "not_found"
function manual.lookup(name)
  local all = read_all()
  if #all.names == 0 then return nil, "the pages of the manual are not beside cueball's modules", "not_found" end
  local wanted = name:match "^%s*(cueball %l+)%s*$" or name:gsub("%s", ""):gsub("[({].*$", "")
  local counted = wanted:match "^(cueball_.*)_total$" -- a counter stands in the reference without that
  if counted and all.by_name[counted] then wanted = counted end
  local entry, by_last = all.by_name[wanted], all.by_last[wanted]
  if not entry or entry.is_row and by_last and not by_last.is_row then entry = by_last or entry end
  if entry then return entry_text(entry) end
  local last = wanted:match "[.:]([%w_]+)$"
  local near = similar(all, last or wanted)
  local advice = #near > 0 and "; there are " .. table.concat(near, ", ") or ""
  return nil, ("the manual has nothing under %s%s"):format(text.show(name), advice), "not_found"
end

--- All names that manual.lookup knows, in order.
function manual.names()
  return read_all().names
end

--- The heading of a name, which is how it is called; nil: there is none.
function manual.heading(name)
  local entry = read_all().by_name[name]
  if not entry then return nil end
  return entry.is_row and row_text(entry.row):match "^[^\n]*" or plain(entry.heading)
end

-- ------------------------------------------------------------ at the prompt --

local HELP = [[
?pool:claim         what the manual says of a function, a method
?max_connections    … of an option, a number of pool:stats(), an event, a metric
?cueball top        … of a command of the shell
?dns                what a page is about
:help               the commands]]

-- A variable of the session that has a pool or the like: `?db:claim` is `?pool:claim`.
local function by_kind(session, name)
  local variable, method = name:match "^([%a_][%w_]*)[:.]([%w_]+)$"
  local value = variable and rawget(session.environment, variable)
  local shown = value ~= nil and type(value) == "table" and getmetatable(value) and text.of(value):match "^cueball%.(%l+)"
  return shown and shown .. ":" .. method or name
end

--- `?name`: shows it.
-- @return true; or nil, message
function manual.show(session, name)
  if name == "" then
    session:print(HELP, "note")
    return true
  end
  local row = session.commands.by_name[name:match "^:(.*)$" or ""]
  local found, message = row and row.help, nil
  if not found then found, message = manual.lookup(by_kind(session, name)) end
  if not found then return nil, message end
  session:print(found, "note")
  return true
end

return manual
