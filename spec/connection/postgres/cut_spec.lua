--- Connections that end amid a message: a real PostgreSQL behind something that passes on so many bytes, and then ends the connection.
local host = require "cueball.host.uv"
local postgres = require "spec.support.postgres"
local uv = require "luv"

local server
local open = require("spec.support.postgres_client").on(function() return server end)

setup(function() server = postgres.start() end)
teardown(postgres.remove_all)

local function close(handle)
  if not handle:is_closing() then handle:close() end
end

-- Passes on what the server says until `limit` bytes of it are through after begin(). → its port, begin, close
local function cutter(limit)
  local listener, left, handles = uv.new_tcp(), 1e9, {}
  listener:bind("127.0.0.1", 0)
  listener:listen(8, function()
    local near, far = uv.new_tcp(), uv.new_tcp()
    handles[#handles + 1], handles[#handles + 2] = near, far
    listener:accept(near)
    far:connect("127.0.0.1", server.port, function(failure)
      assert(not failure, failure)
      near:read_start(function(_, data) if data and not far:is_closing() then far:write(data) end end)
      far:read_start(function(_, data)
        if not data then return close(near) end
        if near:is_closing() then return end
        near:write(data:sub(1, left), function()
          if left <= 0 then close(near) end
        end)
        left = left - #data
        if left <= 0 then close(far) end
      end)
    end)
  end)
  return listener:getsockname().port, function() left = limit end, function()
    close(listener)
    for _, handle in ipairs(handles) do close(handle) end
  end
end

-- What fn(conn) returns when the connection ends after so many bytes of the answer.
local function cut(limit, fn)
  local port, begin, stop = cutter(limit)
  local answer
  host.run(function()
    local conn = assert(open.connect({}, { port = tostring(port) }))
    begin()
    answer = { fn(conn) }
    assert.equal("closed", conn:status())
    stop()
  end)
  return answer
end

describe("a connection that ends amid a message", function()
  local LONG = "select repeat('x', 1000000) as repeat_"

  it("of COPY tells whoever reads it", function()
    local got = 0
    local answer = cut(300000, function(conn)
      return conn:copy_out("copy (" .. LONG .. ") to stdout", function(bytes) got = got + #bytes end)
    end)
    assert.is_nil(answer[1])
    assert.equal("closed", answer[3])
    assert.equal(0, got)
  end)

  it("of COPY tells whoever gives it up", function()
    local answer = cut(1300000, function(conn)
      return conn:copy_out("copy (" .. LONG .. " from generate_series(1, 3)) to stdout", function() return nil, "enough" end)
    end)
    assert.is_nil(answer[1])
  end)

  it("of a row tells whoever waits for it", function()
    local answer = cut(300000, function(conn) return conn:query(LONG) end)
    assert.is_nil(answer[1])
    assert.equal("closed", answer[3])
    answer = cut(1300000, function(conn)
      local rows = assert(conn:rows(LONG .. " from generate_series(1, 3)"))
      assert.equal(1000000, #rows:next().repeat_)
      return rows:next()
    end)
    assert.is_nil(answer[1])
    assert.equal("closed", answer[3])
  end)
end)
