--- PostgreSQL over pgmoon on libuv: logging in, to a real server and to what is none. With pgmoon itself where CUEBALL_PGMOON names its
-- folder, else with a stand-in for its login.
local host = require "cueball.host.uv"
local login = require "cueball.connection.postgres.pgmoon.login"
local postgres = require "spec.support.postgres"
local postgres_pgmoon = require "spec.support.postgres_pgmoon"
local scram = require "cueball.connection.postgres.pgmoon.scram"
local server_support = require "spec.support.server"
local until_true = require "spec.support.until_true"
local with = require "spec.support.with"
local value_of = require("spec.support.postgres_client").value_of

local HBA = {
  "host all cat 127.0.0.1/32 scram-sha-256", "host all ann 127.0.0.1/32 md5", "host all bob 127.0.0.1/32 password",
  "host all all 127.0.0.1/32 trust",
}
local ROLES = [[set password_encryption = md5; create role ann login password 'secret'; create role bob login password 'open';
  set password_encryption = 'scram-sha-256'; create role cat login password 'a secret, ä']]

describe("PostgreSQL over pgmoon: a login", function()
  local server, remove
  local open = postgres_pgmoon.on(function() return server end)
  local connected, refused = open.with, open.connect

  setup(function()
    remove = postgres_pgmoon.install()
    server = postgres.start { hba = HBA, sql = ROLES }
  end)
  teardown(function()
    remove()
    postgres.remove_all()
  end)

  describe("is made", function()
    it("without a password, as whom, where to, and under which name it is told", function()
      connected(function(conn)
        local row = assert(conn:query "select current_user as u, current_database() as d, current_setting('application_name') as a")[1]
        assert.same({ u = "bob", d = "postgres", a = "shop" }, row)
      end, { user = "bob", password = "open", dbname = "postgres", application_name = "shop" })
    end)

    it("by md5", function()
      connected(function(conn) assert.equal("ann", value_of(conn, "select current_user::text as v")) end,
        { user = "ann", password = "secret", dbname = "postgres" })
    end)

    it("with options for the session", function()
      connected(function(conn) assert.equal("7MB", value_of(conn, "select current_setting('work_mem') as v")) end,
        { options = "-c work_mem=7MB" })
    end)

    it("or says that pgmoon is missing, or what is wrong with it", function()
      local function says(message)
        local without = { name = "custom", library = function() return nil, message end }
        return select(2, login.log_in({}, {}, { host = without }, {}, {}))
      end
      assert.matches("^pgmoon was not found: install it with 'luarocks install pgmoon' or 'opm get leafo/pgmoon': module",
        says "module 'resty.pgmoon' not found:\n\tno file './resty/pgmoon.lua'")
      assert.equal("pgmoon cannot be loaded: pgmoon/init.lua:3: module 'lpeg' not found", says "pgmoon/init.lua:3: module 'lpeg' not found")
    end)

    it("or says what the server said, with its SQLSTATE", function()
      local conn, message, name, fields = refused { user = "ann", password = "wrong", dbname = "postgres" }
      assert.is_nil(conn)
      assert.equal('password authentication failed for user "ann"', message)
      assert.equal("28P01", name)
      assert.equal("FATAL", fields.severity)
      assert.equal("3D000", select(3, refused { dbname = "nowhere" }))
    end)

    it("or says that a password is asked for", function()
      local conn, message = refused { user = "ann", dbname = "postgres" }
      assert.is_nil(conn)
      assert.matches("password", message)
    end)

    it("by SCRAM, which needs OpenSSL and no other library", function()
      local cat = { user = "cat", password = "a secret, \195\164", dbname = "postgres" }
      connected(function(conn) assert.equal("cat", value_of(conn, "select current_user::text as v")) end, cat)
      local _, message, name = refused(with(cat, { password = "x" }))
      assert.same({ 'password authentication failed for user "cat"', "28P01" }, { message, name })
      assert.matches("the server asks for a password, and there is none", select(2, refused { user = "cat", dbname = "postgres" }))
    end)

    it("or says that SCRAM needs more than pgmoon, where there is no OpenSSL", function()
      if os.getenv "CUEBALL_PGMOON" then return pending "a stand-in only" end
      local is_there = scram.is_there
      scram.is_there = function() return false end
      local conn, message = refused { user = "cat", password = "x", dbname = "postgres" }
      scram.is_there = is_there
      assert.is_nil(conn)
      assert.matches("^the server wants SCRAM, for which pgmoon needs lua%-resty%-openssl or luaossl", message)
    end)

    it("or leaves nothing behind, where it is refused again and again", function()
      for _ = 1, 20 do refused { user = "ann", password = "wrong", dbname = "postgres" } end
      until_true(function() return server:connections() == 0 end)
    end)

    it("keeps no memory, however often it is made in one task", function()
      local function connect_often(count)
        for index = 1, count do
          local conn = refused({ user = "ann", password = index % 2 == 0 and "secret" or "wrong", dbname = "postgres" })
          if conn then conn:close() end
        end
        collectgarbage()
        collectgarbage()
        return collectgarbage "count"
      end
      local grown = host.run(function()
        connect_often(40)
        local before = connect_often(1)
        local between = connect_often(120)
        -- Once the heap may grow for another reason: code is compiled.
        return math.min(between - before, connect_often(120) - between)
      end)
      assert.is_true(grown < 60, grown .. " KiB")
    end)
  end)

  describe("a server that is none", function()
    -- @param connect_ms how long it is waited for; more where its answer is told as soon as it is here
    local function answers(text, connect_ms)
      local one = server_support.listen(function(client)
        client:read_start(function(_, data)
          if data and not client:is_closing() then client:write(text) end
        end)
      end)
      local conn, message, name = open.connect(nil, { connect_ms = connect_ms or 300 }, one.port)
      one:close()
      assert.is_nil(conn)
      return message, name
    end

    -- Answers the n-th message with what the n-th function makes of it. → what is said of it
    local function impostor(...)
      local steps, at = { ... }, 0
      local one = server_support.listen(function(client)
        client:read_start(function(_, data)
          at = at + 1
          if data and steps[at] and not client:is_closing() then client:write(steps[at](data)) end
        end)
      end)
      local _, message = open.connect({ password = "x" }, { connect_ms = 20000 }, one.port)
      one:close()
      return message
    end

    local function asks(kind, text)
      return "R\0\0\0" .. string.char(#text + 8) .. "\0\0\0" .. string.char(kind) .. text
    end

    local function offer() return asks(10, "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0") end
    local function challenge(data) return asks(11, ("r=%sx,s=QUJD,i=1"):format(data:match "r=([^,]+)$")) end

    it("is found out by SCRAM, as it does not know the password", function()
      local function wrong() return asks(12, "v=QUJD") end
      assert.equal("SCRAM: the server does not know the password itself", impostor(offer, challenge, wrong))
      assert.equal("SCRAM: the server answers out of turn", impostor(offer, challenge, function() return asks(0, "") end))
      assert.equal("SCRAM: the server's challenge makes no sense", impostor(offer, function() return asks(11, "r=abc,s=QUJD,i=1") end))
      assert.equal("SCRAM: the server's challenge makes no sense",
        impostor(offer, function(data) return asks(11, ("r=%sx,s=QUJD,i=99999999"):format(data:match "r=([^,]+)$")) end))
      assert.equal("the server wants no SCRAM that is known here", impostor(function() return asks(10, "SCRAM-SHA-256-PLUS\0\0") end))
    end)

    it("is found out, whatever it sends", function()
      assert.matches("no message of PostgreSQL's", answers("HTTP/1.1 400 Bad Request\r\n\r\n", 20000))
      assert.matches("no message of PostgreSQL's", answers("R\255\255\255\255", 20000))
      assert.matches("no message of PostgreSQL's", answers("R\0\0\0\3", 20000))
      assert.matches("no message of PostgreSQL's", answers("R\127\255\255\255", 20000))
      assert.equal("timeout", select(2, answers "R\0\0\0\12"))
      assert.is_string((answers "R\0\0\0\4"))
      assert.is_string((answers "R\0\0\0\8\0\0\0\99"))
      assert.is_string((answers "E\0\0\0\4"))
      assert.is_string((answers "R\0\0\0\8\0\0\0\0K\0\0\0\5x"))
      assert.is_string((answers "R\0\0\0\8\0\0\0\0S\0\0\0\5xZ\0\0\0\4"))
    end)
  end)
end)
