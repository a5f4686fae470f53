--- The C headers as programs meet them: each by itself, in every C from C99 on and in C++; and the library, once
-- installed, found with CMake and with pkg-config.

local program = require "spec.support.program"

local HEADERS = { "cueball_types", "cueball", "cueball_threaded", "cueball_visit", "cueball_notices", "cueball_terminal", "cueball_tracker",
  "cueball_dns", "cueball_native", "cueball_runtime", "cueball_tls", "cueball_http" }
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

  it("has TLS as a component, and as a package of pkg-config's", function()
    local here, tree = program.folder(), program.folder() .. "/secure"
    program.write("secure.c", [[
#include <cueball_tls.h>
#include <stdio.h>

int main(void)
{
    cueball_tls_context *context = NULL;
    if (cueball_tls_context_new(CUEBALL_TLS_CLIENT, &context) != CUEBALL_OK)
        return 1;
    cueball_tls_context_free(context);
    puts(cueball_tls_version_text());
    return 0;
}
]])
    program.write("CMakeLists.txt", [[
cmake_minimum_required(VERSION 3.18)
project(secure LANGUAGES C)
find_package(cueball 0.1 REQUIRED COMPONENTS tls)
add_executable(secure secure.c)
target_link_libraries(secure PRIVATE cueball::tls)
add_executable(secure-static secure.c)
target_link_libraries(secure-static PRIVATE cueball::tls_static)
]])
    program.must(("cmake -S %s -B %s -DCMAKE_PREFIX_PATH=%s && cmake --build %s"):format(here, tree, prefix, tree))
    local version = require("cueball.native").version
    assert.equal(version, program.must(tree .. "/secure"))
    assert.equal(version, program.must(tree .. "/secure-static"))
    local find = ("export PKG_CONFIG_PATH=$(dirname $(find %s -name cueball-tls.pc)); "):format(prefix)
    program.must(find .. ("cc -o %s/secure.out %s/secure.c $(pkg-config --cflags --libs cueball-tls)"):format(here, here))
    local run = ("LD_LIBRARY_PATH=$(pkg-config --variable=libdir cueball-tls) %s/secure.out"):format(here)
    assert.equal(version, program.must(find .. run))
    program.must(find .. ("cc -o %s/secure.out %s/secure.c $(pkg-config --cflags cueball-tls) "):format(here, here)
      .. "$(pkg-config --libs --static cueball-tls | "
      .. "sed \"s|-lcueball_tls|$(pkg-config --variable=libdir cueball-tls)/libcueball_tls.a|\")")
    assert.equal(version, program.must(here .. "/secure.out"))
  end)

  it("has HTTP as a component, and as a package of pkg-config's", function()
    local here, tree = program.folder(), program.folder() .. "/web"
    program.write("web.c", [[
#include <cueball_http.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    const char *text = "GET /here HTTP/1.1\r\nHost: x\r\n\r\n";
    size_t taken = 0;
    cueball_http *http = NULL;
    cueball_http_request request;
    if (cueball_http_new(1024, 8, &http) != CUEBALL_OK)
        return 1;
    if (cueball_http_feed(http, text, strlen(text), &taken) != CUEBALL_HTTP_REQUEST
        || cueball_http_request_of(http, &request) != CUEBALL_OK)
        return 2;
    printf("%s %s %s\n", cueball_http_version_text(), request.method, request.target);
    cueball_http_free(http);
    return 0;
}
]])
    program.write("CMakeLists.txt", [[
cmake_minimum_required(VERSION 3.18)
project(web LANGUAGES C)
find_package(cueball 0.1 REQUIRED COMPONENTS http)
add_executable(web web.c)
target_link_libraries(web PRIVATE cueball::http)
add_executable(web-static web.c)
target_link_libraries(web-static PRIVATE cueball::http_static)
]])
    program.must(("cmake -S %s -B %s -DCMAKE_PREFIX_PATH=%s && cmake --build %s"):format(here, tree, prefix, tree))
    local answer = require("cueball.native").version .. " GET /here"
    assert.equal(answer, program.must(tree .. "/web"))
    assert.equal(answer, program.must(tree .. "/web-static"))
    local find = ("export PKG_CONFIG_PATH=$(dirname $(find %s -name cueball-http.pc)); "):format(prefix)
    program.must(find .. ("cc -o %s/web.out %s/web.c $(pkg-config --cflags --libs cueball-http)"):format(here, here))
    assert.equal(answer, program.must(find .. ("LD_LIBRARY_PATH=$(pkg-config --variable=libdir cueball-http) %s/web.out"):format(here)))
  end)

  it("is found with the runtime, by CMake and by pkg-config", function()
    local here, tree = program.folder(), program.folder() .. "/runtime"
    program.write("threads.c", [[
#include <cueball_runtime.h>
#include <stdio.h>
int main(void)
{
    cueball_runtime_options options = { .text = "require 'cueball'" };
    cueball_runtime *runtime;
    if (cueball_runtime_start(&options, &runtime) != CUEBALL_OK)
        return puts(cueball_last_error());
    cueball_runtime_free(runtime);
    puts(cueball_version());
    return 0;
}
]])
    program.write("CMakeLists.txt", [[
cmake_minimum_required(VERSION 3.18)
project(threads LANGUAGES C)
find_package(cueball 0.1 REQUIRED COMPONENTS runtime)
add_executable(threads threads.c)
target_link_libraries(threads PRIVATE cueball::runtime)
]])
    program.must(("cmake -S %s -B %s -DCMAKE_PREFIX_PATH=%s && cmake --build %s"):format(here, tree, prefix, tree))
    local version = require("cueball.native").version
    local alone = "unset LUA_PATH LUA_CPATH; " -- its modules are found from where the library is
    assert.equal(version, program.must(alone .. tree .. "/threads"))
    local find = ("export PKG_CONFIG_PATH=$(dirname $(find %s -name cueball-runtime.pc)); "):format(prefix)
    program.must(find .. ("cc -o %s/threads.out %s/threads.c $(pkg-config --cflags --libs cueball-runtime)"):format(here, here))
    local run = ("LD_LIBRARY_PATH=$(pkg-config --variable=libdir cueball-runtime) %s/threads.out"):format(here)
    assert.equal(version, program.must(alone .. find .. run))
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
