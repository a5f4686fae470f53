--- cueball.resolver.shared under the real nginx: one worker runs the resolver, and another when that one dies or nginx is reloaded.
-- What there is to it in detail is in spec/resolver/shared_spec.lua, in virtual time.
local uv = require "luv"
local host = require "cueball.host.uv"
local nginx = require "spec.support.nginx"
local servers = require "spec.support.dns_servers"
local with = require "spec.support.with"

-- The resolver reads a file beside nginx.conf, every 20 ms, and notes in the dict who runs it.
local POOLS = [[
local cueball = require "cueball"
local runs = ngx.shared.notes
local function look(sink)
  runs:incr("starts", 1, 0)
  repeat
    runs:set("runs " .. ngx.worker.pid(), true, 0.3)
    local list, file = {}, io.open(ngx.config.prefix() .. "/backends")
    for line in file:lines() do
      if line:find "^fail " then sink:fail(line:sub(6))
      else list[#list + 1] = { address = line, port = 80, provenance = "line " .. #list + 1 } end
    end
    file:close()
    if #list > 0 then sink:set(list) end
  until not sink:sleep(20)
end
return cueball.pool {
  max_connections = 1, connect = function() return {} end, rebalance_delay_ms = 0,
  resolver = cueball.resolver.shared { name = "file", resolver = look, dict = "cueball" },
}
]]

local FILES = { ["my_pools.lua"] = POOLS, backends = "10.0.0.1\n10.0.0.2\n" }

local HTTP = [[
lua_shared_dict cueball 1m;
lua_shared_dict notes 1m;
init_worker_by_lua_block {
  pool = require "my_pools"
  local known = require("cueball.resolver.shared.state").read(ngx.shared.cueball:get "cueball/resolver/file/state" or "")
  began_with = known and #known.backends or 0
  least = nil   -- backends that it had at least, once it had any
  local count = #pool:backends()
  pool:subscribe(function(event)
    local change = event.kind == "backend_added" and 1 or event.kind == "backend_removed" and -1
    if not change then return end
    count = count + change
    if least or count == began_with then least = math.min(least or count, count) end
  end)
}
]]

local SERVER = [[
location = /who { content_by_lua_block {
  local keys = {}
  for _, one in ipairs(pool:backends()) do keys[#keys + 1] = one.address end
  table.sort(keys)
  ngx.print(ngx.worker.pid(), " ", table.concat(keys, ","), " ", pool.sink.message or "well", " ", least or "none")
} }
location = /empty { content_by_lua_block {
  local lease, message, name = pool:claim { timeout_ms = 0, error_on_empty = true }
  if lease then lease:release() end
  ngx.print(name == "no_backends" and "none" or #pool:backends() > 0 and "some" or "neither: " .. tostring(message))
} }
location = /runners { content_by_lua_block {
  local pids = {}
  for _, key in ipairs(ngx.shared.notes:get_keys(0)) do
    local pid = key:match "^runs (%d+)"
    if pid and ngx.shared.notes:get(key) then pids[#pids + 1] = pid end
  end
  ngx.print(table.concat(pids, " "))
} }
location = /starts { content_by_lua_block { ngx.print(ngx.shared.notes:get "starts") } }
]]

local function write(path, text)
  local file = assert(io.open(path .. ".new", "wb"))
  file:write(text)
  file:close()
  assert(os.rename(path .. ".new", path))
end

describe("a shared resolver in nginx", function()
  local one

  after_each(function()
    if one then one:stop() one = nil end
  end)
  teardown(servers.close_all)

  local function start(workers, more)
    local given = with({ workers = workers, http = HTTP, server = SERVER, files = FILES }, more)
    one = nginx.start(given)
  end

  -- The resolver stays with its worker for longer than that one can be held up.
  local function files_with_lease(ms)
    return with(FILES, { ["my_pools.lua"] = POOLS:gsub('dict = "cueball"', "%0, lease_ms = " .. ms) })
  end

  -- What the workers say, by pid, once `count` of them have answered.
  local function workers_say(count)
    local said, found = {}, 0
    nginx.until_true(function()
      local pid, text = one:ask("/who"):match "^(%d+) (.*)$"
      if not said[pid] then found = found + 1 end
      said[pid] = text
      return found >= count
    end, function() return one:log() end)
    return said
  end

  local function until_all_say(count, pattern)
    nginx.until_true(function()
      local said = workers_say(count)
      for _, text in pairs(said) do
        if not text:find(pattern) then return false end
      end
      return true
    end, function() return one:ask "/who" .. "\n" .. one:log() end)
  end

  for _, workers in ipairs { 1, 2 } do
    it(("is run by one of %d, and all follow it"):format(workers), function()
      start(workers, { files = files_with_lease(60000) })
      until_all_say(workers, "^10.0.0.1,10.0.0.2 well")
      write(one.prefix .. "/backends", "10.0.0.2\n10.0.0.3\n")
      until_all_say(workers, "^10.0.0.2,10.0.0.3 well")
      write(one.prefix .. "/backends", "fail the disk is gone\n")
      until_all_say(workers, "^10.0.0.2,10.0.0.3 the disk is gone")
      write(one.prefix .. "/backends", "10.0.0.4\n")
      until_all_say(workers, "^10.0.0.4 well")
      assert.equal("1", one:ask "/starts")
    end)
  end

  it("is taken over when the worker that runs it dies", function()
    start(2, { files = files_with_lease(8000) })
    until_all_say(2, "^10.0.0.1,10.0.0.2 well")
    local leader -- it says so again and again, if it is not held up
    nginx.until_true(function()
      leader = one:ask "/runners"
      return leader:find "^%d+$"
    end, function() return leader end)
    uv.kill(tonumber(leader), "sigkill")
    nginx.until_true(function()
      local now = one:ask "/runners"
      return now:find "^%d+$" and now ~= leader
    end, function() return one:log() end)
    write(one.prefix .. "/backends", "10.0.0.9\n")
    until_all_say(2, "^10.0.0.9 well")
    assert.equal("2", one:ask "/starts")
  end)

  it("is taken over at a reload, and new workers begin with what is known", function()
    start(2)
    until_all_say(2, "^10.0.0.1,10.0.0.2 well")
    local function starts() return tonumber(one:ask "/starts") end
    for _ = 1, 3 do
      local before, starts_before = {}, starts()
      for _, pid in ipairs(one:workers()) do before[tostring(pid)] = true end
      one:signal "HUP"
      nginx.until_true(function()
        local is_new, count = true, 0
        for _, pid in ipairs(one:workers()) do
          is_new, count = is_new and not before[tostring(pid)], count + 1
        end
        return is_new and count == 2
      end, function() return one:log() end)
      for _, text in pairs(workers_say(2)) do assert.equal("10.0.0.1,10.0.0.2 well 2", text) end
      nginx.until_true(function() return starts() > starts_before end, function() return one:log() end)
      nginx.until_true(function() return one:ask "/runners":find "^%d+$" ~= nil end)
      assert.is_true(starts() <= starts_before + 2, starts()) -- an old one may take over that has not heard of its end
    end
    assert.is_nil(one:log():match "%[error%][^\n]*")
    assert.is_nil(one:log():match "exited on signal[^\n]*")
  end)

  it("has no moment without backends in reloads under load", function()
    start(2)
    until_all_say(2, "^10.0.0.1,10.0.0.2 well")
    local answers, count = {}, 0
    nginx.under_load(8, function()
      local status, body = one:get "/empty"
      local answer = tostring(status) .. " " .. tostring(body)
      answers[answer] = (answers[answer] or 0) + 1
      count = count + 1
    end, function()
      for reload = 1, 5 do
        one:signal "HUP"
        host.sleep(400)
        nginx.until_true(function() return count > 25 * reload end)
      end
    end)
    assert.same({ ["200 some"] = count }, answers)
  end)

  it("asks DNS once for all", function()
    local knot = servers.knot { zones = { ["example."] = "db 1 A 10.0.0.1\n" } }
    start(2, { files = { ["my_pools.lua"] = ([[
      local cueball = require "cueball"
      local dns = cueball.resolver.dns { domain = "db.example", default_port = 80, nameservers = { "%s" }, min_ttl_ms = 200 }
      return cueball.pool {
        max_connections = 1, connect = function() return {} end, rebalance_delay_ms = 0,
        resolver = cueball.resolver.shared { resolver = dns, lease_ms = 60000 },
      }
    ]]):format(knot.server) } })
    until_all_say(2, "^10.0.0.1 well")
    knot:rewrite("example.", "db 1 A 10.0.0.2\n")
    until_all_say(2, "^10.0.0.2 well")
    assert.equal(1, select(2, one:log():gsub("this worker runs db.example for all", "")))
  end)

  it("says so if the dict is not there, or too small", function()
    local missing = POOLS:gsub('dict = "cueball"', 'dict = "none"')
    start(1, { files = { ["my_pools.lua"] = "local ok, message = pcall(loadstring([=[" .. missing .. "]=])) return { message = message }" },
      http = HTTP:gsub('pool = require "my_pools".*$', 'problem = require("my_pools").message }'),
      server = "location = /problem { content_by_lua_block { ngx.print(problem) } }" })
    assert.matches('cueball.resolver.shared: there is no lua_shared_dict "none": put `lua_shared_dict none 1m;` into the http block',
      one:ask "/problem")
    one:stop()

    local lines = {}
    for number = 1, 800 do lines[number] = ("10.0.%d.%d"):format(number / 250, number % 250) end
    start(2, { http = HTTP:gsub("cueball 1m", "cueball 32k"),
      files = { ["my_pools.lua"] = POOLS, backends = table.concat(lines, "\n") .. "\n" } })
    nginx.until_true(function() return one:log():find 'the shared dict "cueball" is too small: %d+ bytes of file do not fit' ~= nil end)
    nginx.until_true(function() return one:ask "/who":find "too small: %d+ bytes of file do not fit none$" ~= nil end)
    write(one.prefix .. "/backends", "10.0.0.1\n")
    until_all_say(2, "^10.0.0.1 well")
  end)
end)
