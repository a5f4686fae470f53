--- cueball bench on a real PostgreSQL: by options, and by the script that the manual shows.
local command = require "spec.support.command"
local json = require "dkjson"
local manual = require "spec.support.manual"
local postgres = require "spec.support.postgres"
local shell = require "spec.support.shell"

-- Runs the bench; the environment is such as "PGUSER=ann".
local function outcomes(arguments, environment)
  local status, out, err = command.run("bench -q --json -d 1s -w 0 -r 100/s " .. arguments, environment)
  local found = json.decode(out)
  return found and found.outcomes or out, status, err
end

-- The script of docs/cli.md whose first line has this name.
local function script_of(name)
  for _, block in ipairs(manual.blocks_of(shell.read "docs/cli.md")) do
    if block.language == "lua" and block.text:find("-- " .. name .. ":", 1, true) == 1 then return block.text end
  end
end

describe("cueball bench on PostgreSQL", function()
  local server

  setup(function()
    server = postgres.start { hba = { "host all all 127.0.0.1/32 scram-sha-256" },
      sql = "create role ann login password 'sesame'; create table goods (id int); grant select on goods to ann" }
  end)
  teardown(postgres.remove_all)

  local function as_ann(statement)
    return ("--postgres -b %s --connect user=ann --connect dbname=postgres --request '%s'"):format(server.backend, statement)
  end

  it("does statements, as whom --connect says, with the password of the environment", function()
    local found, status, err = outcomes(as_ann "SELECT count(*) FROM goods", "PGPASSWORD=sesame")
    assert.same({ ok = 100 }, found, err)
    assert.equal(0, status)
  end)

  it("reaches a UNIX socket, too", function()
    local found, _, err = outcomes(("--postgres -b unix:%s --connect user=postgres"):format(server.socket))
    assert.same({ ok = 100 }, found, err)
  end)

  it("counts what the server refuses by its message, and ends with 1", function()
    local found, status = outcomes(as_ann "DELETE FROM goods", "PGPASSWORD=sesame")
    assert.same({ ["permission denied for table goods"] = 100 }, found)
    assert.equal(1, status)
  end)

  it("tells on standard error why nobody is let in", function()
    local found, status, err = outcomes(("--postgres -b %s --connect user=ann"):format(server.backend), "PGPASSWORD=guessed")
    assert.same({ pool_failed = 100 }, found)
    assert.equal(1, status)
    assert.matches('password authentication failed for user "ann"', err, 1, true)
  end)

  it("runs the script that the manual shows", function()
    local path = os.tmpname()
    shell.write(path, assert(script_of "goods.lua"))
    local found, status, err = outcomes(path, ("PGUSER=ann PGDATABASE=postgres PGPASSWORD=sesame PGPORT=%d"):format(server.port))
    os.remove(path)
    assert.same({ ok = 100 }, found, err)
    assert.equal(0, status)
  end)
end)
