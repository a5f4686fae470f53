--- Probes for tracers: the library has those that docs/tracing.md names, with as many arguments, and these are what it says.
local shell = require "spec.support.shell"

local library = shell.build .. "/libcueball.so"

-- The probes of the library: { name = count of arguments }; and of how many places.
local function of_library()
  local probes, places = {}, 0
  for name, arguments in shell.must("readelf -nW " .. shell.quote(library)):gmatch "Provider: cueball%s+Name: (%S+).-Arguments: ([^\n]*)" do
    local _, count = arguments:gsub("%S+@", "")
    assert(not probes[name] or probes[name] == count, name .. " has different arguments in two places")
    probes[name], places = count, places + 1
  end
  return probes, places
end

local function of_manual()
  local probes = {}
  for line in shell.text_of("docs/tracing.md"):gmatch "[^\n]+" do
    local name, rest = line:match "^| `(%a+)` (|.*)|[^|]*|$"
    if name then
      local count = 0
      for cell in rest:gmatch "| ([^|]*)" do
        if cell:find "%S" then count = count + 1 end
      end
      probes[name] = count
    end
  end
  return probes
end

local probes, places = of_library()
local has_probes = next(probes) ~= nil

describe("the probes of the library", function()
  if not has_probes then
    pending "are left out of this build: it has no sys/sdt.h, or CUEBALL_PROBES=OFF"
    return
  end

  it("are those of docs/tracing.md, with as many arguments", function()
    assert.same(of_manual(), probes)
    assert.is_true(places > 9)
  end)

  it("compute nothing on the short ways of a claim and a release: their places are nops", function()
    local notes = shell.must("readelf -nW " .. shell.quote(library))
    local code = shell.must("objdump -d --no-show-raw-insn " .. shell.quote(library))
    for at in notes:gmatch "Provider: cueball.-Location: 0x(%x+)" do
      local instruction = code:match("\n%s*" .. at:gsub("^0+", "") .. ":%s+(%S+)")
      assert.equal("nop", instruction)
    end
  end)

  it("are what the script of the examples asks for", function()
    if select(2, shell.run "command -v bpftrace") ~= 0 then return pending "needs bpftrace" end
    local script = shell.must "mktemp"
    shell.write(script, (shell.text_of("examples/trace.bt"):gsub("/usr/local/lib/libcueball%.so", (library:gsub("%%", "%%%%")))))
    local output, status = shell.run("bpftrace -d " .. script)
    os.remove(script)
    assert.equal(0, status, output)
  end)
end)

local SCRIPT = [[
  local cueball = require "cueball"
  local world = require("cueball.host.sim").new()
  world.server("10.0.0.1", 7000)
  local recovery = { default = { attempts = 2, delay_ms = 10, spread = 0 } }
  world.run(function()
    local pool = cueball.pool {
      host = world, resolver = cueball.resolver.static { "10.0.0.1:7000", "10.0.0.9:1" }, max_connections = 2, recovery = recovery,
      connect = cueball.connection.tcp {},
    }
    world.sleep(1000)
    local leases = {}
    repeat leases[#leases + 1] = pool:try_claim() until pool:stats().idle == 0
    world.spawn(function() pool:claim { timeout_ms = 5 } end)
    world.spawn(function() pool:claim():release() end)
    world.sleep(7)
    for _, lease in ipairs(leases) do lease:release() end
    world.sleep(1)
    pool:try_claim():close()
    pool:stop()
  end)
]]

-- What gdb prints at each probe.
local FORMATS = {
  claim = { "%d", "$_probe_arg1" }, grant = { "%lu", "$_probe_arg3" }, refuse = { "%d %lu", "$_probe_arg1", "$_probe_arg2" },
  release = { "%d %lu", "$_probe_arg3", "$_probe_arg4" }, open = { "%s %d", "(char *)$_probe_arg2", "$_probe_arg3" },
  opened = { "%s", "(char *)$_probe_arg2" }, dead = { "%s %d %d", "(char *)$_probe_arg1", "$_probe_arg2", "$_probe_arg3" },
  plan = { "%d", "$_probe_arg1" },
}

describe("a debugger at the probes", function()
  local has_gdb = select(2, shell.run "command -v gdb") == 0
  if not has_probes or not has_gdb or os.getenv "LD_PRELOAD" then
    pending "needs probes, gdb, and no sanitizer"
    return
  end

  it("sees what the pool does, with keys, causes and times", function()
    local folder = shell.must "mktemp -d"
    local commands = { "set breakpoint pending on", "set pagination off" }
    for name, format in pairs(FORMATS) do
      commands[#commands + 1] = ("break -probe-stap cueball:%s\ncommands\nsilent\nprintf \"AT %s %s\\n\", %s\ncontinue\nend")
        :format(name, name, format[1], table.concat(format, ", ", 2))
    end
    commands[#commands + 1] = "run"
    shell.write(folder .. "/script.lua", SCRIPT)
    shell.write(folder .. "/commands", table.concat(commands, "\n") .. "\n")
    local output = shell.run(("cd '%s' && LUA_PATH='lua/?.lua;lua/?/init.lua;%s/lua/?.lua;;' LUA_CPATH='%s/?.so;;' "
      .. "timeout 600 gdb -q -batch -x %s/commands --args luajit %s/script.lua </dev/null")
      :format(shell.root, shell.build, shell.build, folder, folder))
    shell.run("rm -rf " .. folder)
    if output:find "ptrace" then return pending "this machine lets nobody trace" end
    local seen = {}
    for line in output:gmatch "AT ([^\n]+)" do seen[line] = (seen[line] or 0) + 1 end
    local why = output:sub(1, 3000)
    assert.equal(1, seen["dead 10.0.0.9:1 2 3"], why) -- CUEBALL_CAUSE_FAILED
    assert.is_truthy(seen["open 10.0.0.9:1 1"] and seen["open 10.0.0.9:1 2"], why)
    assert.is_truthy(seen["opened 10.0.0.1:7000"], why)
    assert.equal(1, seen["refuse -4 5000000"], why) -- CUEBALL_ECLAIM_TIMEOUT, after 5 ms
    assert.equal(1, seen["grant 7000000"], why)
    assert.is_true(seen["release 8 7000000"] >= 1, why) -- CUEBALL_CAUSE_RELEASE
    assert.is_truthy(seen["release 9 0"], why) -- CUEBALL_CAUSE_CLOSE
    assert.is_truthy(seen["plan 2"], why)
    assert.is_truthy(seen["claim 1"], why)
  end)
end)
