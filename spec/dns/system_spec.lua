--- What host.dns of the libuv host says of the machine: resolv.conf and its environment, the hosts file.
local free_port = require("spec.support.port").free
local host = require "cueball.host.uv"
local uv = require "luv"

-- In a process of its own, with these environment variables and nothing else that is looked at. → what it printed
local function elsewhere(environment, script)
  local path = os.tmpname()
  local file = assert(io.open(path, "wb"))
  file:write('local host = require "cueball.host.uv"\n', script)
  file:close()
  local pipe = io.popen(("unset LOCALDOMAIN RES_OPTIONS CARES_HOSTS; %s luajit %s 2>&1"):format(environment, path))
  local text = pipe:read "*a"
  pipe:close()
  os.remove(path)
  return (text:gsub("%s+$", ""))
end

describe("the system's settings", function()
  local SHOW = [[
    local system = assert(host.dns.system())
    system = assert(host.dns.system())
    print(table.concat(system.search, ","), system.ndots, system.rotate, #system.servers > 0, table.concat(system.servers, " "))]]

  it("are those of resolv.conf", function()
    local wanted = {}
    for line in io.lines "/etc/resolv.conf" do
      local address = line:match "^nameserver%s+([%x.:]+)%s*$"
      if address then wanted[#wanted + 1] = address:find ":" and ("[%s]:53"):format(address) or address .. ":53" end
    end
    if #wanted == 0 then wanted[1] = "127.0.0.1:53" end
    assert.equal(table.concat(wanted, " "), elsewhere("", SHOW):match "true\t([^\t]*)$")
  end)

  it("and of the environment", function()
    assert.matches("^a.example,b.example\t3\ttrue\ttrue", elsewhere('LOCALDOMAIN="a.example b.example" RES_OPTIONS="ndots:3 rotate"', SHOW))
    assert.matches("^one.example\t0\tfalse\ttrue", elsewhere('LOCALDOMAIN=one.example RES_OPTIONS="ndots:0"', SHOW))
  end)
end)

describe("the hosts file", function()
  local SHOW = [[
    local ffi = require "ffi"
    local function show(name, rr)
      local answer = host.dns.hosts(name, rr)
      if not answer then return print(name, rr, "none") end
      for index = 0, answer.count - 1 do
        local record = answer.records[index]
        local size = record.type == 1 and 4 or 16
        print(ffi.string(record.name), record.type, record.ttl, record.address[0], record.address[size - 1])
      end
    end
    ]]

  it("gives addresses of the family asked for", function()
    local path = os.tmpname()
    local file = assert(io.open(path, "wb"))
    file:write("# a comment\n10.0.0.1 one.example one\n10.0.0.2 two.example # 10.0.0.3\n2001:db8::6 one.example\n",
      "10.0.0.7 other one.example\n")
    file:close()
    assert.equal(("one.example 1 60 10 1|one.example 1 60 10 7|one.example 28 60 32 6|one 1 60 10 1|two.example 28 none|"
      .. "nobody.example 1 none|10.0.0.3 28 none|ONE.example 28 60 32 6"):gsub(" ", "\t"):gsub("|", "\n"),
      elsewhere("CARES_HOSTS=" .. path, SHOW .. [[
        show("one.example", 1) show("one.example", 28) show("one.", 1) show("two.example", 28) show("nobody.example", 1)
        show("10.0.0.3", 28) show("ONE.example", 28)]]))
    os.remove(path)
  end)

  it("is not needed for localhost", function()
    assert.equal(("localhost 1 60 127 1|LOCALHOST 28 60 0 1|a.localhost 1 60 127 1|notlocalhost 1 none|localhost.example 1 none")
      :gsub(" ", "\t"):gsub("|", "\n"), elsewhere("CARES_HOSTS=/nonexistent", SHOW .. [[
        show("localhost", 1) show("LOCALHOST.", 28) show("a.localhost", 1) show("notlocalhost", 1) show("localhost.example", 1)]]))
  end)
end)

describe("a program that asks", function()
  it("ends by itself once it has its answer", function()
    local port = free_port()
    assert.equal("refused\nend", elsewhere("", ([[
      host.dns.ask("127.0.0.1:%d", "a.example", 1, 60000, function(_, why) print(why) end)
      require("luv").run()
      print "end"]]):format(port)))
  end)
end)

describe("a program without descriptors left", function()
  it("is told so, and not that nobody answered", function()
    assert.matches("^local", elsewhere("ulimit -n 40;", [[
      local uv, held = require "luv", {}
      host.dns.ask("127.0.0.1:9", "a.example", 1, 60000, function() end) -- what is loaded once is
      repeat
        local one = uv.new_tcp()
        held[#held + 1] = one
      until not one:bind("127.0.0.1", 0)
      host.dns.ask("127.0.0.1:9", "a.example", 1, 60000, function(_, why)
        print(why)
        os.exit(0)
      end)
      uv.run()]]))
  end)
end)

describe("host.dns", function()
  it("knows the families of the machine", function()
    local mask, has_ipv6 = host.dns.families(), false
    for _, addresses in pairs(uv.interface_addresses()) do
      for _, one in ipairs(addresses) do
        has_ipv6 = has_ipv6 or one.family == "inet6" and one.ip ~= "::1" and not one.ip:find "^fe80"
      end
    end
    assert.equal(has_ipv6 and 3 or 1, mask)
  end)
end)
