--- Which copies of libcueball a process has, as its list of mappings tells.
local copies = require "cueball.runtime.copies"

local MAPS = [[
55d0c0000000-55d0c0001000 r--p 00000000 08:01 100                        /usr/bin/luajit
7f0000000000-7f0000004000 r--p 00000000 08:01 7                          /usr/lib/libcueball.so.0.1.0
7f0000004000-7f0000008000 r-xp 00004000 08:01 7                          /usr/lib/libcueball.so.0.1.0
7f0000010000-7f0000014000 r-xp 00000000 08:01 8                          /usr/lib/libcueball_runtime.so.0.1.0
7f0000020000-7f0000024000 r-xp 00000000 08:01 9                          /home/me/some build/libcueball.so
7f0000030000-7f0000034000 r-xp 00000000 08:02 7                          /other/libcueball.so (deleted)
7f0000040000-7f0000044000 rw-p 00000000 00:00 0
]]

local function read(address)
  return copies.read(MAPS:gmatch "[^\n]+", address)
end

describe("cueball.runtime.copies", function()
  it("finds the library that is used, and the others", function()
    local own, others = read(0x7f0000004010)
    assert.equal("/usr/lib/libcueball.so.0.1.0", own)
    assert.same({ "/home/me/some build/libcueball.so", "/other/libcueball.so (deleted)" }, others)
    own, others = read(0x7f0000020000)
    assert.equal("/home/me/some build/libcueball.so", own)
    assert.same({ "/other/libcueball.so (deleted)", "/usr/lib/libcueball.so.0.1.0" }, others)
  end)

  it("counts a library that is part of the program, too", function()
    local own, others = read(0x55d0c0000500)
    assert.is_nil(own)
    assert.equal(3, #others)
  end)

  it("finds nothing in nothing", function()
    local own, others = copies.read((""):gmatch "[^\n]+", 1)
    assert.is_nil(own)
    assert.same({}, others)
  end)

  it("says which library was asked", function()
    assert.is_truthy(copies.told():find("libcueball.so", 1, true), copies.told())
  end)
end)
