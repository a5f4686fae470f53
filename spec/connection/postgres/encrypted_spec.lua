--- The driver over TLS: the TLS library may hold back bytes of which the socket tells nothing, so large answers come to their end, however
-- they are read. How certificates are verified: spec/connection/postgres/standing_spec.lua and others.
local certificates = require "spec.support.certificates"
local postgres = require "spec.support.postgres"

describe("a connection with TLS", function()
  local server
  local open = require("spec.support.postgres_client").on(function() return server end)

  setup(function()
    server = postgres.start { ssl = { cert_file = certificates.good.cert, key_file = certificates.good.key } }
  end)
  teardown(postgres.remove_all)

  it("reads and writes much, in each way", function()
    open.with(function(conn)
      assert.is_true(conn:query "select ssl from pg_stat_ssl where pid = pg_backend_pid()"[1].ssl)
      for size = 1, 400001, 20000 do
        assert.equal(size, #conn:query("select repeat('x', $1::int) as v", size)[1].v)
      end
      local size = 0
      for row in conn:rows "select repeat('x', 1000) as v from generate_series(1, 20000)" do size = size + #row.v end
      assert.equal(20000000, size)
      size = 0
      local wide = "copy (select repeat('x', 9000) from generate_series(1, 2000)) to stdout"
      assert(conn:copy_out(wide, function(data) size = size + #data end))
      assert.equal(2000 * 9001, size)
      assert(conn:query "create temp table c (s text)")
      assert.equal(100000, assert(conn:copy_in("copy c from stdin", (("x"):rep(100) .. "\n"):rep(100000))).affected)
      local long = ("y"):rep(50000)
      local results = assert(conn:pipeline(function(pipe)
        for _ = 1, 100 do pipe:query("select $1::text as v", long) end
      end))
      for _, result in ipairs(results) do assert.equal(long, result[1].v) end
      assert.is_true(conn:is_fit())
    end, nil, { sslmode = "require" })
  end)

  it("is cancelled at its time limit, and fit again", function()
    open.with(function(conn)
      conn:settimeout(100)
      assert.equal("timeout", (select(3, conn:query "select pg_sleep(3600)")))
      assert.is_true(conn:is_fit())
      conn:settimeout(30000)
      for row in conn:rows "select generate_series(1, 1000000) as x" do
        if row.x == 10 then break end
      end
      assert.equal(1, assert(conn:query "select 1 as v")[1].v)
      assert.is_true(conn:is_fit())
    end, nil, { sslmode = "require" })
  end)
end)
