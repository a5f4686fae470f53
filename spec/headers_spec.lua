--- The C headers as programs meet them: each by itself, in every C from C99 on and in C++; and the library, once
-- installed, found with CMake and with pkg-config.

local program = require "spec.support.program"

local HEADERS = { "cueball_types", "cueball", "cueball_visit", "cueball_tracker", "cueball_dns" }
local STRICT = "-Wall -Wextra -Wpedantic -Wshadow -Werror -Isrc/include -c -o /dev/null "
local COMPILERS = {
  "cc -std=c99 -Wstrict-prototypes " .. STRICT, "cc -std=c11 " .. STRICT, "cc -std=c17 " .. STRICT,
  "c++ -std=c++11 " .. STRICT, "c++ -std=c++17 " .. STRICT,
}

describe("a public header", function()
  setup(program.setup)
  teardown(program.teardown)

  for _, name in ipairs(HEADERS) do
    it(name .. ".h compiles by itself", function()
      for _, compiler in ipairs(COMPILERS) do
        local is_cpp = compiler:find "^c%+%+"
        program.must(compiler .. program.write(name .. (is_cpp and ".cc" or ".c"),
          ("#include <%s.h>\nint main(%s) { return 0; }\n"):format(name, is_cpp and "" or "void")))
      end
    end)
  end

  it("is one of those that are installed", function()
    local found = {}
    for name in program.must("ls src/include"):gmatch "(%S+)%.h" do found[#found + 1] = name end
    local expected = { unpack(HEADERS) }
    table.sort(expected)
    table.sort(found)
    assert.same(expected, found)
  end)
end)

-- What a program outside of the tree has: one source file, and the way that it asks for the library.
local SOURCE = [[
#include <cueball.h>
#include <cueball_dns.h>
#include <stdio.h>

int main(void)
{
    cueball_options options;
    cueball_pool *pool = NULL;
    cueball_options_init(&options);
    if (cueball_pool_new(&options, cueball_allocator_libc(), 1, cueball_clock_now(), &pool) != CUEBALL_OK)
        return 1;
    printf("%s %s\n", cueball_version(), cueball_pool_state_name(cueball_pool_state_of(pool)));
    cueball_pool_free(pool);
    return 0;
}
]]

local CMAKE = [[
cmake_minimum_required(VERSION 3.18)
project(consumer LANGUAGES C)
find_package(cueball 0.1 REQUIRED)
add_executable(consumer consumer.c)
target_link_libraries(consumer PRIVATE cueball::cueball)
add_executable(consumer-static consumer.c)
target_link_libraries(consumer-static PRIVATE cueball::static)
]]

describe("the installed library", function()
  local prefix, told

  setup(function()
    program.setup()
    prefix = program.folder() .. "/prefix"
    -- The build that is there, unless it is sanitized: a program would need the sanitizer's library before all others.
    local tree = os.getenv "CUEBALL_BUILD"
    if not tree or (os.getenv "CUEBALL_CMAKE_ARGS" or ""):find "SANITIZE" then
      tree = program.folder() .. "/tree"
      program.must(("cmake -S . -B %s && cmake --build %s -j2"):format(tree, tree))
    end
    program.must(("cmake --install %s --prefix %s"):format(tree, prefix))
    program.write("consumer.c", SOURCE)
    told = require("cueball.native").version .. " starting"
  end)
  teardown(program.teardown)

  it("is found by find_package(cueball), shared and static", function()
    program.write("CMakeLists.txt", CMAKE)
    local here, tree = program.folder(), program.folder() .. "/consumer"
    program.must(("cmake -S %s -B %s -DCMAKE_PREFIX_PATH=%s && cmake --build %s"):format(here, tree, prefix, tree))
    assert.equal(told, program.must(tree .. "/consumer"))
    assert.equal(told, program.must(tree .. "/consumer-static"))
  end)

  it("is not found by who asks for another minor version", function()
    program.write("CMakeLists.txt", (CMAKE:gsub("cueball 0.1", "cueball 0.2")))
    local here, tree = program.folder(), program.folder() .. "/other"
    local found, message = pcall(program.must, ("cmake -S %s -B %s -DCMAKE_PREFIX_PATH=%s"):format(here, tree, prefix))
    assert.is_false(found)
    assert.matches('compatible with requested version "0.2"', (tostring(message):gsub("%s+", " ")), 1, true)
  end)

  it("is found by pkg-config, shared and static", function()
    local here = program.folder()
    local find = ("export PKG_CONFIG_PATH=$(dirname $(find %s -name cueball.pc)); "):format(prefix)
    program.must(find .. ("cc -o %s/shared %s/consumer.c $(pkg-config --cflags --libs cueball)"):format(here, here))
    assert.equal(told, program.must(find .. ("LD_LIBRARY_PATH=$(pkg-config --variable=libdir cueball) %s/shared"):format(here)))
    program.must(find .. ("cc -o %s/static %s/consumer.c $(pkg-config --cflags cueball) "):format(here, here)
      .. "$(pkg-config --libs --static cueball | sed \"s|-lcueball|$(pkg-config --variable=libdir cueball)/libcueball.a|\")")
    assert.equal(told, program.must(here .. "/static"))
  end)
end)
