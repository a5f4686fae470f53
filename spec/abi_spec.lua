--- What a program that was compiled against an earlier release of this minor version relies on: docs/core.md, "What stays".
-- spec/abi/0.1.txt has it in lines, each of which must still hold: functions, numbers of enums, and where the members of
-- structs are. What is new is not in it before the release; CUEBALL_ABI=write makes the file anew.

local native = require "cueball.native"
local shell = require "spec.support.shell"

-- Offsets are those of machines with 64 bits.
local FILE = shell.root .. "/spec/abi/0.1.txt"
local HEADERS = { "cueball_types", "cueball", "cueball_threaded", "cueball_visit", "cueball_notices", "cueball_terminal", "cueball_tracker",
  "cueball_dns", "cueball_native" }

local read = shell.read

--- The declarations of a header, without comments and preprocessor, in one line.
local function declarations(text)
  return (text:gsub("/%*.-%*/", ""):gsub("\n%s*#[^\n]*", "\n"):gsub("%s+", " "))
end

local function add_functions(lines, text)
  for declaration in text:gmatch "CUEBALL_API ([^;]-);" do lines[#lines + 1] = "function " .. declaration end
end

local function add_enumerators(lines, text)
  for body in text:gmatch "enum [%w_ ]*{(.-)}" do
    for name, number in body:gmatch "([%w_]+) = (-?%d+)" do lines[#lines + 1] = ("enum %s %s"):format(name, number) end
  end
end

--- Every member of every struct of the headers. A struct that says its size may grow: its whole size is not told.
local function add_members(lines, text, layout)
  local is_public, grows = {}, {}
  for name in text:gmatch "typedef struct ([%w_]+) {" do is_public[name] = true end
  for _, one in ipairs(layout) do grows[one.type] = grows[one.type] or one.member == "struct_size" end
  for _, one in ipairs(layout) do
    if is_public[one.type] and one.member ~= "" then
      lines[#lines + 1] = ("member %s.%s at %d, %d bytes"):format(one.type, one.member, one.offset, one.size)
    elseif is_public[one.type] and not grows[one.type] and one.type ~= "cueball_outlook" then -- the library's own memory
      lines[#lines + 1] = ("struct %s, %d bytes"):format(one.type, one.size)
    end
  end
end

local function lines_of(text, layout)
  local lines = {}
  add_functions(lines, text)
  add_enumerators(lines, text)
  add_members(lines, text, layout)
  table.sort(lines)
  return lines
end

--- The lines of the file that hold no more.
local function broken(recorded, lines)
  local holds, found = {}, {}
  for _, line in ipairs(lines) do holds[line] = true end
  for line in recorded:gmatch "[^\n]+" do
    if not holds[line] then found[#found + 1] = line end
  end
  return found
end

local function present()
  local texts = {}
  for _, name in ipairs(HEADERS) do texts[#texts + 1] = declarations(read(("%s/src/include/%s.h"):format(shell.root, name))) end
  return lines_of(table.concat(texts, " "), native.layout)
end

describe("the check of what stays", function()
  it("tells what changed or went, and nothing of what is new", function()
    local header = "/* x */ typedef enum a { CUEBALL_A = 0, CUEBALL_B = -1 } a;\nCUEBALL_API int cueball_f(int x);\n"
      .. "typedef struct s {\n uint32_t struct_size; int x; } s; typedef struct t { int y; } t;"
    local layout = {
      { type = "s", member = "", offset = 0, size = 8 }, { type = "s", member = "struct_size", offset = 0, size = 4 },
      { type = "s", member = "x", offset = 4, size = 4 }, { type = "t", member = "", offset = 0, size = 4 },
      { type = "t", member = "y", offset = 0, size = 4 },
    }
    local before = table.concat(lines_of(declarations(header), layout), "\n")
    assert.equal("enum CUEBALL_A 0\nenum CUEBALL_B -1\nfunction int cueball_f(int x)\nmember s.struct_size at 0, 4 bytes\n"
      .. "member s.x at 4, 4 bytes\nmember t.y at 0, 4 bytes\nstruct t, 4 bytes", before)
    layout[1].size, layout[#layout + 1] = 12, { type = "s", member = "new", offset = 8, size = 4 }
    assert.same({}, broken(before, lines_of(declarations(header .. " CUEBALL_API void cueball_g(void);"), layout)))
    layout[4].size = 8
    assert.same({ "enum CUEBALL_B -1", "function int cueball_f(int x)", "struct t, 4 bytes" },
      broken(before, lines_of(declarations((header:gsub("-1", "-2"):gsub("int x%)", "long x)"))), layout)))
  end)
end)

describe("this minor version", function()
  it("has all that its releases had", function()
    local lines = present()
    assert.is_true(#lines > 400)
    if os.getenv "CUEBALL_ABI" == "write" then
      local file = assert(io.open(FILE, "w"))
      file:write(table.concat(lines, "\n"), "\n")
      file:close()
    end
    assert.same({}, broken(read(FILE), lines))
  end)

  it("is the one of the record", function()
    assert.equal(native.version:match "^(%d+%.%d+)", FILE:match "([%d.]+)%.txt$")
  end)
end)
