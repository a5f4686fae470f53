--- The host's contract (docs/hosts.md), inside of nginx: each case is a function that runs in a request and says what happened.
local nginx = require "spec.support.nginx"

local CASES = {
  ["it has every member of the contract"] = { [[
    local contract, lacking = require "cueball.host.contract", {}
    for _, name in ipairs(contract.members()) do
      if host[name] == nil then lacking[#lacking + 1] = name end
    end
    say(contract.lacks(host), table.concat(lacking, " "), host.workers.is_shared)]], "nil  true" },
  ["time goes on, in nanoseconds"] = { [[
    local before = host.now()
    host.sleep(20)
    say((host.now() - before) / 1e6 >= 19)]], "true" },
  ["a seed is a whole number below 2^53, and not always the same"] = { [[
    local a, b = host.seed(), host.seed()
    say(a % 1 == 0 and a >= 0 and a < 2 ^ 53, a ~= b)]], "true true" },
  ["a task runs soon, with its arguments, and outside of the request"] = { [[
    local done, mine = host.waiter(), ngx.var.uri
    host.spawn(function(a, b) done:wake(a, b, ngx.get_phase()) end, 1, nil)
    say(done:wait(20000))]], "1 nil timer" },
  ["a task outlives the request that began it"] = { [[
    outlived = "not yet"
    host.spawn(function() host.sleep(30) outlived = "it did" end)
    say(outlived)]], "not yet" },
  ["an error in a task is logged, and hurts nobody"] = { [[
    host.spawn(function() error "for the spec of tasks" end)
    host.sleep(20)
    say "goes on"]], "goes on" },
  ["each task is another, and knows itself"] = { [[
    local done, a, b = host.waiter(), nil, nil
    a = host.spawn(function() host.sleep(5) done:wake(host.current() == a, host.current() ~= b, host.task() == a) end)
    b = host.spawn(function() host.sleep(50) end)
    say(done:wait(20000))]], "true true true" },
  ["a request counts as a task, but cannot be killed"] = { [[
    say(host.current() ~= nil, host.task(), pcall(host.kill, host.current()))]], "true nil false kill: a request cannot be killed" },
  ["a killed task goes no further, and what it guards is told"] = { [[
    local steps, aborted = 0, 0
    local task = host.spawn(function()
      host.guard { abort = function() aborted = aborted + 1 end }
      while true do steps = steps + 1 host.sleep(2) end
    end)
    repeat host.sleep(2) until steps > 2
    host.kill(task)
    local after = steps
    host.kill(task)
    host.sleep(30)
    say(steps == after, aborted)]], "true 1" },
  ["what is guarded no longer is not told"] = { [[
    local aborted = 0
    local task = host.spawn(function()
      local it = { abort = function() aborted = aborted + 1 end }
      host.guard(it)
      host.unguard(it)
      host.sleep(1000)
    end)
    host.sleep(20)
    host.kill(task)
    say(aborted)]], "0" },
  ["a task that is killed before it began never begins"] = { [[
    local began = false
    host.kill(host.spawn(function() began = true end))
    host.sleep(30)
    say(began)]], "false" },
  ["a task that is killed as it waits for a waiter, or in a socket, stays there"] = { [[
    local on, waiter, port = 0, host.waiter(), tonumber(ngx.var.server_port)
    local a = host.spawn(function() waiter:wait() on = on + 1 end)
    local b = host.spawn(function()
      local socket = host.tcp()
      socket:connect("127.0.0.1", port)
      socket:receive "*l"
      on = on + 1
    end)
    host.sleep(20)
    host.kill(a)
    host.kill(b)
    waiter:wake()
    host.sleep(30)
    say(on)]], "0" },
  ["a task may not kill itself"] = { [[
    local done, task = host.waiter(), nil
    task = host.spawn(function() host.sleep(1) done:wake(pcall(host.kill, task)) end)
    say((done:wait(20000)))]], "false" },
  ["a waiter remembers a wake that came before, and the first one only"] = { [[
    local waiter = host.waiter()
    waiter:wake("first", nil, 3)
    waiter:wake "second"
    say(waiter:wait())]], "first nil 3" },
  ["a waiter's time is up"] = { [[
    local before = host.now()
    local value, message = host.waiter():wait(25)
    say(value, message, (host.now() - before) / 1e6 >= 24)]], "nil timeout true" },
  ["a waiter wakes one request from another's task, and never inside the call"] = { [[
    local waiter, order = host.waiter(), {}
    host.spawn(function()
      host.sleep(5)
      waiter:wake "woken"
      order[#order + 1] = "after wake"
    end)
    local value = waiter:wait(20000)
    order[#order + 1] = value
    say(table.concat(order, ", "))]], "after wake, woken" },
  ["an alarm goes off once, at its time, and is moved and cleared"] = { [[
    local count, begun, at = 0, host.now(), nil
    local alarm = host.alarm(function() count = count + 1 at = at or host.now() end)
    local other = host.alarm(function() count = count + 100 end)
    alarm:set(begun + 1e12)
    alarm:set(begun + 30e6)
    other:set(begun + 20e6)
    other:clear()
    local inside = count
    repeat host.sleep(40) until count > 0
    host.sleep(40)
    alarm:close()
    other:close()
    say(inside, count, (at - begun) / 1e6 >= 29)]], "0 1 true" },
  ["an alarm in the past goes off soon, and not inside the call"] = { [[
    local count = 0
    local alarm = host.alarm(function() count = count + 1 end)
    alarm:set(0)
    local inside = count
    repeat host.sleep(5) until count > 0
    say(inside, count)]], "0 1" },
  ["an alarm that throws does not keep others from going off"] = { [[
    local count = 0
    local one, two = host.alarm(function() error "for the spec of alarms" end), host.alarm(function() count = count + 1 end)
    one:set(0)
    two:set(0)
    repeat host.sleep(5) until count > 0
    say(count)]], "1" },
  ["run just calls, where the loop runs already"] = { [[say(host.run(function(a, b) return b, a end, 1, 2))]], "2 1" },
  ["sockets say what they say everywhere"] = { [[
    local socket = host.tcp()
    socket:settimeouts(20000, 20000, 20)
    say(socket:connect("127.0.0.1", 1))
    socket:connect("127.0.0.1", tonumber(ngx.var.server_port))
    say(socket:receive "*l")]], "nil connection refused\nnil timeout " },
  ["more tasks than one runner begins all run"] = { [[
    local done, count = host.waiter(), 0
    for _ = 1, 1000 do
      host.spawn(function()
        host.sleep(1)
        count = count + 1
        if count == 1000 then done:wake() end
      end)
    end
    done:wait(20000)
    say(count)]], "1000" },
}

describe("the host for nginx", function()
  local one

  setup(function()
    local names, list = {}, {}
    for name in pairs(CASES) do names[#names + 1] = name end
    table.sort(names)
    for index, name in ipairs(names) do
      CASES[name].path = "/case" .. index
      list[index] = ("location = /case%d { content_by_lua_block { %s } }"):format(index, CASES[name][1])
    end
    one = nginx.start {
      http = [[init_worker_by_lua_block {
        host = require("cueball").host()
        function say(...)
          local words = {}
          for index = 1, select("#", ...) do words[index] = tostring((select(index, ...))) end
          ngx.say(table.concat(words, " "))
        end
      }]],
      server = table.concat(list, "\n") .. "location = /outlived { content_by_lua_block { ngx.say(outlived) } }",
    }
  end)
  teardown(function() one:stop() end)

  for name, case in pairs(CASES) do
    it(name, function() assert.equal(case[2] .. "\n", one:ask(case.path)) end)
  end

  it("logs what went wrong in tasks and alarms", function()
    one:ask(CASES["an error in a task is logged, and hurts nobody"].path)
    one:ask(CASES["an alarm that throws does not keep others from going off"].path)
    nginx.until_true(function()
      local log = one:log()
      return log:find("for the spec of tasks", 1, true) and log:find("for the spec of alarms", 1, true)
    end)
    assert.is_nil(one:log():find("the driver threw", 1, true))
  end)

  it("lets a task end after the request that began it", function()
    one:ask(CASES["a task outlives the request that began it"].path)
    nginx.until_true(function() return one:ask "/outlived" == "it did\n" end)
  end)
end)
