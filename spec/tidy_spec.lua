--- The house is tidy: what may be how long, how it is named, that README's map is complete and true.
--
-- What was there before a rule is listed with its number, which may only get better: whoever betters it writes the new number here.
local tidy = require "spec.support.tidy"

local FILE_LINES_MAX, FUNCTION_LINES_MAX = 500, 60
local ASSERTS_MIN = 6   -- in 100 lines

local LONG_FILES = {
  ["spec/core/backend_spec.lua"] = 551,
  ["spec/core/balance_spec.lua"] = 519,
  ["spec/core/claim_spec.lua"] = 518,
  ["spec/core/slot_spec.lua"] = 672,
  ["spec/cosocket/socket_spec.lua"] = 643,
  ["spec/fuzz/pool_fuzz.c"] = 1439,
  ["spec/host/uv_spec.lua"] = 723,
  ["spec/nginx/sim_quota_spec.lua"] = 811,
  ["spec/pool/factory_spec.lua"] = 517,
  ["spec/resolver/sink_spec.lua"] = 514,
  ["src/include/cueball.h"] = 798,
}

local LONG_FUNCTIONS = {
  ["bench/openresty/handlers.lua: handlers.setup"] = 66,
  ["bench/simulations/day.lua: day.run"] = 81,
  ["bench/simulations/overload.lua: overload.rfc"] = 78,
  ["spec/core/plan_spec.lua: model"] = 69,
  ["spec/fuzz/pool_fuzz.c: step"] = 71,
}

-- By the first folder below src/; those of the headers for users do not count.
local FEW_ASSERTS = {
  ["src/dns"] = 0,
  ["src"] = 2,
}

-- They say little, or meant several things in this house. "monitor" is what people look at, and nothing else.
local WORDS = {}
for word in ([[patience place work debt debtor crew manned relieved fit later proxy waits since at verdict outcome belief pin bury retire
  disinherit farewell word hope mood trouble gate watchman handle entry node item manager data util utils helper helpers misc common]])
  :gmatch "%S+" do WORDS[word] = true end

local BADLY_NAMED = {
}

-- What of it is new, and what was listed and is gone.
local function assert_tidy(complaints)
  assert.equal("", table.concat(complaints, "\n"))
end

local list, set = tidy.tree()
local sources = tidy.sources(list)

describe("a ratchet", function()
  it("lets nothing new over the limit, and nothing old get worse", function()
    assert.same({}, tidy.complaints(10, { a = 10, b = 12 }, { b = 12 }))
    assert.same({ "a: 11, and the limit is 10", "b: 13, and it was 12" }, tidy.complaints(10, { a = 11, b = 13 }, { b = 12 }))
    assert.same({ "a: 5, and the limit is 6", "b: 2, and it was 3" },
      tidy.complaints(6, { a = 5, b = 2, c = 7 }, { b = 3 }, "more"))
  end)

  it("wants to be turned on by whoever betters something", function()
    assert.same({ "a: now 11; write that into the list instead of 12", "b: now 10; take it off the list",
        "c: is not there; take it off the list" },
      tidy.complaints(10, { a = 11, b = 10 }, { a = 12, b = 11, c = 20 }))
    assert.same({ "a: now 4; write that into the list instead of 3", "b: now 6; take it off the list" },
      tidy.complaints(6, { a = 4, b = 6 }, { a = 3, b = 5 }, "more"))
  end)
end)

describe("a file", function()
  it("has no more lines than a reader can follow", function()
    local found = {}
    for _, path in ipairs(sources) do found[path] = tidy.lines(tidy.read(path)) end
    assert_tidy(tidy.complaints(FILE_LINES_MAX, found, LONG_FILES))
  end)

  it("is named by a noun that says what it is about", function()
    assert.equal("data util", tidy.words("src/data/my_util.c", WORDS))
    assert.equal("", tidy.words("spec/format_spec.lua", WORDS))
    local found, listed = {}, {}
    for _, path in ipairs(list) do
      if not path:find "^spec/fuzz/corpus/" and tidy.words(path, WORDS) ~= "" then found[path] = 1 end
    end
    for _, path in ipairs(BADLY_NAMED) do listed[path] = 1 end
    assert_tidy(tidy.complaints(0, found, listed))
  end)
end)

describe("a function", function()
  it("is found in Lua, whatever is around it", function()
    assert.same({
      { name = "inner", lines = 3 }, { name = "Pool.new", lines = 9 }, { name = "held", lines = 1 },
      { name = "does it", lines = 3 }, { name = "pcall(function()", lines = 2 },
    }, tidy.lua_functions [==[
local text = "function end" .. 'it\'s "end' .. [[ end
end ]]   -- end, function
function Pool.new(given)
  if given then return 0x1e elseif not given then else end
  for _ = 1, 2 do repeat until true end
  --[[ function
  ]]
  local function inner()
    while true do break end
  end
end
held = function() end
describe("a list of specs", function()
  it("does it", function()
    assert()
  end)
end)
pcall(function()
end)
]==])
  end)

  it("is found in C, with its signature", function()
    assert.same({ { name = "pool_serve", lines = 5 }, { name = "main", lines = 4 } }, tidy.c_functions [[
/* What it does. */
static void pool_serve(cueball_pool *pool,
                       int number)
{
    int list[] = { 1 };
}

struct one {
    int x;
};
static const int TWO[] = {
    2,
};
int main(void)
{
    return 0;
}
]])
  end)

  it("has no more lines than a screen", function()
    local found = {}
    for _, path in ipairs(sources) do
      local functions = path:find "%.lua$" and tidy.lua_functions or path:find "%.[ch]$" and tidy.c_functions
      for _, one in ipairs(functions and functions(tidy.read(path)) or {}) do
        local name = path .. ": " .. one.name
        found[name] = math.max(found[name] or 0, one.lines)
      end
    end
    assert_tidy(tidy.complaints(FUNCTION_LINES_MAX, found, LONG_FUNCTIONS))
  end)
end)

describe("a loop", function()
  -- LuaJIT before May 2023, which Debian 12 has, ends `for _, x in ipairs { "a", "b" } do` early at times, once the loop around it is
  -- compiled: it forwards loads from a table of constants that was made in the same trace (LuaJIT's issues 980 and 994).
  it("goes through no list of constants that is made in its head", function()
    local function walks_constants(line)
      local given = line:match "^%s+for .* in ipairs%s*%(?({.*)"
      return given ~= nil and (given:find "^{%s*[%d\"'-][^({]*}" ~= nil or given:find "^{%s*{%s*[%d\"'-]" ~= nil)
    end
    assert.is_true(walks_constants [[  for _, name in ipairs { "a", 'b' } do]])
    assert.is_true(walks_constants [[  for _, step in ipairs({ 1, -1 }) do]])
    assert.is_true(walks_constants [[  for _, one in ipairs { { "a", 1 }, { "b", 2 } } do]])
    assert.is_false(walks_constants [[for _, name in ipairs { "a", "b" } do]])
    assert.is_false(walks_constants [[  for _, name in ipairs { first(), "b" } do]])
    local found = {}
    for _, path in ipairs(sources) do
      if path:find "^lua/.*%.lua$" or path:find "^spec/support/.*%.lua$" or path:find "^spec/sim/.*%.lua$" and not path:find "_spec" then
        for line in tidy.read(path):gmatch "[^\n]+" do
          if walks_constants(line) then found[#found + 1] = path .. ": " .. line end
        end
      end
    end
    assert.same({}, found)
  end)
end)

describe("a pattern", function()
  -- Where something has to follow the blanks, Lua looks for it from each of them: a run of 1 MB takes an hour.
  it("looks at blanks once: text.trimmed, text.trimmed_end and text.parts do that", function()
    local function looks_again(line)
      for literal in line:gmatch "[%w_]+ *%(?%f[\"']([\"'][^\"']*)[\"']" do
        if literal:find "%.%-%)?%%s[*+]" or literal:find "^.%%s[*+]." then return true end
      end
      return false
    end
    assert.is_true(looks_again [[local a = b:gsub("%s+$", "")]])
    assert.is_true(looks_again [[return a:match "^%s*(.-)%s*$"]])
    assert.is_true(looks_again [[for part in a:gmatch '%s*(.-)%s*,' do]])
    assert.is_false(looks_again [[return a:gsub("%s+", " "):match "^%s*x", b:match("^(%S+)%s*(.*)$")]])
    local found = {}
    for _, path in ipairs(sources) do
      if path:find "^lua/.*%.lua$" or path:find "^examples/.*%.lua$" then
        for line in tidy.read(path):gmatch "[^\n]+" do
          if looks_again(line) then found[#found + 1] = path .. ": " .. line end
        end
      end
    end
    assert.same({}, found)
  end)
end)

describe("the C code", function()
  it("asserts what must be, and what must not be", function()
    assert.equal(3, tidy.asserts "assert(x);\n_Static_assert (y, \"\"); CUEBALL_ASSERT(z); asserted(a); assert_not(b);")
    local asserts, lines, found = {}, {}, {}
    for _, path in ipairs(sources) do
      local folder = path:match "^src/([^/]+)/.*%.[ch]$"
      if path:find "^src/[^/]+%.c$" then folder = "." end
      if folder and folder ~= "include" then
        local text = tidy.read(path)
        asserts[folder] = (asserts[folder] or 0) + tidy.asserts(text)
        lines[folder] = (lines[folder] or 0) + tidy.lines(text)
      end
    end
    -- In steps of a half, so that not every line that comes or goes moves it.
    for folder, count in pairs(asserts) do found[("src/" .. folder):gsub("/%.$", "")] = math.floor(2 * 100 * count / lines[folder]) / 2 end
    assert_tidy(tidy.complaints(ASSERTS_MIN, found, FEW_ASSERTS, "more"))
  end)
end)

describe("README's map", function()
  local readme = tidy.read "README.md"
  local map = readme:match "\n## A map of the house\n(.-)\n## "

  it("is read as people read it", function()
    local tree = { ["lua/"] = true, ["lua/a.lua"] = true, ["lua/b/"] = true, ["src/"] = true, ["src/x_1.c"] = true, ["src/x_2.c"] = true,
      ["docs/"] = true }
    local named, wrong = tidy.named([[
| `lua/a.lua`, `b/`, `c.lua` | `require "x.y"` does it; `lua/run FILE` |
| `lua/b/`, `a.lua` | |
- `src/x*.c`: [all](docs/) of it; `pool:stop()`, `a.b(c)`,
  `x_1.c`, `gone/`]], tree)
    assert.same({ ["lua/"] = true, ["lua/a.lua"] = true, ["lua/b/"] = true, ["src/"] = true, ["src/x_1.c"] = true, ["src/x_2.c"] = true,
      ["docs/"] = true }, named)
    assert.same({ "c.lua", "lua/run", "gone/" }, wrong)
  end)

  it("names nothing that is not there", function()
    local _, wrong = tidy.named(map, set)
    assert.same({}, wrong)
  end)

  it("names everything in the top two levels", function()
    local named = tidy.named(readme, set)
    local missing = {}
    named["README.md"] = true
    for path in pairs(set) do
      local folder, name = path:match "^(.-)([^/]+/?)$"
      -- lua/ has but one folder, so what is in that is the second level. A folder may have a map of its own.
      local is_near = folder == "" or folder == "lua/cueball/" or folder:find "^[^/]+/$"
      local has_map = set[folder .. "README.md"] and folder ~= "" and tidy.read(folder .. "README.md"):find(name, 1, true)
      if is_near and not has_map and not named[path] then missing[#missing + 1] = path end
    end
    table.sort(missing)
    assert.same({}, missing)
  end)
end)

describe("design.md's table of where a change begins", function()
  it("names files that are there, and what stands in them", function()
    local count = 0
    for path, words in tidy.read("docs/design.md"):gmatch "\n| [^|]+ | `([^`]+)` | `([^`]+)` |" do
      assert.is_truthy(tidy.read(path):find(words, 1, true), path .. ": " .. words)
      count = count + 1
    end
    assert.is_true(count >= 10, count .. " rows")
  end)
end)
