--- Files that are read whole.
local file = require "cueball.file"

describe("a file's text", function()
  it("is all of it, bytes as they are", function()
    local path = os.tmpname()
    finally(function() os.remove(path) end)
    local bytes = ("\0\r\n\255"):rep(50000)
    local opened = assert(io.open(path, "wb"))
    opened:write(bytes)
    opened:close()
    assert.equal(bytes, file.text(path))
    assert(io.open(path, "wb")):close()
    assert.equal("", file.text(path))
  end)

  it("cannot be had of what is no file: the message begins with the path", function()
    assert.same({ nil, "/nowhere/x: No such file or directory" }, { file.text "/nowhere/x" })
    assert.same({ nil, "/tmp: Is a directory" }, { file.text "/tmp" })
  end)
end)
