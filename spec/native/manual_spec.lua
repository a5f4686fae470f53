--- docs/native.md: its program is compiled and run as it stands.
local manual = require "spec.support.manual"
local native_library = require "spec.support.native_library"
local shell = require "spec.support.shell"
local uv = require "luv"

describe("docs/native.md", function()
  local text = shell.text_of "docs/native.md"
  local c, lua
  for _, block in ipairs(manual.blocks_of(text)) do
    if block.language == "c" then c = c or block.text elseif block.language == "lua" then lua = lua or block.text end
  end

  it("has an example that runs", function()
    local folder = shell.must("mktemp -d"):match "%S+"
    shell.write(folder .. "/plain.c", c)
    local path = native_library.build(folder .. "/plain.c")
    local server = uv.new_tcp()
    server:bind("127.0.0.1", 0)
    server:listen(128, function() end)
    local run = lua:gsub('"%./libplain%.so"', ("%q"):format(path)):gsub("127%.0%.0%.1:7000", "127.0.0.1:" .. server:getsockname().port)
    shell.write(folder .. "/plain.lua", run)
    local output = shell.must("CUEBALL_LOG=none luajit " .. folder .. "/plain.lua")
    assert.is_true((tonumber(output:match "(%d+)%s*$") or -1) >= 3, output)
    server:close()
    uv.run "nowait" -- luv before 1.45 crashes if the Lua state is closed while something is closing
    native_library.remove(path)
    shell.must("rm -rf " .. folder)
  end)

  it("shows a resolver that compiles", function()
    local all = {}
    for _, block in ipairs(manual.blocks_of(text)) do
      if block.language == "c" then all[#all + 1] = block.text end
    end
    local folder = shell.must("mktemp -d"):match "%S+"
    shell.write(folder .. "/nodes.c", "#include <cueball_native.h>\n" .. all[2])
    native_library.remove(native_library.build(folder .. "/nodes.c"))
    shell.must("rm -rf " .. folder)
  end)

  it("names every public function that programs call", function()
    local header = shell.text_of "src/include/cueball_native.h":match "^(.-)/%* %-+ for whoever has an event loop"
    local count = 0
    for name in header:gmatch "CUEBALL_API [^;]-(cueball_native_[%w_]+)%(" do
      local short = name:gsub("^cueball_native_sink", "")
      assert.is_truthy(text:find(name, 1, true) or text:find("`" .. short .. "`", 1, true), name)
      count = count + 1
    end
    assert.equal(15, count)
  end)
end)
