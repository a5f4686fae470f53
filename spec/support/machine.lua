--- A machine that is not there, for commands run in this process: in place of cueball.cli.system.
--
--   local system = machine.new { terminals = { out = true }, variables = { NO_COLOR = "1" }, host = world }
--   cli.main({ "resolve", "db.example" }, system)
--   system.out, system.err     what was written
--   system.fault = { "No space left on device", 28 }     stdout takes no more
--   system.clock               seconds since 1970
--   system.reader_is_gone      stdout's
local machine = {}

function machine.new(given)
  given = given or {}
  local system = { out = "", err = "", clock = 1000000000.1234, reader_is_gone = false, fault = given.fault }
  local variables, terminals = given.variables or {}, given.terminals or {}
  local function file(name)
    return {
      write = function(_, ...)
        if name == "out" and system.fault then return nil, unpack(system.fault) end
        system[name] = system[name] .. table.concat { ... }
        return true
      end,
      flush = function() return true end,
    }
  end
  system.stdout, system.stderr = file "out", file "err"
  function system.is_terminal(one) return terminals[one == system.stdout and "out" or "err"] or false end
  function system.environment(name) return variables[name] end
  function system.time() return system.clock end
  function system.is_reader_gone() return system.reader_is_gone end
  function system.host() return given.host end
  function system.keep_standard() end
  return system
end

return machine
