--- Runs busted in this very interpreter: its own launcher is a script for plain Lua, or re-executes.
-- Called by spec/run, with busted's arguments.

-- busted forgets what each file required.  luv's loop dies with its module's table, and luv would go on using it.
debug.getregistry()["cueball.luv"] = require "luv"

require "busted.runner" { standalone = false, output = "spec.support.tally" }
