--- What is typed at a prompt, and what comes of it.
local cueball = require "cueball"
local prompts = require "spec.support.prompt"
local sessions = require "cueball.console.session"

describe("a session", function()
  local prompt

  before_each(function() prompt = prompts.new() end)
  after_each(function() prompt:close() end)

  it("numbers results, and keeps them under their numbers", function()
    assert.equal("_1 = 2", prompt:ask "1 + 1")
    assert.equal("_2, _3 = 3, { 4 }", prompt:ask "_1 + 1, { 4 }")
    assert.equal("_4 = 4", prompt:ask "_3[1]")
    assert.equal("", prompt:ask "nil")
    assert.equal("", prompt:ask "x = 1")
    assert.equal("_5 = 1", prompt:ask "= x")
  end)

  it("forgets results that are old", function()
    for _ = 1, 101 do prompt:type "{}" end
    prompt:said()
    assert.equal("_102, _103 = true, false", prompt:ask "_1 == nil, _2 == nil")
  end)

  it("shows no numbers where no person looks", function()
    local plain = prompts.new { is_plain = true }
    assert.equal("2", plain:ask "1 + 1")
    plain:close()
  end)

  it("shows a failure as it came", function()
    assert.equal('! nil, "no such thing", "not_found"', prompt:ask [[nil, "no such thing", "not_found"]])
  end)

  it("goes on after an error, and tells where it was", function()
    assert.equal("! input 1:1: boom", prompt:ask "error 'boom'")
    assert.equal("! input 2:1: unexpected symbol near ')'", prompt:ask ")")
    assert.equal('! { code = 7 }', prompt:ask "error { code = 7 }")
    prompt:type "function deep() error('deep') end"
    assert.equal("! input 4:1: deep\n! \tinput 4:1: in function 'deep'\n! \tinput 5:1", prompt:ask "deep()")
    assert.equal("_1 = 1", prompt:ask "1")
    assert.equal(4, prompt.session.failed)
  end)

  it("waits for what waits", function()
    prompt:ask "world.sleep(1500)"
    assert.equal("[1.5 s] > ", prompt.session:prompt(false))
    assert.equal("_2 = 1500", prompt:ask "world.time_ms()")
  end)

  it("lets go on what was spawned, and shows what that prints", function()
    prompt:type "cueball.spawn(function() cueball.sleep(10) print('late', nil, 1) end)"
    prompt:said()
    assert.equal("late\tnil\t1\n_2 = true", prompt:ask "cueball.sleep(20)")
  end)

  it("says so where nothing is left to wait for", function()
    assert.is_truthy(prompt:ask("world.waiter():wait()"):find("^! interrupted: it waits, and nothing is left that could happen"))
    prompt:type "pool = cueball.pool { resolver = cueball.resolver.static { '10.0.0.1:1' }, connect = function() return {} end }"
    assert.is_truthy(prompt:ask("world.waiter():wait()"):find("^! interrupted: it has waited for a day of virtual time"))
    assert.equal("_1 = 1", prompt:ask("1"))
  end)

  it("wants more lines, and runs nothing before they are there", function()
    assert.equal("incomplete", prompt:type "for i = 1, 2 do")
    assert.equal("done", prompt:type "for i = 1, 2 do\nprint(i)\nend")
    assert.equal("1\n2", prompt:said())
    assert.equal("done", prompt:type "  ")
    assert.equal("incomplete", prompt:type ":time f(")
  end)

  it("runs several inputs one by one, until one fails", function()
    prompt:type "x = 1\n:time x + 1\n\nfor i = 1, 2 do\n  print(i)\nend\n?max_connections"
    local said = prompt:said()
    assert.is_truthy(said:find "^_1 = 2\n# 0 ms of virtual time\n1\n2\n# max_connections: ")
    assert.equal("incomplete", prompt:type ":help time\nfor i = 1, 2 do")
    prompt:said()
    prompt:type "print(1)\n:nonsense\nprint(2)"
    assert.equal("1\n! there is no command :nonsense; :help lists them", prompt:said())
  end)

  it("is not held up by what is long and has no end", function()
    local began = os.clock()
    assert.matches("unexpected symbol near ':'", prompt:ask("x = 1 +\n" .. ("1 +\n"):rep(15000) .. ":x"))
    assert.equal("", prompt:ask(("\n"):rep(60000) .. "x = 1"))
    assert.is_true(os.clock() - began < 3, "it took " .. os.clock() - began .. " s") -- of the processor; it was 18
  end)

  it("shows what io.write writes, line by line", function()
    assert.equal("one\ntwo", prompt:ask "io.write('o', 'ne\\ntw') io.stdout:write('o\\n')")
  end)

  it("has load and its like work in its globals", function()
    prompt:type "loadstring('made = 5')()"
    assert.equal("_1 = 5", prompt:ask "made")
    assert.is_nil(rawget(_G, "made"))
    assert.equal("_2 = true", prompt:ask "_G.made == made")
  end)

  it("shows tasks in words", function()
    assert.equal("_1 = <a task that waits>", prompt:ask "world.spawn(function() world.sleep(5) end)")
    assert.equal("_2 = <a task that is over>", prompt:ask "world.spawn(function() end)")
  end)

  it("ends when it is told to", function()
    prompt:type ":quit 3"
    assert.same({ true, 3 }, { prompt.session.is_over, prompt.session.status })
  end)

  it("stops time when somebody presses Ctrl-C", function()
    local pressed = 0
    local other = prompts.new { interrupts = function() return pressed end }
    other.world.at(5000, function() pressed = 1 end)
    assert.equal("! interrupted", other:ask "world.sleep(1e6)")
    assert.equal(5000, other.world.time_ms())
    assert.equal("_1 = 5000", other:ask "world.time_ms()")
    other:close()
  end)

  it("wants to be asked one thing after the other, and a print", function()
    assert.has_error(function() sessions.new {} end)
    prompt.session.environment.again = function() prompt.session:submit "1" end
    assert.is_truthy(prompt:ask("again()"):find("something that was submitted before still runs", 1, true))
  end)
end)

describe("a session on an event loop", function()
  local function with_session(fn)
    cueball.run(function()
      local lines = {}
      local session = sessions.new { is_terminal = true, print = function(words) lines[#lines + 1] = words end }
      fn(session, lines)
      session:close()
    end)
  end

  it("lets others go on while it waits, and is interrupted", function()
    with_session(function(session, lines)
      local interrupted = {}
      cueball.spawn(function()
        cueball.sleep(20)
        for index = 1, 2 do interrupted[index] = session:interrupt() end
      end)
      assert.equal("done", session:submit "cueball.sleep(86400000)")
      assert.same({ true, false }, interrupted)
      assert.same({ "interrupted" }, lines)
      session:submit "1"
      assert.equal("_1 = 1", lines[2])
    end)
  end)

  it("calls what was submitted as it is told, and adopts it", function()
    cueball.run(function()
      local adopted, called = 0, 0
      local session = sessions.new {
        print = function() end, adopt = function(made) adopted = adopted + 1 return made end,
        call = function(fn, handler) called = called + 1 return xpcall(fn, handler) end,
      }
      session:submit "load('return 1')()"
      session:submit ":help"
      session:close()
      assert.is_true(adopted >= 2)
      assert.equal(2, called)
    end)
  end)
end)
