--- The example for OpenResty and what docs/openresty.md pastes, as they stand but for ports and paths.
local nginx = require "spec.support.nginx"
local redis = require "spec.support.redis"
local shell = require "spec.support.shell"

local read = shell.text_of

-- Replaces, and insists that there is something to be replaced.
local function replace(text, from, to)
  local first, last = text:find(from, 1, true)
  assert(first, from)
  return text:sub(1, first - 1) .. to .. text:sub(last + 1)
end

-- As the page says, for a machine on which several nginx run, and cueball is not installed.
local function adapt(conf)
  conf = replace(conf, "# load_module /usr/lib/nginx/modules/ndk_http_module.so;", "load_module /usr/lib/nginx/modules/ndk_http_module.so;")
  conf = replace(conf, "# load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;",
    "load_module /usr/lib/nginx/modules/ngx_http_lua_module.so; daemon off; %(user)")
  conf = replace(conf, 'lua_package_path "${prefix}?.lua;;";',
    'lua_package_path "${prefix}?.lua;%(root)/lua/?.lua;%(root)/lua/?/init.lua;%(build)/lua/?.lua;;";\n'
    .. 'lua_package_cpath "%(build)/?.so;;";\n'
    .. "client_body_temp_path temp; proxy_temp_path temp; fastcgi_temp_path temp; uwsgi_temp_path temp; scgi_temp_path temp;")
  return replace(conf, "listen 8080;", 'listen 127.0.0.1:%(port); location = /ready { return 200 "ready"; }')
end

describe("the example for OpenResty", function()
  local one, backend

  before_each(function() backend = redis.start() backend:call("SET", "key", "value") end)
  after_each(function()
    if one then one:stop() one = nil end
    backend:stop()
  end)

  it("works", function()
    local pools = replace(read "examples/openresty/my_pools.lua", "127.0.0.1:6379", backend.backend)
    -- A busy machine needs longer.
    for _, limit in ipairs { "connect_timeout_ms = 500", "read_timeout_ms = 1000", "claim_timeout_ms = 1000" } do
      pools = replace(pools, limit, limit:gsub("%d+", "15000"))
    end
    one = nginx.start {
      conf = adapt(read "examples/openresty/nginx.conf"),
      files = { ["my_pools.lua"] = pools },
    }
    assert.equal("value\n", one:ask "/")
    assert.equal("1 visits\n", one:ask "/by-hand")
    assert.equal("2 visits\n", one:ask "/by-hand")
    nginx.until_true(function() return backend:clients() == 20 end)
  end)

  it("is what the manual pastes", function()
    local page = read "docs/openresty.md"
    local pools = page:match "```lua\n(.-)```"
    assert.equal(read "examples/openresty/my_pools.lua", pools)
    for line in page:match("```nginx\n(.-)```"):gmatch "[^\n]+" do
      local words = line:match "^%s*(.-)%s*$"
      assert.is_truthy(read("examples/openresty/nginx.conf"):find(words, 1, true), words)
    end
  end)
end)
