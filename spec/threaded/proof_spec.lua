--- One pool, many threads, and everything that can go wrong: programs in C, see the beginning of each.
local shell = require "spec.support.shell"

local function program(name, arguments)
  local command = ("unset LD_PRELOAD; %s/spec/threaded_%s %s"):format(shell.quote(shell.build), name, arguments or "")
  return shell.run(command)
end

local function must(name, arguments)
  local output, status = program(name, arguments)
  assert(status == 0, ("threaded_%s %s: %d\n%s"):format(name, arguments or "", status, output))
  return output
end

describe("a pool that many threads share", function()
  it("lends each connection to one, answers each claim once and loses nothing, whatever happens", function()
    for seed, how in ipairs { "", "--dummy", "--inspects", "--abandon" } do
      local output = must("stress", ("--seed %d --threads 64 --ms 400 %s"):format(seed, how))
      assert.is_true(tonumber(output:match "(%d+) granted") > 100, output)
    end
  end)

  it("does nothing that one thing after the other could not have done", function()
    local output = must("history", "--seed 1 --runs 12")
    assert.is_true(tonumber(output:match "(%d+) tries refused") > 10, output)
    assert.is_true(tonumber(output:match "(%d+) claims surely waited") > 10, output)
    must("history", "--seed 100 --runs 4 --descriptors")
  end)

  it("costs nothing while all wait, and refuses, serves or forgets them as it should", function()
    assert.truthy(must("waiting"):find "well$")
  end)

  it("says what is wrong with a call that is wrong", function()
    assert.truthy(must("misuse"):find "well$")
  end)

  it("loses nothing and leaks nothing, whichever allocation fails", function()
    assert.is_true(tonumber(must("memory"):match "^(%d+) failed allocations") > 20)
  end)
end)

describe("the judge of histories", function()
  for fault, words in pairs {
    shared = "given back between them at no time", pocketed = "connections were taken", refused = "a try was refused",
    overtaken = "that came later were served", twice = "ended twice", unanswered = "was never answered", early = "timed out after",
  } do
    it("finds what was planted: " .. fault, function()
      local output, status = program("history", "--seed 1 --runs 20 --plant " .. fault)
      assert.equal(1, status, output)
      assert.truthy(output:find(words, 1, true), output)
    end)
  end
end)
