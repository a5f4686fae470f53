--- What cueball_notices_receive keeps of notices (cueball_notices.h), with a stand-in for PQresultErrorField.
local native = require "cueball.native"
local lib, ffi = native.lib, native.ffi

describe("notices", function()
  local notices, field

  before_each(function()
    notices = ffi.new "cueball_notices"
    notices.codes, notices.limit = "SM", 100
    jit.off() -- C calls back into Lua here, which it must not do out of compiled code
    local texts = {}
    field = ffi.cast("const char *(*)(const void *, int)", function(result, code)
      if result == nil or code == ("S"):byte() and ffi.cast("const char *", result)[0] == 0 then return nil end
      texts[code] = code == ("S"):byte() and ffi.cast("const char *", result) or ffi.cast("const char *", "text")
      return texts[code]
    end)
    notices.field = field
  end)

  after_each(function()
    lib.cueball_notices_clear(notices)
    field:free()
    jit.on()
  end)

  local function kept()
    return ffi.string(notices.text, notices.length)
  end

  it("are kept field by field, one after the other", function()
    lib.cueball_notices_receive(notices, ffi.cast("const void *", "NOTICE"))
    lib.cueball_notices_receive(notices, ffi.cast("const void *", ""))
    assert.equal("SNOTICE\0Mtext\0\0Mtext\0\0", kept())
    lib.cueball_notices_receive(notices, nil)
    assert.equal("\0", kept():sub(-1))
    assert.equal(0, tonumber(notices.dropped))
  end)

  it("are dropped, whole, where they do not fit", function()
    local long = ("x"):rep(90)
    lib.cueball_notices_receive(notices, ffi.cast("const void *", long))
    local before = kept()
    assert.equal("S" .. long .. "\0Mtext\0\0", before)
    for _ = 1, 3 do lib.cueball_notices_receive(notices, ffi.cast("const void *", "A")) end
    assert.equal(before, kept())
    assert.equal(3, tonumber(notices.dropped))
    lib.cueball_notices_clear(notices)
    assert.same({ 0, 0 }, { tonumber(notices.length), tonumber(notices.room) })
    lib.cueball_notices_receive(notices, ffi.cast("const void *", "A"))
    assert.equal("SA\0Mtext\0\0", kept())
  end)

  it("grow as far as they may", function()
    notices.limit = 1000000
    local long = ("y"):rep(1000)
    for _ = 1, 500 do lib.cueball_notices_receive(notices, ffi.cast("const void *", long)) end
    assert.equal(500 * 1009, tonumber(notices.length))
    assert.equal(0, tonumber(notices.dropped))
  end)
end)
