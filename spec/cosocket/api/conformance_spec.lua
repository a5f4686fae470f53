--- The functions of ngx_lua's API that need no connection, on a real nginx and here, with the same thousands of random arguments: what
-- they return must be the same, to the byte. Not compared: messages of a regular expression that does not compile (PCRE2 words them anew),
-- what ngx.re.split makes of a group that took no part (nginx: the whole subject),
-- and the empty result of encode_args ("buffer error" in nginx).
local conformance = require "spec.support.conformance"
local host = require "cueball.host.uv"
local library = require "cueball.cosocket.library"
local nginx = require "spec.support.nginx"

-- Runs in both: run(api, split, base64, seed) → lines.
local PROGRAM = conformance.HEAD .. [==[
function text(value)
  if type(value) == "string" then return (("%q"):format(value):gsub("pcre_compile%(%).*", "pcre_compile()")) end
  if type(value) == "function" then return "function" end
  if type(value) ~= "table" then return tostring(value) end
  local list = {}
  for key, one in pairs(value) do list[#list + 1] = tostring(key) .. "=" .. text(one) end
  table.sort(list)
  return "{" .. table.concat(list, ",") .. "}"
end

local function word(alphabet, most)
  local list = {}
  for index = 1, random(most + 1) do
    local at = random(#alphabet) + 1
    list[index] = alphabet:sub(at, at)
  end
  return table.concat(list)
end
local function bytes(most)
  local list = {}
  for index = 1, random(most + 1) do list[index] = string.char(random(256)) end
  return table.concat(list)
end

local function texts(api, base64)
  local some = bytes(70)
  for kind = 0, 6 do note("escape_uri", api.escape_uri, some, kind) end
  for _, name in ipairs { "escape_uri", "unescape_uri", "quote_sql_str", "md5", "md5_bin", "sha1_bin", "crc32_short", "crc32_long",
      "encode_base64" } do note(name, api[name], some) end
  note("encode_base64", api.encode_base64, some, true)
  note("encode_base64url", base64.encode_base64url, some)
  note("hmac_sha1", api.hmac_sha1, some, bytes(100))
  note("decode_base64", api.decode_base64, some)
  for _ = 1, 4 do
    note("unescape_uri", api.unescape_uri, word("%%%%4aF+z2b&=", 12))
    note("decode_base64", api.decode_base64, word("ABCDyz09+/==-_ ", 9))
    note("decode_base64url", base64.decode_base64url, word("ABCDyz09-_=", 9))
    note("decode_args", api.decode_args, word("ab=&&=%41+", 14))
    note("decode_args", api.decode_args, word("ab=&c", 30), random(5))
    note("encode_args", api.encode_args, { [word("ab &=", 3)] = one_of { word("ab &=%", 5), true, 1.5, { "a b", true, 3 } } })
  end
end

local DAYS, MONTHS = { "Thu", "Thursday", "X", "Wed", "", "," }, { "Jan", "Feb", "Xxx", "Dec", "jan", "Nov", "Feb" }

local function times(api)
  local time = random(2147483646) * (random(3) + 1) - random(3) * 1e9 + random(2) / 2
  note("http_time", api.http_time, time)
  note("cookie_time", api.cookie_time, time)
  note("parse_http_time", api.parse_http_time, api.http_time(time))
  note("parse_http_time", api.parse_http_time, api.cookie_time(time))
  local day, month, year, hour, minute, second = random(32), one_of(MONTHS), 1850 + random(300), random(26), random(62), random(62)
  note("parse_http_time", api.parse_http_time,
    ("%s, %02d %s %04d %02d:%02d:%02d GMT"):format(one_of(DAYS), day, month, year, hour, minute, second))
  note("parse_http_time", api.parse_http_time,
    ("%s, %02d-%s-%02d %02d:%02d:%02d GMT"):format(one_of(DAYS), day, month, random(100), hour, minute, second))
  note("parse_http_time", api.parse_http_time,
    ("%s %s %2d %02d:%02d:%02d %04d"):format(one_of(DAYS), month, day, hour, minute, second, year))
  note("parse_http_time", api.parse_http_time, ("Thu, %02d Nov %04d 11:27:35 GMT"):format(day, year):sub(1, random(35)))
end

local PATTERNS = { "a", "(a)(b)?", "^a*", "b*", "(?<x>a+)(?<y>b)?", "[ab]+", "a|b|", "\\w+", "\\s*,\\s*", ",", "", "(a(b(c)?)?)", "^", "$",
  "(?i)A", "a{2,3}", "(b)+", "\\y", "(", "[", "a**", "(?<n>a)|(?<n>b)", "(,)", ".", "(?=a)", "\\bb", "a # b\n", "\\x{e4}", "(?!a)b(?<z>.)" }
local OPTIONS = { "", "jo", "i", "x", "jox", "o", "d", "a", "D", "s", "m", "u", "J", "ijo", "U", "z" }
local TEMPLATES = { "x", "[$0]", "$1-$2", "${1}z", "$$", "$", "$x", "${x}", "${1", "a$", "$12", "" }

local function regular_expressions(api, split)
  local subject, pattern, options = word("aabbc,, AB\228", 10), one_of(PATTERNS), one_of(OPTIONS)
  if options == "" then options = nil end
  if options and options:lower() == "u" then subject = subject:gsub("\228", "") end -- PCRE2 looks at what it matches, not at all of it
  note("match", api.re.match, subject, pattern, options)
  note("find", api.re.find, subject, pattern, options)
  for _, name in ipairs { "match", "find" } do
    local context = { pos = random(12) - 1 }
    note(name, api.re[name], subject, pattern, options, context, name == "find" and random(5) - 1 or nil)
    lines[#lines + 1] = text(context)
  end
  local template = one_of(TEMPLATES)
  note("sub", api.re.sub, subject, pattern, template, options)
  note("gsub", api.re.gsub, subject, pattern, template, options)
  note("gsub", api.re.gsub, subject, pattern, function(found) return "<" .. tostring(found[0]) .. tostring(found[1]) .. ">" end, options)
  note("gmatch", function()
    local next_match, message = api.re.gmatch(subject, pattern, options)
    if not next_match then return message end
    local list = {}
    for index = 1, 30 do
      local found, why = next_match()
      list[index] = found and text(found) or tostring(why)
      if not found then break end
    end
    return table.concat(list, ";")
  end)
  if pattern:find "|%(" then return end
  note("split", split, subject, pattern, options)
  note("split", split, subject, pattern, options, nil, random(4))
  local context = { pos = random(6) }
  note("split", split, subject, pattern, options, context, random(3), { "q", "q", "q", "q", "q", "q", "q", "q" })
  lines[#lines + 1] = text(context)
end

local function oddities(api)
  for _, name in ipairs { "escape_uri", "unescape_uri", "md5", "md5_bin", "sha1_bin", "crc32_long", "encode_base64", "decode_base64",
      "http_time", "cookie_time", "parse_http_time", "quote_sql_str", "decode_args" } do
    for _, odd in ipairs { 12, true, 1.5, "" } do note(name, api[name], odd) end
  end
  for _, name in ipairs { "escape_uri", "unescape_uri", "md5", "encode_base64", "decode_base64", "http_time", "parse_http_time" } do
    note(name, api[name], nil)
  end
  note("encode_args", api.encode_args, { a = print })
  note("encode_args", api.encode_args, { a = { {} } })
  note("decode_args", api.decode_args, ("a=1&"):rep(150))
  note("decode_args", api.decode_args, ("a=1&"):rep(150), 0)
  note("decode_args", api.decode_args, "a=1&b=2", -1)
  note("escape_uri", api.escape_uri, "a", 7)
  note("escape_uri", api.escape_uri, "a", "x")
  note("encode_base64", api.encode_base64, "a", 1)
  note("encode_base64", api.encode_base64, ("long"):rep(50000))
  note("decode_base64", api.decode_base64, ("QUJD"):rep(50000))
end

return function(api, split, base64, seed)
  lines, state = {}, seed
  oddities(api)
  for _ = 1, 400 do
    texts(api, base64)
    times(api)
    for _ = 1, 3 do regular_expressions(api, split) end
  end
  return lines
end
]==]

local define = nginx.is_there() and it or pending

define("the functions of `ngx` return what nginx's return", function()
  local seed = conformance.seed()
  local said = conformance.said(PROGRAM, ([[ngx, require("ngx.re").split, require "ngx.base64", %d]]):format(seed))
  local api = select(3, library.load(host, "resty.core"))
  local lines = loadstring(PROGRAM, "=program.lua")()(api, (library.load(host, "ngx.re")).split, (library.load(host, "ngx.base64")), seed)
  assert.is_true(#lines > 20000, #lines)
  conformance.compare(seed, said, lines)
end)
