--- docs/first-session.md: what is typed there, typed; and what it shows, shown. CUEBALL_SESSION=write writes what is shown into the page.
local shell = require "spec.support.shell"

local PATH = "docs/first-session.md"
local MARK = "-- the next line --"

-- The lines that are typed, in order, and what stands below each.
local function steps_of(page)
  local steps, is_open = {}, false
  for line in page:gmatch "([^\n]*)\n" do
    if line:find "^```" then
      is_open = line == "```text"
    elseif is_open and line:find "^> " then
      steps[#steps + 1] = { typed = line:sub(3), shown = "" }
    elseif is_open then
      steps[#steps].shown = steps[#steps].shown .. line .. "\n"
    end
  end
  return steps
end

-- What the prompt shows for each, in virtual time.
local function run(steps)
  local lines = {}
  for index, step in ipairs(steps) do lines[index] = step.typed .. ('\nprint "%s"\n'):format(MARK) end
  local path = os.tmpname()
  shell.write(path, table.concat(lines))
  local output = shell.run(("cd '%s' && CUEBALL_LOG=none luajit '%s/bin/cueball' repl --sim <'%s' 2>&1")
    :format(shell.root, shell.build, path))
  os.remove(path)
  local shown = {}
  for part in (output .. "\n"):gmatch("(.-)" .. MARK:gsub("%-", "%%-") .. "\n") do shown[#shown + 1] = part end
  return shown, output
end

local function write(page, shown)
  local index, is_open = 0, false
  local lines = {}
  for line in page:gmatch "([^\n]*)\n" do
    local is_typed = is_open and line:find "^> "
    if line:find "^```" then is_open = line == "```text" end
    if is_typed or not is_open or line:find "^```" then lines[#lines + 1] = line end
    if is_typed then
      index = index + 1
      lines[#lines + 1] = shown[index] ~= "" and (shown[index]:gsub("\n$", "")) or nil
    end
  end
  shell.write(shell.root .. "/" .. PATH, table.concat(lines, "\n") .. "\n")
end

describe("docs/first-session.md", function()
  it("shows what the prompt shows", function()
    local page = shell.text_of(PATH)
    local steps = steps_of(page)
    assert.is_true(#steps > 20)
    local shown, output = run(steps)
    assert.equal(#steps, #shown, output)
    if os.getenv "CUEBALL_SESSION" == "write" then return write(page, shown) end
    for index, step in ipairs(steps) do assert.equal(step.shown, shown[index], step.typed) end
  end)

  it("would be caught with another answer", function()
    local steps = steps_of "```text\n> 1 + 1\n3\n> 2\n2\n```\n"
    assert.same({ { typed = "1 + 1", shown = "3\n" }, { typed = "2", shown = "2\n" } }, steps)
    local shown = run(steps)
    assert.same({ "2\n", "2\n" }, shown)
  end)
end)
