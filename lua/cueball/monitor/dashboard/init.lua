--- The dashboard: a page for a browser, and what it is made of. The files lie beside this module and are read once.
--
--   local dashboard = require "cueball.monitor.dashboard"
--   dashboard.find "/"                      → { body =, type =, etag = }: the page
--   dashboard.find "/dashboard/main.js"     → one of its parts
--   dashboard.headers                       what every answer with one of them has
--
-- Nothing in the files tells of a pool. The page asks for `snapshot`, `events` and `plan`, from where it was itself.
local bit = require "bit"
local misuse = require "cueball.misuse"
local text_of_file = require("cueball.file").text

local dashboard = {}

local FOLDER = debug.getinfo(1, "S").source:match "^@(.*[/\\])" or "./"

local TYPES = {
  html = "text/html; charset=utf-8", css = "text/css; charset=utf-8", js = "text/javascript; charset=utf-8", svg = "image/svg+xml",
}

-- Nothing else is ever read from the folder.
local FILES = {
  ["/"] = "page.html",
  ["/dashboard/style.css"] = "style.css",
  ["/dashboard/parts.css"] = "parts.css",
  ["/dashboard/icon.svg"] = "icon.svg",
}
local SCRIPTS = {
  "backends", "chart", "claims", "dom", "format", "history", "keys", "log", "main", "notice", "pools", "signals", "slots", "state",
  "stream", "theme", "whatif",
}
for _, name in ipairs(SCRIPTS) do
  FILES["/dashboard/" .. name .. ".js"] = name .. ".js"
end

--- The headers of each answer, in order. Texts of a hostile backend could do nothing even if they became HTML: scripts and styles come
-- from the page's own files only, and a string cannot be made into either.
dashboard.headers = {
  { "Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    .. "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'" },
  { "X-Content-Type-Options", "nosniff" },
  { "Referrer-Policy", "no-referrer" },
  { "Cross-Origin-Resource-Policy", "same-origin" },
  { "Cache-Control", "no-cache" }, -- asked again each time, by its etag
}

local function read(name)
  local text, message = text_of_file(FOLDER .. name)
  if not text then error(("cueball.monitor.dashboard: a file that belongs to it is missing: %s"):format(message), 0) end
  return text
end

-- FNV-1a: it only has to differ from that of another version.
local function etag_of(text)
  local sum = 2166136261
  for index = 1, #text do
    sum = bit.bxor(sum, text:byte(index))
    sum = bit.tobit(sum + bit.lshift(sum, 1) + bit.lshift(sum, 4) + bit.lshift(sum, 7) + bit.lshift(sum, 8) + bit.lshift(sum, 24))
  end
  return ('"%s-%x"'):format(bit.tohex(sum), #text)
end

local found = {}

--- One of the files.
-- @param path  as in the request, from where the dashboard is: "/" or "/dashboard/NAME"
-- @return { body, type, etag }; nil if there is none of that name
function dashboard.find(path)
  if type(path) ~= "string" then
    misuse.raise(("cueball.monitor.dashboard.find: the path must be a string, not a %s"):format(type(path)))
  end
  local name = FILES[path]
  if not name then return nil end
  if not found[path] then
    local body = read(name)
    found[path] = { body = body, type = TYPES[name:match "%.(%w+)$"], etag = etag_of(body) }
  end
  return found[path]
end

--- The paths that there are, in order.
-- @return list of strings
function dashboard.paths()
  local list = {}
  for path in pairs(FILES) do list[#list + 1] = path end
  table.sort(list)
  return list
end

return dashboard
