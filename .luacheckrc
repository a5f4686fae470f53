std = "luajit"
max_line_length = 140
self = false -- a method need not use its self
ignore = { "212/_.*" } -- arguments named _… are there for the signature

files["spec"] = { std = "+busted" }
files["spec/**/*_spec.lua"] = { std = "luajit+busted" }
files["rockspec"] = { std = "rockspec" }
files["**/*.rockspec"] = { std = "rockspec" }
files["lua/cueball/nginx/**/*.lua"] = { read_globals = { "ngx" } }
files["lua/cueball/nginx/server.lua"] = { globals = { "ngx" } } -- sets ngx.status
files["lua/cueball/cosocket/library.lua"] = { read_globals = { "ngx" } }
files["spec/support/stand_in/pgmoon.lua"] = { read_globals = { "ngx" } }
files["bench/openresty/handlers.lua"] = { read_globals = { "ngx" } }
files["examples/openresty/*.lua"] = { read_globals = { "ngx" } }
