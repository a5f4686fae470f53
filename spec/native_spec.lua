--- How the library is found, declared and checked. What must fail is tried in a LuaJIT of its own.

local shell = require "spec.support.shell"
local root, build, quote, must, read, write = shell.root, shell.build, shell.quote, shell.must, shell.read, shell.write

--- Runs Lua in a fresh LuaJIT with that package.path and package.cpath.
local function luajit(code, path, cpath)
  return shell.run(("cd / && LUA_PATH=%s LUA_CPATH=%s luajit -e %s"):format(quote(path), quote(cpath), quote(code)))
end

local SOURCES = root .. "/lua/?.lua;" .. build .. "/lua/?.lua"

describe("native", function()
  it("gives the library, with what it was compiled to", function()
    local native = require "cueball.native"
    assert.equal(native.version, native.ffi.string(native.lib.cueball_version()))
    assert.truthy(native.version:match "^%d+%.%d+%.%d+$")
    assert.equal(build .. "/libcueball.so", native.path)
    assert.equal(-4, native.lib.CUEBALL_ECLAIM_TIMEOUT)
    local before = native.lib.cueball_clock_now()
    assert.is_true(native.lib.cueball_clock_now() >= before)
  end)

  it("lists every struct of the headers and its members", function()
    local native = require "cueball.native"
    local header = ""
    for _, name in ipairs {
      "cueball_types", "cueball", "cueball_threaded", "cueball_visit", "cueball_notices", "cueball_terminal", "cueball_tracker",
      "cueball_dns", "cueball_native", "cueball_tls", "cueball_http",
    } do
      header = header .. read(("%s/src/include/%s.h"):format(root, name))
    end
    header = header .. read(root .. "/src/core/internal.h")
    local structs = {}
    for name in header:gmatch "typedef struct ([%w_]+) {" do
      structs[name] = 0
    end
    assert.truthy(next(structs))
    local at = {}
    for _, one in ipairs(native.layout) do
      assert.truthy(structs[one.type], one.type .. " is in no header")
      structs[one.type] = structs[one.type] + 1
      at[one.type .. "." .. one.member] = one
    end
    for name, count in pairs(structs) do
      assert.is_true(count >= 2, name .. " has no layout")
    end
    local ffi = native.ffi
    assert.same({ type = "cueball_grant", member = "", offset = 0, size = ffi.sizeof "cueball_grant" }, at["cueball_grant."])
    assert.equal(ffi.offsetof("cueball_backend_info", "address"), at["cueball_backend_info.address"].offset)
    assert.equal(ffi.offsetof("cueball_allocator", "release"), at["cueball_allocator.release"].offset)
    assert.equal(1, at["cueball_backend_info.removed"].size)
  end)

  it("gives libc's allocator", function()
    local native = require "cueball.native"
    local allocator = native.lib.cueball_allocator_libc()
    local memory = allocator.allocate(allocator.user, 16)
    assert.is_false(memory == nil)
    allocator.release(allocator.user, memory, 16)
  end)

  it("can be required again after package.loaded was emptied", function()
    assert.equal("same", (luajit([[
      local first = require "cueball.native"
      package.loaded["cueball.native"], package.loaded["cueball.cdef"] = nil, nil
      local second = require "cueball.native"
      assert(first ~= second and #first.layout == #second.layout)
      first = nil
      collectgarbage() collectgarbage()
      io.write(second.lib.cueball_error_name ~= nil and "same" or "?")]], SOURCES, build .. "/?.so")))
  end)
end)

describe("native without its library", function()
  it("says where it looked and what to do", function()
    local output, status = luajit('require "cueball.native"', SOURCES, "/nowhere/?.so")
    assert.equal(1, status)
    assert.matches("cueball: libcueball not found:", output, 1, true)
    assert.matches("no file '/nowhere/libcueball.so'", output, 1, true)
    assert.matches("cmake -S . -B build", output, 1, true)
    assert.matches("luarocks make", output, 1, true)
  end)
end)

describe("another Lua", function()
  for name, version in pairs { ["lua5.1"] = "Lua 5.1", ["lua5.4"] = "Lua 5.4" } do
    it(("is told that LuaJIT is needed: %s"):format(version), function()
      for _, module in ipairs { "cueball", "cueball.native", "cueball.host.uv", "cueball.host.sim" } do
        local output = shell.run(("cd / && unset LD_PRELOAD && LUA_PATH=%s %s -e 'print(select(2, pcall(require, \"%s\")))'"):format(
          quote(root .. "/lua/?.lua;" .. root .. "/lua/?/init.lua;" .. build .. "/lua/?.lua"), name, module))
        assert.equal("cueball needs LuaJIT, since it calls its C core through LuaJIT's FFI; this is " .. version, output)
      end
      local output, status = shell.run(("unset LD_PRELOAD && %s %s --version"):format(name, quote(build .. "/bin/cueball")))
      assert.equal("cueball: needs LuaJIT; this is " .. version, output)
      assert.equal(4, status)
    end)
  end
end)

describe("native beside another build", function()
  local folder

  --- A library that tells of itself what the given C says; native's complaint about it.
  local function complaint(version, layouts)
    write(folder .. "/other.c", ([[
      #include "cueball.h"
      const char *cueball_version(void) { return "%s"; }
      static const cueball_layout layouts[] = { %s };
      bool cueball_layout_at(uint32_t index, cueball_layout *layout)
      {
          if (index >= sizeof layouts / sizeof *layouts) return false;
          *layout = layouts[index];
          return true;
      }]]):format(version, layouts))
    must(("cc -shared -fPIC -I %s -o %s %s"):format(
      quote(root .. "/src/include"), quote(folder .. "/libcueball.so"), quote(folder .. "/other.c")))
    local output, status = luajit('require "cueball.native"', SOURCES, folder .. "/?.so")
    assert.equal(1, status, output)
    return output
  end

  setup(function()
    folder = must "mktemp -d"
  end)
  teardown(function()
    shell.run("rm -rf " .. quote(folder))
  end)

  it("names the version", function()
    local output = complaint("9.8.7", '{"cueball_grant", "", 0, sizeof(cueball_grant)}')
    assert.matches(folder .. "/libcueball.so is of another build: it is version 9.8.7, the Lua modules are", output, 1, true)
  end)

  it("names the member that is elsewhere, unknown, or of an unknown struct", function()
    local version = require("cueball.native").version
    assert.matches("another build: struct cueball_grant member slot has offset 4 there, 32 in the Lua modules",
      complaint(version, '{"cueball_grant", "", 0, sizeof(cueball_grant)}, {"cueball_grant", "slot", 4, 4}'), 1, true)
    assert.matches("struct cueball_grant has size 4 there",
      complaint(version, '{"cueball_grant", "", 0, 4}'), 1, true)
    assert.matches("struct cueball_grant member bogus has offset 0 there, none in the Lua modules",
      complaint(version, '{"cueball_grant", "bogus", 0, 4}'), 1, true)
    assert.matches("struct cueball_bogus has size 4 there, none in the Lua modules",
      complaint(version, '{"cueball_bogus", "", 0, 4}'), 1, true)
  end)

  it("refuses a second set of declarations in one Lua state", function()
    local output, status = luajit([[
      package.preload["cueball.cdef"] = function()
        return "/* cueball 0.0.0 */ typedef struct cueball_layout { int x; } cueball_layout;"
          .. "typedef struct cueball_cdef_00 cueball_cdef_00; const char *cueball_version(void);"
      end
      pcall(require, "cueball.native")
      package.preload["cueball.cdef"] = nil
      package.loaded["cueball.cdef"], package.loaded["cueball.native"] = nil, nil
      require "cueball.native"]], SOURCES, build .. "/?.so")
    assert.equal(1, status)
    assert.matches("another build of cueball was loaded in this Lua state", output, 1, true)
  end)
end)

describe("cdef.cmake", function()
  local folder

  --- What it makes of a header: the output of the generator, and the path of the C file, if any.
  local function generate(declarations)
    write(folder .. "/in.i", declarations)
    local output, status = shell.run(("cmake -DIN=%s/in.i -DVERSION=1.2.3 -DCDEF=%s/cdef.lua -DABI=%s/abi.c -P %s"):format(
      folder, folder, folder, quote(root .. "/src/cdef.cmake")))
    return output, status
  end

  setup(function()
    folder = must "mktemp -d"
  end)
  teardown(function()
    shell.run("rm -rf " .. quote(folder))
  end)

  it("finds lists of members, arrays and function pointers", function()
    local output, status = generate [[
typedef struct ahead ahead;
typedef enum kind { ONE = 1, TWO } kind;
typedef struct sample {
    double a, b;
    const char *name, **names;
    uint8_t bytes[4], grid[2][3];
    void *(*allocate)(void *user, size_t size);
    void (*handlers[2])(int a, int b);
    struct ahead *next;
} sample;
int use(const struct sample *s);
typedef struct last { bool x; } last;
]]
    assert.equal(0, status, output)
    local names = {}
    for type, member in read(folder .. "/abi.c"):gmatch "\n    %u+%(([%w_]+),? ?([%w_]*)%)," do
      names[#names + 1] = type .. "." .. member
    end
    assert.same({
      "sample.", "sample.a", "sample.b", "sample.name", "sample.names", "sample.bytes", "sample.grid", "sample.allocate",
      "sample.handlers", "sample.next", "last.", "last.x",
    }, names)
    local text = dofile(folder .. "/cdef.lua")
    assert.equal("1.2.3", text:match "/%* cueball (%S+) %*/")
    assert.matches("uint8_t bytes[4], grid[2][3];", text, 1, true)
  end)

  it("refuses what it cannot read, instead of leaving it out", function()
    for _, declarations in ipairs {
      "typedef struct outer { struct { int x; } inner; } outer;\n",
      "typedef union both { int x; float y; } both;\ntypedef struct one { int x; } one;\n",
      "typedef struct bits { unsigned x : 3; } bits;\n",
      "struct plain { int x; };\ntypedef struct one { int x; } one;\n",
      "int nothing(void);\n",
    } do
      local output, status = generate(declarations)
      assert.is_true(status ~= 0, declarations)
      assert.matches("the headers: ", output, 1, true)
    end
  end)
end)
