--- The DNS tracker's options, and what is objected to.

local World = require "spec.support.tracker_world"

describe("options", function()
  local function says(changes)
    changes.domain = changes.domain or "db.example"
    return World.objection(changes)
  end

  it("that are right are not objected to", function()
    assert.is_nil(says {})
    assert.is_nil(says { domain = ("x"):rep(63) .. ".example.", service = "_a._b", search = { ".", "a.b" }, max_dns_concurrency = 1000 })
  end)

  it("out of range are named with their range", function()
    assert.equal("option 'min_ttl_ms' must be a number from 1 to 86400000 (milliseconds), not 0", says { min_ttl_ms = 0 })
    assert.equal("option 'max_ttl_ms' must be a number from 1000 to 2592000000 (milliseconds), not 10", says { max_ttl_ms = 10 })
    assert.equal("option 'max_dns_concurrency' must be a whole number from 1 to 1000, not 0", says { max_dns_concurrency = 0 })
    assert.equal("option 'default_port' must be a whole number from 0 to 65535, not 65536", says { default_port = 65536 })
    assert.equal("option 'recovery.dns.attempts' must be a whole number from 1 to 1000, not 0", says { dns = { attempts = 0 } })
    assert.equal("option 'recovery.dns_srv.delay_ms' must be a number from 0 to 86400000 (milliseconds), not -1",
      says { dns_srv = { delay_ms = -1 } })
    assert.truthy(says { families = 4 })
  end)

  it("that are no names are told", function()
    for _, name in ipairs { "", ".", "a..b", ".a", ("x"):rep(64), "a\\", "a\\999", ("x."):rep(127) .. "x" } do
      assert.truthy(says { domain = name }, name)
      assert.truthy(says { search = { name == "." and "" or name } }, name)
    end
    assert.truthy(says { service = "" })
    assert.truthy(says { service = "_x._tcp." })
    local long = ("x"):rep(60)
    assert.truthy(says { service = "_x._tcp", domain = table.concat({ long, long, long, long .. "xyz" }, ".") })
    assert.is_nil(says { domain = ("\\120"):rep(63) .. ".\\." })
  end)
end)
