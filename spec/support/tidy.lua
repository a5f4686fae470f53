--- Measures of the tree's own text, for spec/tidy_spec.lua: what is too long, too seldom or wrongly named, and lists that may only get
-- shorter.
local tidy = {}

local shell = require "spec.support.shell"
local root = shell.root

-- What git ignores, but not by asking git: an unpacked archive is tidy too.
local FIND = "cd '%s' && find . \\( -path ./build -o -path './build-*' -o -path ./build.luarocks -o -path ./.git -o -path ./luarocks "
  .. "-o -name '*.o' -o -name '*.so' -o -name '*.rock' \\) -prune -o -print | sed 's#^\\./##' | sort"

tidy.read = shell.text_of

--- The paths of all files and folders, from the root.
-- @return list; and a set, in which folders end in "/"
function tidy.tree()
  local list, is_folder = {}, {}
  local pipe = assert(io.popen(FIND:format(root)))
  for path in pipe:lines() do
    if path ~= "." then list[#list + 1] = path end
    is_folder[path:match "^(.*)/" or "."] = true
  end
  pipe:close()
  local set = {}
  for _, path in ipairs(list) do set[is_folder[path] and path .. "/" or path] = true end
  return list, set
end

--- Those files of the tree that are programs: C, Lua, CMake and scripts.
function tidy.sources(list)
  local found = {}
  for _, path in ipairs(list) do
    local name = path:match "[^/]*$"
    if name:find "%.[ch]$" or name:find "%.lua$" or name:find "%.cmake$" or name == "CMakeLists.txt" then
      found[#found + 1] = path
    elseif not name:find("%.", 2) and not path:find("/corpus/", 1, true) then
      local file = io.open(root .. "/" .. path, "rb")
      if (file:read(2) or "") == "#!" then found[#found + 1] = path end
      file:close()
    end
  end
  return found
end

function tidy.lines(text)
  return select(2, text:gsub("\n", ""))
end

-- ------------------------------------------------------------------- functions --

local OPENS = { ["function"] = true, ["do"] = true, ["then"] = true, ["repeat"] = true }

-- Where the piece of Lua that begins here ends, and the word that it is; nil for the latter where it is none.
local function next_piece(text, at)
  local blank = text:match("^%s+", at)
  if blank then return at + #blank - 1 end
  local level = text:match("^%-%-%[(=*)%[", at) or text:match("^%[(=*)%[", at)
  if level then return select(2, text:find("]" .. level .. "]", at, true)) or #text end
  if text:find("^%-%-", at) then return (text:find("\n", at, true) or #text + 1) - 1 end
  local quote = text:match("^['\"]", at)
  if quote then
    local stop = at + 1
    while text:sub(stop, stop) ~= quote and stop <= #text do
      stop = stop + (text:sub(stop, stop) == "\\" and 2 or 1)
    end
    return stop
  end
  local word = text:match("^[%a_][%w_]*", at)
  if word then return at + #word - 1, word end
  return at + #(text:match("^%d[%w.]*", at) or " ") - 1
end

-- What a function is called by: its name, or that of the spec that it is; nil for one that is but a list of specs.
local function lua_name(line)
  if line:find "%f[%w]describe%s*%(" or line:find "%f[%w]insulate%s*%(" then return nil end
  return line:match "function%s+([%w_.:]+)" or line:match "([%w_.]+)%s*=%s*function"
    or line:match "%f[%w]it%s*%(%s*[\"'](.-)[\"']%s*,%s*function" or line:match "^%s*(.-)%s*$"
end

--- The functions of a Lua text that parses.
-- @return list of { name =, lines = }
function tidy.lua_functions(text)
  local found, open = {}, {}
  local at, line, line_at = 1, 1, 1
  while at <= #text do
    local stop, word = next_piece(text, at)
    if OPENS[word] then
      open[#open + 1] = { word = word, line = line, text_at = line_at }
    elseif word == "elseif" then
      open[#open] = nil   -- its own "then" opens again
    elseif word == "end" or word == "until" then
      local ended = table.remove(open)
      if ended.word == "function" then
        local name = lua_name(text:match("[^\n]*", ended.text_at))
        if name then found[#found + 1] = { name = name, lines = line - ended.line + 1 } end
      end
    end
    local newline = text:find("\n", at, true)
    while newline and newline <= stop do
      line, line_at = line + 1, newline + 1
      newline = text:find("\n", line_at, true)
    end
    at = stop + 1
  end
  return found
end

--- The functions of a C text in the house's style: signature from the first column, braces alone in it.
-- @return list of { name =, lines = }
function tidy.c_functions(text)
  local found, signature, lines = {}, {}, nil
  for line in text:gmatch "([^\n]*)\n" do
    if lines then
      lines = lines + 1
      if line == "}" then
        found[#found + 1] = { name = table.concat(signature, " "):match "([%w_]+)%s*%(", lines = lines }
        lines, signature = nil, {}
      end
    elseif line == "{" and #signature > 0 then
      lines = #signature + 1
    elseif line == "" or line:find "[;}\\/]$" or line:find "^#" then
      signature = {}
    else
      signature[#signature + 1] = line
    end
  end
  return found
end

-- --------------------------------------------------------------------- asserts --

--- How many asserts are in a C text: assert(), _Static_assert() and whatever else is called so.
function tidy.asserts(text)
  local count = 0
  for name in text:gmatch "([%w_]+)%s*%(" do
    if name:lower():find "assert$" then count = count + 1 end
  end
  return count
end

-- ----------------------------------------------------------------------- names --

--- The words of a path that are in the set.
function tidy.words(path, set)
  local found = {}
  for word in path:gmatch "[^/._%-]+" do
    if set[word] then found[#found + 1] = word end
  end
  return table.concat(found, " ")
end

-- ------------------------------------------------------------------------- map --

-- Whether a name of the map stands for something: files, folders, or files by a pattern with a star.
local function resolve(name, set)
  local found = {}
  if name:find("*", 1, true) then
    local pattern = "^" .. name:gsub("[%-.+()%[%]?^$%%]", "%%%0"):gsub("%*", "[^/]*") .. "$"
    for path in pairs(set) do
      if path:find(pattern) then found[#found + 1] = path end
    end
  elseif set[name] or set[name .. "/"] then
    found[1] = set[name] and name or name .. "/"
  end
  return found
end

-- Whoever names a file has named the folders that it is in.
local function add(named, path)
  while path do
    named[path] = true
    path = path:match "^(.*/)[^/]+/?$"
  end
end

--- What the rows of a table in Markdown name: in backticks or as links, from the root, from the folder of the row's
-- first name, or from where that is.
-- @return set of paths that are named; list of names that stand for nothing
function tidy.named(rows, set)
  local named, wrong = {}, {}
  for row in rows:gsub("\n  +", " "):gmatch "[^\n]+" do -- an item of a list may go on, indented
    local base
    for quoted in row:gsub("%[[^%]]*%]%(([^)]*)%)", "`%1`"):gmatch "`([^`]+)`" do
      local name = quoted:match "^%S+"
      local found = resolve(name, set)
      if #found == 0 and base then found = resolve(base .. name, set) end
      if #found == 0 and base then found = resolve((base:match "^(.*/)[^/]+/$" or "") .. name, set) end
      for _, path in ipairs(found) do add(named, path) end
      if #found == 0 and name:find "[/.]" and not name:find "[(){}\"]" then wrong[#wrong + 1] = name end
      base = base or #found > 0 and (name:match "^(.*/)" or "") or nil
    end
  end
  return named, wrong
end

-- --------------------------------------------------------------------- ratchet --

--- What is wrong with a list of old offenders, which may only get better.
-- @param limit a number at most; or, with better = "more", at least
-- @param found by name, the number of each
-- @param listed by name, the number of each that may be over the limit: exactly so much
-- @return list of sentences
function tidy.complaints(limit, found, listed, better)
  local sign = better == "more" and -1 or 1
  local list = {}
  for name, number in pairs(found) do
    local allowed = listed[name]
    if (number - limit) * sign <= 0 then
      if allowed then list[#list + 1] = ("%s: now %s; take it off the list"):format(name, number) end
    elseif not allowed then
      list[#list + 1] = ("%s: %s, and the limit is %s"):format(name, number, limit)
    elseif (number - allowed) * sign > 0 then
      list[#list + 1] = ("%s: %s, and it was %s"):format(name, number, allowed)
    elseif number ~= allowed then
      list[#list + 1] = ("%s: now %s; write that into the list instead of %s"):format(name, number, allowed)
    end
  end
  for name in pairs(listed) do
    if not found[name] then list[#list + 1] = name .. ": is not there; take it off the list" end
  end
  table.sort(list)
  return list
end

return tidy
