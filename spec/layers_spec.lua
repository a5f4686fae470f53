--- The rules that hold the house up: who may use whom. Each checker is first fed what it must refuse.

local source = require "spec.support.source"
local root, read, lines_of, files = source.root, source.read, source.lines_of, source.files
local line_number, blank, strip_lua = source.line_number, source.blank, source.strip_lua
local build = os.getenv "CUEBALL_BUILD" or root .. "/build"

local function set(words)
  local members = {}
  for word in words:gmatch "%S+" do
    members[word] = true
  end
  return members
end

-- ------------------------------------------------------------------ the core: text --

local CORE_INCLUDES = set [[
  assert.h float.h inttypes.h limits.h math.h stdarg.h stdbool.h stddef.h stdint.h stdio.h string.h
  sys/sdt.h ]] -- the last one makes notes for tracers, and calls nothing: src/core/kit/trace.h

-- Whatever reaches the machine. The symbols below are the stronger check; this one names the line.
local CORE_CALLS = set [[
  malloc calloc realloc reallocarray aligned_alloc posix_memalign free strdup strndup alloca asprintf vasprintf
  time clock clock_gettime gettimeofday timespec_get nanosleep sleep usleep localtime gmtime
  rand srand rand_r random srandom drand48 arc4random getrandom getentropy
  open openat read write close socket connect bind listen accept send sendto recv recvfrom select poll ioctl fcntl pipe
  fopen fdopen fclose fread fwrite fgets fputs fputc putc putchar puts perror fflush getc getchar
  printf fprintf vprintf vfprintf dprintf sprintf vsprintf scanf sscanf fscanf syslog
  fork execv execve system getenv setenv signal raise exit _exit abort atexit longjmp setjmp
  pthread_create pthread_mutex_lock pthread_mutex_unlock pthread_cond_wait mtx_lock mtx_unlock thrd_create thrd_yield
  call_once ]]

local CORE_NAMES = set "stdin stdout stderr errno environ _Thread_local _Atomic"

local function strip_c(text)
  local out, position = {}, 1
  while position <= #text do
    local two, one = text:sub(position, position + 1), text:sub(position, position)
    local stop
    if two == "/*" then
      stop = select(2, text:find("*/", position + 2, true)) or #text
    elseif two == "//" then
      stop = (text:find("\n", position, true) or #text + 1) - 1
    elseif one == '"' or one == "'" then
      stop = source.end_of_string(text, position)
    end
    if stop then
      local is_include = one == '"' and text:sub(1, position - 1):match "#%s*include%s*$"
      local piece = text:sub(position, stop)
      out[#out + 1] = is_include and piece or blank(piece)
      position = stop + 1
    else
      out[#out + 1] = one
      position = position + 1
    end
  end
  return table.concat(out)
end

--- What in the C text reaches out of the core: a list of "line: what". `own` is the set of the core's own headers.
local function core_text_violations(text, own)
  local code = strip_c(text)
  local found = {}
  local function report(position, what)
    found[#found + 1] = ("%d: %s"):format(line_number(code, position), what)
  end
  for position, name in code:gmatch '()#%s*include%s*(%b<>)' do
    if not CORE_INCLUDES[name:sub(2, -2)] then
      report(position, "includes " .. name)
    end
  end
  for position, name in code:gmatch '()#%s*include%s*"([^"\n]*)"' do
    if not own[name] then
      report(position, 'includes "' .. name .. '"')
    end
  end
  for before, position, name in ("\n" .. code):gmatch "([^%w_])()([%a_][%w_]*)%s*%(" do
    if CORE_CALLS[name] and before ~= "." and before ~= ">" then
      report(position - 1, "calls " .. name)
    end
  end
  for position, name in code:gmatch "()%f[%w_]([%a_][%w_]*)%f[^%w_]" do
    if CORE_NAMES[name] then
      report(position, "names " .. name)
    end
  end
  return found
end

describe("the check of the core's text", function()
  local own = { ["pool.h"] = true, ["kit/list.h"] = true, ["cueball.h"] = true }

  local function refused(text)
    return core_text_violations(text, own)
  end

  it("refuses includes that reach the machine", function()
    assert.same({ "2: includes <time.h>" }, refused "#include <stdint.h>\n#include <time.h>\n")
    assert.same({ "1: includes <stdlib.h>" }, refused "# include  <stdlib.h>")
    assert.same({ '1: includes "../libc.h"' }, refused '#include "../libc.h"')
    assert.same({}, refused '#include "pool.h"\n#include "kit/list.h"\n#include "cueball.h"\n#include <string.h>\n#include <stdio.h>')
  end)

  it("refuses calls that reach the machine, whatever stands around them", function()
    assert.same({ "1: calls malloc" }, refused "void *p = malloc(8);")
    assert.same({ "2: calls free" }, refused "{\n(free)(p); free (p);}")
    assert.same({ "1: calls printf" }, refused "printf(\"x\");")
    assert.same({ "1: calls clock_gettime" }, refused "if (!clock_gettime(CLOCK_MONOTONIC, &t))")
    assert.same({ "1: calls rand" }, refused "return rand() % 2;")
    assert.same({ "1: calls pthread_mutex_lock" }, refused "pthread_mutex_lock(&lock);")
    assert.same({ "1: names stderr" }, refused "fputz(text, stderr);")
    assert.same({ "1: names _Thread_local" }, refused "static _Thread_local int x;")
  end)

  it("lets pass names that only look so, and comments and strings", function()
    assert.same({}, refused "allocator->free(p); allocator.release(p); pool_free(p); free_list_add(l); snprintf(t, n, f);")
    assert.same({}, refused "/* malloc(1)\n time(NULL) */ // rand()\nconst char *text = \"open(\\\" read(\";")
  end)
end)

describe("the core", function()
  it("includes and calls nothing that reaches the machine", function()
    local paths = files("src/core", "*.[ch]")
    assert.is_true(#paths > 0, "no files in src/core")
    -- A file includes what is beside it, and parts of the core and the public headers from where they begin.
    local own = {}
    for _, path in ipairs(paths) do
      own[path:match "[^/]+$"], own[path:match "^src/core/(.+)$"] = true, true
    end
    for _, name in ipairs { "cueball_types.h", "cueball.h", "cueball_tracker.h" } do
      own[name] = true
    end
    local found = {}
    for _, path in ipairs(paths) do
      for _, violation in ipairs(core_text_violations(read(root .. "/" .. path), own)) do
        found[#found + 1] = path .. ":" .. violation
      end
    end
    assert.same({}, found)
  end)
end)

-- --------------------------------------------------------------- the core: symbols --

local CORE_SYMBOLS = set [[
  memcpy memmove memset memcmp memchr strlen strcmp strncmp strchr strnlen snprintf vsnprintf
  __memcpy_chk __memmove_chk __memset_chk __snprintf_chk __vsnprintf_chk
  ceil cos exp exp2 expm1 fabs floor fmax fmin fmod frexp ldexp llround log log10 log1p log2 lround modf pow round scalbn sin
  sqrt trunc
  __assert_fail __stack_chk_fail _GLOBAL_OFFSET_TABLE_
  __udivti3 __umodti3 __divti3 __modti3 __popcountdi2 __clzdi2 __ctzdi2 ]]

-- What sanitizers and coverage put in.
local INSTRUMENTS = { "^__asan_", "^__ubsan_", "^__sanitizer_", "^__sancov_", "^__tsan_", "^__gcov_", "^__llvm_" }

local function is_instrument(name)
  for _, pattern in ipairs(INSTRUMENTS) do
    if name:find(pattern) then
      return true
    end
  end
  return false
end

--- What `nm -A` says of object files: who defines a symbol, and a list of { object =, symbol = } that are referred to.
local function symbols_of(lines)
  local defined, undefined = {}, {}
  for _, line in ipairs(lines) do
    local object, kind, symbol = line:match "^(%S+):%x*%s+(%a)%s+(%S+)$"
    if kind == "U" or kind == "w" or kind == "v" then
      undefined[#undefined + 1] = { object = object, symbol = symbol }
    elseif kind and kind:upper() == kind then
      defined[symbol] = object
    end
  end
  return defined, undefined
end

--- What object files refer to outside of themselves and the list: "object: symbol".
local function core_symbol_violations(lines)
  local defined, undefined = symbols_of(lines)
  local found = {}
  for _, one in ipairs(undefined) do
    if not defined[one.symbol] and not CORE_SYMBOLS[one.symbol] and not is_instrument(one.symbol) then
      found[#found + 1] = one.object .. ": " .. one.symbol
    end
  end
  return found
end

--- What nm says of the object files of the core, named from src/core on.
local function core_symbols()
  local objects = {}
  for _, path in ipairs(files("src/core", "*.c")) do
    objects[#objects + 1] = path:match "^src/core/(.+)$" .. ".o"
  end
  return lines_of(("cd '%s/CMakeFiles/cueball_core.dir/src/core' && nm -A %s"):format(build, table.concat(objects, " ")))
end

describe("the check of the core's symbols", function()
  it("refuses what is neither the core's own nor on the list", function()
    assert.same({ "pool/pool.c.o: malloc", "pool/slot.c.o: cueball_clock_now" }, core_symbol_violations {
      "pool/pool.c.o:0000000000000000 T cueball_pool_new", "pool/pool.c.o:                 U malloc",
      "pool/pool.c.o:                 U memcpy", "pool/pool.c.o:                 U cueball__slot_new",
      "pool/pool.c.o:                 U __asan_report_load8",
      "pool/slot.c.o:0000000000000010 T cueball__slot_new", "pool/slot.c.o:                 U cueball_clock_now",
    })
  end)
end)

describe("the core's object files", function()
  it("refer to nothing that reaches the machine", function()
    local lines = core_symbols()
    local objects, expected, seen = {}, 0, 0
    for _, line in ipairs(lines) do
      objects[line:match "^(%S+%.o):" or ""] = true
    end
    for _, path in ipairs(files("src/core", "*.c")) do
      expected = expected + 1
      seen = seen + (objects[path:match "^src/core/(.+)$" .. ".o"] and 1 or 0)
    end
    assert.is_true(expected > 0, "no files in src/core")
    assert.equal(expected, seen, "object files of the core's were found: " .. table.concat(lines, "\n", 1, math.min(3, #lines)))
    assert.same({}, core_symbol_violations(lines))
  end)
end)

-- ------------------------------------------------------------- Lua: only a host knows --

--- Where the Lua text names an event loop: a list of "line: name".
local function loop_violations(text)
  local code = strip_lua(text)
  local found = {}
  for position, name in code:gmatch "()%f[%w_]([%a_][%w_]*)%f[^%w_]" do
    if name == "luv" or name == "uv" or name == "ngx" or name == "resty" then
      found[#found + 1] = ("%d: %s"):format(line_number(code, position), name)
    end
  end
  for position in code:gmatch "()%f[%w_]vim%s*%.%s*loop%f[^%w_]" do
    found[#found + 1] = ("%d: vim.loop"):format(line_number(code, position))
  end
  return found
end

describe("the check of who names an event loop", function()
  it("refuses a loop, however it is named", function()
    assert.same({ "1: luv" }, loop_violations 'local loop = require "luv"')
    assert.same({ "1: luv" }, loop_violations "local loop = require('luv')")
    assert.same({ "1: luv" }, loop_violations 'local ok, loop = pcall(require, "luv")')
    assert.same({ "1: luv" }, loop_violations "local loop = require [[luv]]")
    assert.same({ "2: uv" }, loop_violations '\nlocal host = require "cueball.host.uv"')
    assert.same({ "1: resty", "2: ngx" }, loop_violations 'require "resty.core"\nrequire "ngx.semaphore"')
    assert.same({ "1: ngx" }, loop_violations "return ngx.now()")
    assert.same({ "1: ngx" }, loop_violations "if rawget(_G, 'x') then _G.ngx.sleep(1) end")
    assert.same({ "1: ngx" }, loop_violations 'local n = _G["ngx"]')
    assert.same({ "1: luv" }, loop_violations 'local n = package.loaded["luv"]')
    assert.same({ "3: vim.loop" }, loop_violations "--[[ a\n]]\nlocal loop = vim.loop")
  end)

  it("lets pass comments, strings and longer names", function()
    assert.same({}, loop_violations "-- luv, uv, ngx\n--[==[ ngx.now() ]] ]==] local x = 1")
    assert.same({}, loop_violations 'error("no luv here, and no \\"ngx\\"") local t = [[\nrequire "luv"]]')
    assert.same({}, loop_violations 'local uvula, ngx_like, _uv = 1, a - b, t[t[1]] require "cueball.host.sim"')
  end)
end)

describe("the Lua modules outside host/ and nginx/", function()
  it("name no event loop", function()
    local found, count = {}, 0
    for _, path in ipairs(files("lua/cueball", "*.lua")) do
      if not path:find "^lua/cueball/host/" and not path:find "^lua/cueball/nginx/" then
        count = count + 1
        for _, violation in ipairs(loop_violations(read(root .. "/" .. path))) do
          found[#found + 1] = path .. ":" .. violation
        end
      end
    end
    assert.is_true(count > 0, "no files in lua/cueball")
    assert.same({}, found)
  end)
end)

-- ------------------------------------------------------------- Lua: who may use whom --

-- The rooms of lua/cueball. A module belongs to the room whose name is the longest beginning of its own; cueball itself is "init".
local ROOMS = {
  address = "base", cdef = "base", file = "base", loaders = "base", luajit = "base", log = "base", made_of = "base", misuse = "base",
  native = "base", options = "base", random = "base",
  secret = "base", text = "base",
  host = "host", cosocket = "cosocket", dns = "dns", resolver = "resolver", connection = "connection", pool = "pool", set = "set",
  nginx = "nginx", monitor = "monitor", http = "http", cli = "cli", tls = "tls", runtime = "runtime", console = "console",
}

-- What each room may use beside itself and base.
local MAY_USE = {
  base = {}, tls = {}, host = set "cosocket dns tls", cosocket = set "host tls", dns = {}, resolver = set "dns host",
  connection = set "cosocket tls", pool = set "host resolver", set = set "pool", nginx = set "host cosocket dns resolver",
  monitor = set "host http log tls", http = set "host log",
  cli = set "host http dns resolver init console", init = set "host cosocket pool set nginx monitor console",
  runtime = set "host init monitor pool set", console = set "host http init monitor pool set resolver connection log",
}

-- What single modules may use besides: where rooms meet.
local MEETINGS = {
  ["cueball.host"] = set "cueball.nginx.host",                                    -- chooses between hosts
  ["cueball.host.contract"] = set "cueball.nginx.quota",                          -- what shares max_connections, for all hosts
  ["cueball.nginx.lazy"] = set "cueball.monitor.board cueball.console.relay",     -- what nginx's host has of other rooms
  ["cueball.nginx.parking"] = set "cueball.pool.condition cueball.pool.context",  -- does a part of the pool's own work
  ["cueball.nginx.parked"] = set "cueball.pool.condition cueball.pool.context cueball.pool.memo",
  ["cueball.monitor.snapshot"] = set "cueball.pool.registry cueball.pool.stats",  -- which pools there are, and their backends
  ["cueball.cli.run"] = set "cueball.pool.registry",
  ["cueball.monitor.signals"] = set "cueball.pool.counts",                        -- what is measured, and how
  ["cueball.monitor.openmetrics"] = set "cueball.pool.counts",
  ["cueball.monitor.numbers"] = set "cueball.pool.counts cueball.pool.stats",     -- in what order
}

local function room_of(module)
  if module == "cueball" then return "init" end
  return ROOMS[module:match "^cueball%.([^.]+)"]
end

-- The module in a file below lua/.
local function module_in(path)
  return (path:gsub("^lua/", ""):gsub("%.lua$", ""):gsub("/init$", ""):gsub("/", "."))
end

-- What stands to the right of each `require` in this line, as far as it is its argument.
local function arguments_of(line)
  local list = {}
  for at in line:gmatch "%f[%w_]require%f[^%w_]()" do
    local rest = line:sub(at)
    list[#list + 1] = rest:match "^%s*(%b())" or rest:match "^%s*,?%s*([\"'][^\"']*[\"'])" or ""
  end
  return list
end

--- The modules that a Lua text requires: { name = line }. One that is required when it is needed counts like any other.
-- @param modules the set of all there are
local function uses_of(text, modules)
  local uses, number = {}, 0
  for line in (text .. "\n"):gmatch "(.-)\n" do
    number = number + 1
    for _, argument in ipairs(arguments_of((line:gsub("%-%-.*$", "")))) do
      for name in argument:gmatch "[\"'](cueball[%w_.]*)[\"']" do
        if modules[name] then uses[name] = uses[name] or number end
      end
    end
  end
  return uses
end

--- Where a module uses what it may not: a list of "line: module".
local function room_violations(module, text, modules)
  local found, own, uses = {}, room_of(module), uses_of(text, modules)
  if not own then return { "it stands in no room" } end
  for name, line in pairs(uses) do
    local room = room_of(name)
    local may = room == own or room == "base" or MAY_USE[own][room] or MEETINGS[module] and MEETINGS[module][name]
    if not may then found[#found + 1] = ("%d: %s"):format(line, name) end
  end
  table.sort(found)
  return found
end

--- The circles among modules: a list of "a -> b -> a", one for each that is met first.
-- @param graph { module = { used = anything } }
local function circles_in(graph)
  local found, state, way = {}, {}, {}
  local function visit(module)
    state[module] = "open"
    way[#way + 1] = module
    local used = {}
    for name in pairs(graph[module] or {}) do used[#used + 1] = name end
    table.sort(used)
    for _, name in ipairs(used) do
      if name ~= module and state[name] == "open" then
        local from = #way
        while way[from] ~= name do from = from - 1 end
        found[#found + 1] = table.concat(way, " -> ", from) .. " -> " .. name
      elseif not state[name] then
        visit(name)
      end
    end
    way[#way] = nil
    state[module] = "done"
  end
  local modules = {}
  for module in pairs(graph) do modules[#modules + 1] = module end
  table.sort(modules)
  for _, module in ipairs(modules) do
    if not state[module] then visit(module) end
  end
  return found
end

describe("the check of who uses whom", function()
  local modules = set [[ cueball cueball.text cueball.pool cueball.pool.claim cueball.nginx.parking cueball.monitor.board cueball.host
    cueball.resolver.sink cueball.set ]]

  it("refuses what a room may not use, however it is named, now or later", function()
    assert.same({ "1: cueball.nginx.parking" }, room_violations("cueball.pool.claim", 'local p = require "cueball.nginx.parking"', modules))
    assert.same({ "2: cueball.monitor.board" },
      room_violations("cueball.pool", "\nlocal function f() return require('cueball.monitor.board') end", modules))
    assert.same({ "1: cueball.pool" }, room_violations("cueball.resolver.sink", 'require(is_x and "cueball.pool" or "x")', modules))
    assert.same({ "1: cueball.set" }, room_violations("cueball.host", "local ok = pcall(require, 'cueball.set')", modules))
    assert.same({ "it stands in no room" }, room_violations("cueball.attic.old", "", modules))
  end)

  it("lets pass what a room may use, and comments", function()
    assert.same({}, room_violations("cueball.pool", 'require "cueball.pool.claim" require "cueball.text" require "cueball.host"', modules))
    assert.same({}, room_violations("cueball.pool", '-- require "cueball.nginx.parking"\nerror "cueball.nginx.parking"', modules))
  end)

  it("finds circles, of two and of more", function()
    assert.same({ "a -> b -> a" }, circles_in { a = set "b", b = set "a c", c = {} })
    assert.same({ "b -> c -> d -> b" }, circles_in { a = set "b", b = set "c", c = set "d", d = set "b" })
    assert.same({}, circles_in { a = set "b c", b = set "d", c = set "d", d = {} })
  end)
end)

describe("the Lua modules", function()
  local texts, modules, graph = {}, { ["cueball.cdef"] = true }, {}
  for _, path in ipairs(files("lua/cueball", "*.lua")) do
    local module = module_in(path)
    texts[module], modules[module] = read(root .. "/" .. path), true
  end
  for module, text in pairs(texts) do graph[module] = uses_of(text, modules) end

  it("use what their rooms may use", function()
    local found = {}
    for module, text in pairs(texts) do
      for _, violation in ipairs(room_violations(module, text, modules)) do found[#found + 1] = module .. ":" .. violation end
    end
    table.sort(found)
    assert.same({}, found)
  end)

  it("use each other in no circle", function()
    assert.same({}, circles_in(graph))
  end)

  it("meet where it is said, and nowhere else", function()
    for module, names in pairs(MEETINGS) do
      for name in pairs(names) do assert.is_truthy(graph[module] and graph[module][name], module .. " does not use " .. name) end
    end
  end)
end)
