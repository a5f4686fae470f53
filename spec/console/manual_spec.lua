--- What `?name` shows is what the pages say.
local manual = require "cueball.console.manual"
local prompts = require "spec.support.prompt"
local shell = require "spec.support.shell"

describe("the manual at the prompt", function()
  it("has what stands under a function's heading", function()
    local found = manual.lookup "pool:claim"
    assert.is_truthy(found:find "^pool:claim%(")
    assert.is_truthy(found:find("timeout_ms", 1, true))
    assert.is_truthy(found:find "— docs/[%w_-]+%.md$")
    assert.equal(found, manual.lookup "claim")
    assert.equal(found, manual.lookup "pool:claim()")
    assert.is_nil(found:find("](", 1, true)) -- a link is its words
  end)

  it("has rows of tables: options, numbers", function()
    assert.is_truthy(manual.lookup("max_connections"):find "^max_connections: .*10.*\n  connections that the pool holds")
    assert.is_truthy(manual.lookup("backend_deaths"):find "^backend_deaths: ")
    assert.is_truthy(manual.lookup("recovery.OPERATION.attempts"):find "3")
  end)

  it("has every number of pool:stats(), every metric and every command", function()
    local world = require("cueball.host.sim").new {}
    local cueball = require "cueball"
    local pool = cueball.pool { host = world, resolver = cueball.resolver.static {}, connect = function() end }
    for name in pairs(pool:stats()) do assert.is_truthy(manual.lookup(name), name) end
    for name in require("cueball.monitor").openmetrics():gmatch "\n(cueball_[%l_]+){pool=" do
      assert.is_truthy(manual.lookup((name:gsub("_bucket$", ""):gsub("_count$", ""):gsub("_sum$", ""))), name)
    end
    for name in ("attach repl resolve run bench top completions"):gmatch "%S+" do
      assert.matches("^cueball " .. name .. "\n", manual.lookup("cueball " .. name))
    end
    assert.matches("^cueball_pool_claims: ", manual.lookup "cueball_pool_claims_total")
    assert.matches("^`?wait_ms_p50", manual.lookup "wait_ms_p99")
    world.spawn(function() pool:stop() end)
    world.advance(1000)
    world.close()
  end)

  it("has the beginning of a page, bounded", function()
    local found = manual.lookup "tls"
    assert.is_true(select(2, found:gsub("\n", "")) <= 63)
    assert.is_truthy(found:find("docs/tls.md", 1, true))
  end)

  it("knows what is near to what it does not know", function()
    local found, message, name = manual.lookup "claim_timeo"
    assert.is_nil(found)
    assert.is_truthy(message:find("claim_timeout_ms", 1, true))
    assert.equal("not_found", name)
    assert.is_nil(select(2, manual.lookup "\27[2J"):find("\27", 1, true))
  end)

  it("reads every page there is", function()
    local known, missing = {}, {}
    for _, page in ipairs(manual.PAGES) do known[page] = true end
    for page in shell.must(("cd '%s/docs' && ls *.md"):format(shell.root)):gmatch "(%S+)%.md" do
      if not known[page] then missing[#missing + 1] = page end
    end
    assert.same({}, missing)
  end)

  it("is asked by the name of a variable, too, and tells of commands", function()
    local prompt = prompts.new()
    prompt:type "db = cueball.pool { resolver = cueball.resolver.static { '10.0.0.1:1' }, connect = function() return {} end }"
    assert.is_truthy(prompt:ask("?db:claim"):find "^# pool:claim%(")
    assert.is_truthy(prompt:ask("?:time"):find "^# runs it")
    assert.is_truthy(prompt:ask("?"):find("?pool:claim", 1, true))
    assert.is_truthy(prompt:ask("?nothing_of_it"):find "^! the manual has nothing")
    prompt:close()
  end)
end)
