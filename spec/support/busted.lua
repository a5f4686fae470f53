--- Runs busted in this very interpreter: its own launcher is a script for plain Lua, or re-executes.
-- Called by spec/run, with busted's arguments.

require "busted.runner" { standalone = false, output = "spec.support.tally" }
