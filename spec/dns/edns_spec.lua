--- host.dns of the libuv host, against nameservers that will not have EDNS: they say so, or nothing at all.
local host = require "cueball.host.uv"
local message = require "spec.support.dns_message"
local server = require "spec.support.server"
local servers = require "spec.support.dns_servers"
local until_true = require "spec.support.until_true"

local A = 1
local LONG_MS, SHORT_MS = 60000, 300   -- SHORT_MS: where nothing will come
local GOOD = "0, 1 record" -- the response code, and what came

local function said(answer, why)
  return answer and ("%d, %d record%s"):format(answer.rcode, answer.count, answer.count == 1 and "" or "s") or why
end

-- Asks, and goes on. → fn() → what was said
local function begin(to, timeout_ms)
  local waiter = host.waiter()
  assert(host.dns.ask(to, "a.example", A, timeout_ms or LONG_MS, function(answer, why) waiter:wake(said(answer, why)) end))
  return function() return (waiter:wait(LONG_MS)) end
end

local function ask(to, timeout_ms)
  return begin(to, timeout_ms)()
end

-- it(), in a task; afterwards there is no handle that was not there before.
local function task_it(name, fn)
  it(name, function()
    local before = server.open_handles()
    host.run(fn)
    servers.close_fakes()
    assert.equal("", server.left_open(before))
  end)
end

local function good(query)
  return message.reply(query, { answer = { message.a("a.example", 60, "10.0.0.1") } })
end

local function has_edns(query) return (select(3, message.of_query(query))) end

local REFUSALS = {
  function() return { rcode = 1 } end,
  function() return { rcode = 1, question = "", count = 0 } end,
  function() return { rcode = 1, additional = { message.opt() } } end,
  function() return { rcode = 4 } end, -- NOTIMP
  function() return { rcode = 4, question = "", count = 0 } end,
  function() return { rcode = 0, additional = { message.opt(1) } } end, -- BADVERS
}

describe("a nameserver that answers EDNS with FORMERR, NOTIMP or BADVERS", function()
  task_it("is asked without: with the question in it, without, and with EDNS", function()
    for _, refusal in ipairs(REFUSALS) do
      local fake = servers.fake(function(query, reply)
        reply(has_edns(query) and message.reply(query, refusal()) or good(query))
      end)
      assert.equal(GOOD, ask(fake.server))
      assert.equal(2, #fake.queries)
      -- Many at once: none of them takes another's refusal for its own answer.
      local ends = {}
      for index = 1, 20 do ends[index] = begin(fake.server) end
      for index = 1, 20 do assert.equal(GOOD, ends[index]()) end
    end
  end)

  task_it("is asked once more, and no oftener", function()
    for index = 1, 3 do
      local always = servers.fake(function(query, reply) reply(message.reply(query, REFUSALS[index]())) end)
      assert.matches("^1, ", ask(always.server))
      assert.equal(2, #always.queries)
      local _, question = message.of_query(always.queries[2])
      assert.equal(12 + #question, #always.queries[2]) -- whole, and no more
    end
  end)

  task_it("is not heard if the refusal is to another question", function()
    local forged = servers.fake(function(query, reply)
      reply(message.reply(query, { id = (message.of_query(query) + 1) % 65536, rcode = 1, question = "", count = 0 }))
    end)
    assert.equal("timeout", ask(forged.server, SHORT_MS))
    local before, told = #forged.queries, nil
    local id = host.dns.ask(forged.server, "a.example", A, LONG_MS, function(...) told = said(...) end)
    until_true(function() return #forged.queries == before + 2 end) -- the second since nothing came
    host.sleep(50)
    assert.is_nil(told)
    host.dns.forget(id)
  end)
end)

describe("a nameserver that is silent to EDNS", function()
  local function silent()
    return servers.fake(function(query, reply)
      if not has_edns(query) then reply(good(query)) end
    end)
  end

  task_it("is asked without after a second; and for a while at once", function()
    local fake = silent()
    assert.equal(GOOD, ask(fake.server))
    assert.equal(2, #fake.queries)
    assert.equal(GOOD, ask(fake.server))
    assert.equal(3, #fake.queries)
  end)

  task_it("is asked without after half of a short time", function()
    until_true(function() return ask(silent().server, 900) == GOOD end) -- whoever stands still for so long asks another once more
  end)
end)

describe("a nameserver that is slow to EDNS", function()
  -- It says nothing until it was asked without, too; then first() is its answer to the first query, and second(), if any, to the other.
  local function slow(first, second)
    local answer_first
    return servers.fake(function(query, reply)
      if has_edns(query) then
        answer_first = function() reply(first(query)) end
        return
      end
      answer_first()
      if second then reply(second(query)) end
    end)
  end

  task_it("is believed all the same", function()
    local fake = slow(good)
    assert.equal(GOOD, ask(fake.server))
    assert.equal(2, #fake.queries)
  end)

  task_it("and refuses it then is believed in what it says without", function()
    local fakes, ends = {}, {}
    for index, refusal in ipairs(REFUSALS) do
      fakes[index] = slow(function(query) return message.reply(query, refusal()) end, good)
      ends[index] = begin(fakes[index].server)
    end
    for index, fake in ipairs(fakes) do
      assert.equal(GOOD, ends[index](), "refusal " .. index)
      assert.equal(2, #fake.queries)
    end
  end)
end)
