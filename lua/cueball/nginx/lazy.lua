--- Members of the host that not every program needs: loaded when first asked for.
local server_of = function() return require "cueball.nginx.server" end

return {
  dns = function(host) return require("cueball.nginx.dns").new(host) end,
  workers = function() return server_of().workers end,
  tls = function() return require "cueball.nginx.tls" end,
  http = function() return server_of().http end,
  proxy = function() return require "cueball.nginx.balancer.upstream" end,
  library = function() return require("cueball.nginx.library").load end,
  parking = function() return require("cueball.nginx.parking").new end,
  set_factory = function() return require("cueball.nginx.parking").without_sockets end,
  board = function(host)
    local board = require "cueball.monitor.board"
    return function() return board.follow(host) end
  end,
  -- Before the workers are forked there is nobody to take part.
  pool_begins = function(host)
    return function()
      if host.is_forking() then return end
      host.board()
      require("cueball.console.relay").follow(host)
    end
  end,
}
