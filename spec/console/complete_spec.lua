--- What Tab offers.
local complete = require "cueball.console.complete"
local options = require "cueball.options"
local prompts = require "spec.support.prompt"
local shell = require "spec.support.shell"

describe("the word at the cursor", function()
  local prompt

  setup(function()
    prompt = prompts.new()
    prompt:type [[db = cueball.pool { name = "db", resolver = cueball.resolver.static { "10.0.0.1:1" },
      connect = function() return {} end }]]
    prompt:type [[t = { alpha = 1, beta = { gamma = 2 }, [1] = 3, ["two words"] = 4 }]]
    prompt:type [[asked = setmetatable({}, { __index = function() error "asked" end })]]
  end)
  teardown(function() prompt:close() end)

  -- The candidates, with commas between; the rest of the line stays.
  local function of(line)
    local list, from = prompt.session:complete(line, #line)
    local texts = {}
    for index, one in ipairs(list) do texts[index] = one.text end
    return table.concat(texts, ","), line:sub(1, from - 1), list
  end

  it("is a variable, a keyword, a global", function()
    assert.equal("cueball", (of "cueb"))
    assert.equal("while", (of "x = 1 whi"))
    assert.equal("string", (of "print(stri"))
    assert.equal("print(", select(2, of "print(stri"))
    assert.equal("", (of "there_is_none"))
  end)

  it("is a member, of what is known without a call", function()
    assert.equal("alpha,beta", (of "t."))
    assert.equal("gamma", (of "return t.beta.g"))
    assert.equal("", (of "asked.x"))
    assert.equal("", (of "nothing.x"))
    assert.equal("gmatch,gsub", (of "string.g"))
  end)

  it("is a method of an object, as far as the manual has it", function()
    local words, head, list = of "db:cl"
    assert.equal("claim", words)
    assert.equal("db:", head)
    assert.is_truthy(list[1].note:find "^pool:claim%(")
    for name in (of "db:"):gmatch "[^,]+" do
      assert.equal("function", type(prompt.session.environment.db[name]), name)
    end
    assert.is_nil((of "db:"):find "hand_over")
  end)

  it("is an option of the function whose table it stands in, with what it may be", function()
    local words, head, list = of "x = cueball.pool { name = 'a', max_conn"
    assert.equal("max_connections,max_connections_dict,max_connections_scope", words)
    assert.equal("x = cueball.pool { name = 'a', ", head)
    assert.equal("a whole number from 1 to 1000000; default 10", list[1].note)
    assert.equal("timeout_ms", (of "db:claim { tim"))
    assert.equal("timeout_ms", (of "db:claim({ tim"))
    assert.equal("read_timeout_ms", (of "cueball.connection.tcp { rea"))
    assert.equal("domain", (of "cueball.resolver.dns { dom"))
    assert.equal("target", (of "cueball.set { targ")) -- target_claim_delay_ms is for pools
  end)

  it("is an option of a table in that table", function()
    assert.equal("jitter", (of "cueball.pool { recovery = { default = { ji"))
    assert.equal("default", (of "cueball.pool { recovery = { de"))
    assert.equal("ejection_ms", (of "db:set { outlier = { ej"))
    assert.equal("consecutive", (of "db:set { spares = 2, outlier = { con"))
  end)

  it("is a choice of an option", function()
    assert.equal('"fifo","lifo","p2c"', (of "cueball.pool { balance = "))
    assert.equal("fifo", (of "cueball.pool { balance = \"fi"))
    assert.equal("false,true", (of "db:set { leak_detection = "))
  end)

  it("is no option where no table of options is", function()
    assert.equal("", (of "x = { max_conn"))
    assert.equal("", (of "cueball.pool { resolver = { max_conn"))
    assert.equal("", (of 'print("max_conn'))
  end)

  it("is a command, what a command takes, a name of the manual", function()
    assert.equal("help", (of ":hel"))
    assert.equal("db", (of ":watch d"))
    assert.equal("alpha,beta", (of ":time t."))
    assert.equal("pool:claim", (of "?pool:cl"))
    assert.is_truthy((of ":set max_c"):find "max_connections=")
  end)

  it("is a module that is loaded", function()
    assert.is_truthy((of 'require "cueball.console.com'):find "cueball.console.complete")
  end)

  it("ends at the cursor", function()
    local list, from = prompt.session:complete("cueb.x = 1", 4)
    assert.equal("cueball", list[1].text)
    assert.equal(1, from)
  end)

  it("is sought in bounds, whatever stands there", function()
    prompt:type "many = {} for i = 1, 5000 do many['name' .. i] = i end"
    assert.is_true(#prompt.session:complete("many.", 5) <= 1000)
    for _, line in ipairs { "{{{{{{", "a.b.c.d:", "}}}))", "x = [[", "f({g({", "cueball.pool({{", ":", "?", ".", "1.", "..", "'\\" } do
      assert.equal("table", type((prompt.session:complete(line, #line))), line)
    end
  end)
end)

describe("what is loaded on demand", function()
  it("is offered as it lies in the folders", function()
    for _, room in ipairs { "resolver", "connection" } do
      local known, missing = {}, {}
      for _, name in ipairs(complete.ON_DEMAND["cueball." .. room]) do known[name] = true end
      for name in shell.must(("ls '%s/lua/cueball/%s'"):format(shell.root, room)):gmatch "%S+" do
        name = name:gsub("%.lua$", "")
        local manual = require("cueball.console.manual").heading(("cueball.%s.%s"):format(room, name))
        if manual and not known[name] then missing[#missing + 1] = name end
      end
      assert.same({}, missing)
    end
  end)
end)

describe("options that are noted", function()
  it("are all those that the core has", function()
    local prompt = prompts.new() -- options are noted as they are read
    prompt:type "noted = cueball.pool { resolver = function() end, connect = function() end }"
    prompt:close()
    local taken = {}
    for _, option in ipairs(options.taken("cueball.pool", "")) do taken[option.name] = true end
    for _, option in ipairs(options.all()) do assert.is_true(taken[option.name:match "^[^.]+"] or false, option.name) end
    assert.is_true(taken.resolver)
    assert.is_nil(options.taken("nobody", ""))
  end)

  it("know their defaults", function()
    assert.equal(10, options.default_of "max_connections")
    assert.equal("fifo", options.default_of "balance")
    assert.equal(3, options.default_of "recovery.default.attempts")
    assert.is_false(options.default_of "max_waiters")
    assert.is_nil(options.default_of "nothing.of.it")
  end)
end)
