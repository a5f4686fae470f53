--- The engine in C, called as C programs call it: what it refuses, what it says, and that a failure is for good.
local ffi = require "ffi"
local library = require "cueball.tls.library"
local certificates = require "spec.support.certificates"
local shell = require "spec.support.shell"
local lib = library.lib
local good = certificates.good

local function context_of(role)
  local out = ffi.new "cueball_tls_context *[1]"
  assert.equal(lib.CUEBALL_OK, lib.cueball_tls_context_new(role, out))
  return ffi.gc(out[0], lib.cueball_tls_context_free)
end

local function client_context()
  local context = context_of(lib.CUEBALL_TLS_CLIENT)
  assert.equal(lib.CUEBALL_OK, lib.cueball_tls_context_trust_file(context, certificates.ca.cert))
  return context
end

local function server_context()
  local context = context_of(lib.CUEBALL_TLS_SERVER)
  local cert, key = good.cert_pem, good.key_pem
  assert.equal(lib.CUEBALL_OK, lib.cueball_tls_context_identity(context, cert, #cert, key, #key))
  return context
end

local function connection_of(context, name, session)
  local out = ffi.new "cueball_tls *[1]"
  assert.equal(lib.CUEBALL_OK, lib.cueball_tls_new(context, out))
  assert.equal(lib.CUEBALL_OK, lib.cueball_tls_begin(out[0], name, lib.CUEBALL_TLS_VERIFY, session))
  return ffi.gc(out[0], lib.cueball_tls_free)
end

local function output_of(tls)
  local bytes = ffi.new "const char *[1]"
  local size = lib.cueball_tls_output(tls, bytes)
  local data = ffi.string(bytes[0], size)
  lib.cueball_tls_output_taken(tls)
  return data
end

-- Passes what one has to send to the other, in the handshake.
local function pass(from, to)
  local data = output_of(from)
  return lib.cueball_tls_handshake(to, data, #data)
end

local function greet(client, server)
  assert.equal(lib.CUEBALL_TLS_WANT, lib.cueball_tls_handshake(client, nil, 0))
  assert.equal(lib.CUEBALL_TLS_WANT, pass(client, server))
  assert.equal(lib.CUEBALL_TLS_DONE, pass(server, client))
  assert.equal(lib.CUEBALL_TLS_DONE, pass(client, server))
end

local plain, size = ffi.new("char[?]", 40000), ffi.new "size_t[1]"

local function receive(tls, data, room)
  local result = lib.cueball_tls_receive(tls, data, data and #data or 0, plain, room or 40000, size)
  return result, ffi.string(plain, size[0])
end

local function send(tls, data)
  return lib.cueball_tls_send(tls, data, #data)
end

describe("the engine", function()
  it("sends and receives, in any room, and knows what is left", function()
    local client, server = connection_of(client_context(), "localhost"), connection_of(server_context())
    greet(client, server)
    local text = ("0123456789"):rep(3000)
    assert.equal(lib.CUEBALL_TLS_DONE, send(server, text))
    local result, part = receive(client, output_of(server), 10000)
    assert.equal(lib.CUEBALL_TLS_MORE, result)
    assert.equal(lib.CUEBALL_TLS_MORE, lib.cueball_tls_peek(client, nil, 0))
    local rest
    result, rest = receive(client, nil, 40000)
    assert.equal(lib.CUEBALL_TLS_DONE, result)
    assert.equal(text, part .. rest)
    assert.equal(lib.CUEBALL_TLS_DONE, lib.cueball_tls_peek(client, nil, 0))
    assert.equal(lib.CUEBALL_TLS_DONE, lib.cueball_tls_shutdown(server))
    assert.equal(lib.CUEBALL_TLS_DONE, lib.cueball_tls_shutdown(server))   -- once more changes nothing
    assert.equal(lib.CUEBALL_TLS_FAILED, send(server, "x"))
    assert.equal(lib.CUEBALL_TLS_CLOSED, (receive(client, output_of(server))))
    assert.equal(lib.CUEBALL_TLS_DONE, send(client, "half closed"))        -- the other direction goes on
    assert.same({ lib.CUEBALL_TLS_DONE, "half closed" }, { receive(server, output_of(client)) })
  end)

  it("is given back whatever is freed first", function()
    local context = client_context()
    local client, server = connection_of(context, "localhost"), connection_of(server_context())
    lib.cueball_tls_context_free(ffi.gc(context, nil))
    greet(client, server)
    send(server, "x")
    receive(client, output_of(server))
    local session = ffi.new "cueball_tls_session *[1]"
    assert.equal(lib.CUEBALL_OK, lib.cueball_tls_session_of(client, session))
    lib.cueball_tls_free(ffi.gc(client, nil))
    lib.cueball_tls_session_free(session[0])
    lib.cueball_tls_session_free(nil)
    lib.cueball_tls_free(nil)
    lib.cueball_tls_context_free(nil)
  end)

  it("resumes after a connection that was just freed, as pools free them", function()
    local client_of, server_of = client_context(), server_context()
    local session = ffi.new "cueball_tls_session *[1]"
    local info = ffi.new "cueball_tls_info"
    for round = 1, 3 do
      local client, server = connection_of(client_of, "localhost", round > 1 and session[0] or nil), connection_of(server_of)
      greet(client, server)
      send(server, "x")
      receive(client, output_of(server))
      assert.equal(lib.CUEBALL_OK, lib.cueball_tls_info_of(client, info))
      assert.equal(round > 1, info.is_resumed)
      assert.is_true(info.is_verified)
      assert.equal("CN=localhost", ffi.string(info.subject))
      if round == 1 then assert.equal(lib.CUEBALL_OK, lib.cueball_tls_session_of(client, session)) end
      lib.cueball_tls_free(ffi.gc(client, nil))
    end
    lib.cueball_tls_session_free(session[0])
  end)

  it("refuses what does not fit its state", function()
    local out, info, session = ffi.new "cueball_tls_context *[1]", ffi.new "cueball_tls_info", ffi.new "cueball_tls_session *[1]"
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_tls_context_new(2, out))
    local client = connection_of(client_context(), "localhost")
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_tls_begin(client, "localhost", 0, nil))
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_tls_identity(client, "x", 1, "y", 1))
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_tls_info_of(client, info))
    assert.equal(lib.CUEBALL_ENOT_FOUND, lib.cueball_tls_session_of(client, session))
    assert.equal(lib.CUEBALL_TLS_FAILED, send(client, "early"))
    assert.equal(lib.CUEBALL_TLS_FAILED, (receive(client, "early")))
    assert.equal(lib.CUEBALL_TLS_FAILED, lib.cueball_tls_peek(client, nil, 0))
    assert.equal(lib.CUEBALL_TLS_FAILED, lib.cueball_tls_shutdown(client))
    assert.equal("", ffi.string(lib.cueball_tls_error(client)))
    local unbegun = ffi.new "cueball_tls *[1]"
    local context = client_context()
    assert.equal(lib.CUEBALL_OK, lib.cueball_tls_new(context, unbegun))
    assert.equal(lib.CUEBALL_TLS_FAILED, lib.cueball_tls_handshake(unbegun[0], nil, 0))
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_tls_begin(unbegun[0], "", 0, nil))
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_tls_begin(unbegun[0], ("x"):rep(256), 0, nil))
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_tls_begin(unbegun[0], "localhost", 4, nil))
    lib.cueball_tls_free(unbegun[0])
  end)

  it("refuses versions and protocols that there are not", function()
    local context = client_context()
    for _, pair in ipairs { { 11, 0 }, { 13, 12 }, { 0, 11 }, { 14, 0 } } do
      assert.equal(lib.CUEBALL_EINVAL, lib.cueball_tls_context_versions(context, pair[1], pair[2]))
      assert.matches("^TLS: no such versions", ffi.string(lib.cueball_tls_context_error(context)))
    end
    assert.equal(lib.CUEBALL_OK, lib.cueball_tls_context_versions(context, 12, 13))
    for _, list in ipairs { "", "\0", "\3h2", "\2h2\0", "\2h2\2" } do
      assert.equal(lib.CUEBALL_EINVAL, lib.cueball_tls_context_alpn(context, list, #list))
    end
    assert.equal(lib.CUEBALL_OK, lib.cueball_tls_context_alpn(context, "\2h2\8http/1.1", 12))
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_tls_context_demand_certificate(context))
    assert.equal(lib.CUEBALL_EINVAL, lib.cueball_tls_context_trust_system(context))   -- it trusts others
    local server = server_context()
    assert.equal(lib.CUEBALL_OK, lib.cueball_tls_context_alpn(server, "\8http/1.1\2h2", 12))
    local client, answering = connection_of(context, "localhost"), connection_of(server)
    greet(client, answering)
    local info = ffi.new "cueball_tls_info"
    lib.cueball_tls_info_of(client, info)
    assert.equal("http/1.1", ffi.string(info.alpn))
    local other = client_context()
    lib.cueball_tls_context_alpn(other, "\4none", 5)
    client, answering = connection_of(other, "localhost"), connection_of(server)
    lib.cueball_tls_handshake(client, nil, 0)
    assert.equal(lib.CUEBALL_TLS_FAILED, pass(client, answering))
    assert.equal("TLS: no application protocol", ffi.string(lib.cueball_tls_error(answering)))
    assert.equal(lib.CUEBALL_TLS_FAILED, pass(answering, client))
    assert.equal("TLS: the peer's alert: tlsv1 alert no application protocol", ffi.string(lib.cueball_tls_error(client)))
  end)

  it("has failed for good once it failed, and keeps its reason", function()
    local client, server = connection_of(client_context(), "localhost"), connection_of(server_context())
    greet(client, server)
    send(server, "hello")
    local data = output_of(server)
    data = data:sub(1, -2) .. string.char((data:byte(-1) + 1) % 256)   -- the last record was changed on its way
    assert.equal(lib.CUEBALL_TLS_FAILED, (receive(client, data)))
    local reason = ffi.string(lib.cueball_tls_error(client))
    assert.matches("^TLS: .*bad record mac", reason)
    assert.is_true(#output_of(client) > 0)   -- an alert
    assert.equal(lib.CUEBALL_TLS_FAILED, (receive(client, nil)))
    assert.equal(lib.CUEBALL_TLS_FAILED, send(client, "x"))
    assert.equal(lib.CUEBALL_TLS_FAILED, lib.cueball_tls_shutdown(client))
    assert.equal(reason, ffi.string(lib.cueball_tls_error(client)))
  end)
end)

describe("libcueball_tls", function()
  local SOURCES = ("%s/lua/?.lua;%s/lua/?/init.lua;%s/lua/?.lua"):format(shell.root, shell.root, shell.build)

  it("is of the same build as the Lua modules", function()
    assert.equal(require("cueball.native").version, library.version)
    assert.equal(shell.build .. "/libcueball_tls.so", library.path)
    local layout, count = ffi.new "cueball_layout", 0
    while lib.cueball_tls_layout_at(count, layout) do count = count + 1 end
    assert.is_true(count > 8)
  end)

  it("is not needed, nor OpenSSL, by who has no TLS", function()
    local folder = shell.must "mktemp -d"
    shell.must(("ln -s %s/libcueball.so %s/"):format(shell.build, folder))
    local run = ("cd / && LUA_PATH='%s' LUA_CPATH='%s/?.so;;' luajit -e "):format(SOURCES, folder)
    local code = [[
      local cueball = require "cueball"
      local host = require "cueball.host.uv"
      for line in io.lines "/proc/self/maps" do assert(not line:find "libssl", line) end
      local ok, message = pcall(require, "cueball.tls")
      print(ok, message)]]
    local told = shell.must(run .. shell.quote(code))
    assert.matches("^false\tcueball: libcueball_tls not found:", told)
    assert.matches("no file '" .. folder .. "/libcueball_tls.so'", told, 1, true)
    assert.matches("apt install libssl-dev", told, 1, true)
    -- A socket says the same.
    local server = "local uv = require 'luv' local s = uv.new_tcp() s:bind('127.0.0.1', 0) s:listen(1, function() end) "
    told = shell.must(run .. shell.quote(server .. [[
      local host = require "cueball.host.uv"
      host.run(function()
        local sock = host.tcp()
        assert(sock:connect("127.0.0.1", s:getsockname().port))
        print(sock:sslhandshake())
        print(sock:send "in clear text")
      end)
      s:close()
      uv.run "nowait"]]))
    assert.matches("^nil\tcueball: libcueball_tls not found:", told)
    assert.matches("\nnil\tclosed$", told)
    shell.must("rm -r " .. folder)
  end)
end)
