--- The parts of the core that are not in the public header, each tested by a C program of its own beside this file.

local root = os.getenv "CUEBALL_ROOT" or "."

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

--- Runs a shell command; returns what it wrote, and its status.
local function shell(command)
  local pipe = assert(io.popen("{ " .. command .. "\n} 2>&1; echo \"status $?\""))
  local text = pipe:read "*a"
  pipe:close()
  local output, status = text:match "^(.-)\n?status (%d+)\n$"
  return output, tonumber(status)
end

--- Environment of the programs: a sanitizer loaded into LuaJIT is not for them, nor for the compiler.
local CLEAN = "unset LD_PRELOAD; cd " .. quote(root) .. " && "

local programs = {
  timers_test = "src/core/timers.c src/core/random.c",
  histogram_test = "src/core/histogram.c src/core/random.c",
}

describe("the core's parts:", function()
  local folder

  setup(function()
    local status
    folder, status = shell "mktemp -d"
    assert(status == 0, folder)
  end)

  teardown(function()
    shell("rm -rf " .. quote(folder))
  end)

  for name, sources in pairs(programs) do
    it(name .. " finds no fault", function()
      local program = quote(folder .. "/" .. name)
      local output, status = shell(("%s${CC:-cc} -std=c11 -O1 -g -Isrc -Isrc/core -o %s spec/core/%s.c %s -lm")
        :format(CLEAN, program, name, sources))
      assert(status == 0, output)
      output, status = shell(CLEAN .. program)
      assert(status == 0, output)
    end)
  end
end)
