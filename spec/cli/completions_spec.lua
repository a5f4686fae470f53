--- What shells complete the command by: made of the commands, and as it is installed; and that the shells take it.
--
-- CUEBALL_COMPLETIONS=write spec/run spec/cli/completions_spec.lua    writes src/completions anew
local cli = require "cueball.cli"
local command = require "spec.support.command"
local completions = require "cueball.cli.completions"
local shell = require "spec.support.shell"

local FILES = { bash = "cueball.bash", zsh = "_cueball", fish = "cueball.fish" }
local root = shell.root

-- What bash offers for a command line whose last word is being typed.
local function bash_offers(line)
  local script = ([[
    source '%s/src/completions/cueball.bash'
    COMP_WORDS=(%s)
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=()
    _cueball
    printf '%%s\n' "${COMPREPLY[@]}" | sort]]):format(root, line)
  local path = os.tmpname()
  shell.write(path, script)
  local output, status = shell.run("bash --norc " .. path)
  os.remove(path)
  assert.equal(0, status, output)
  return (output:gsub("\n", " "))
end

describe("completion", function()
  for name, file in pairs(FILES) do
    it("for " .. name .. " is installed as the command prints it", function()
      local made = completions.text(name)
      local path = root .. "/src/completions/" .. file
      if os.getenv "CUEBALL_COMPLETIONS" == "write" then shell.write(path, made) end
      assert.is_true(shell.read(path) == made, "write it anew: CUEBALL_COMPLETIONS=write spec/run spec/cli/completions_spec.lua")
      assert.same({ 0, made, "" }, { command.run("completions " .. name) })
    end)
  end

  it("offers commands, options of the command, and choices", function()
    local names = {}
    for index, row in ipairs(cli.commands) do names[index] = row.name end
    names[#names + 1] = "help"
    table.sort(names)
    assert.equal(table.concat(names, " "), bash_offers "cueball ''")
    assert.equal("top", bash_offers "cueball to")
    assert.equal("--token-file", bash_offers "cueball top --t")
    assert.equal("--why", bash_offers "cueball resolve db.example --w")
    assert.equal("always auto never", bash_offers "cueball top --color ''")
  end)

  it("says what each option does, where the shell shows that", function()
    local zsh = shell.text_of "src/completions/_cueball"
    assert.is_truthy(zsh:find('"--poisson[Requests come by chance, and not at even distances]"', 1, true))
    for _, row in ipairs(cli.commands) do assert.is_truthy(zsh:find(row.summary, 1, true), row.name) end
    local fish = shell.text_of "src/completions/cueball.fish"
    assert.is_truthy(fish:find("-l once -d 'Print it once, without the screen; so it does where'", 1, true))
  end)

  it("is taken by the shells", function()
    for name, check in pairs { bash = "bash -n", zsh = "zsh -n", fish = "fish --no-execute" } do
      local output, status = shell.run(("%s '%s/src/completions/%s'"):format(check, root, FILES[name]))
      assert.equal("", output)
      assert.equal(0, status, name)
    end
  end)

  it("is refused for another shell", function()
    local status, out, err = command.run "completions csh"
    assert.equal(2, status)
    assert.equal("", out)
    assert.equal("cueball: \"csh\" is none of bash, zsh and fish\nTry 'cueball completions --help'.\n", err)
  end)
end)
