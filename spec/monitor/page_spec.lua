--- What workers show each other: a page is read as it was written, adds up as the pools themselves do, and is nothing if it is damaged.
local ffi = require "ffi"
local cueball = require "cueball"
local json = require "cueball.monitor.json"
local numbers = require "cueball.monitor.numbers"
local openmetrics = require "cueball.monitor.openmetrics"
local page = require "cueball.monitor.page"
local random = require "cueball.random"
local records = require "cueball.monitor.records"
local sim_pool = require "spec.support.sim_pool"
local slices = require "cueball.monitor.slices"
local snapshot = require "cueball.monitor.snapshot"
local writers = require "cueball.monitor.writer"

describe("a worker's page", function()
  local town

  before_each(function()
    town = sim_pool.new { servers = 3 }
    town:open {
      name = "db é \"x\"", max_connections = 3, resolver = cueball.resolver.static { "10.0.0.1:7000", "10.0.0.2:7000", "10.0.0.3:7000" },
    }
    town:advance(200)
    town:claim "alice"
    town:advance(7)
    town:release "alice"
  end)

  after_each(function() town:stop() end)

  local function written(has_lines)
    local made = page.new(has_lines ~= false)
    made.version = snapshot.each_record(slices.none, function(record) made:add(record, slices.none) end)
    made.time_s, made.pid, made.is_exiting = 12.5, 7, false
    return made:text()
  end

  -- This worker, where the sums want it.
  local OWN = {}

  local function merged(...)
    local sums = snapshot.sums()
    for _, worker in ipairs { ... } do
      if worker == OWN then snapshot.each_record(slices.none, function(record) sums:add(record) end) end
      for _, pool in ipairs(worker.pools or {}) do sums:add(pool) end
    end
    return sums:finish()
  end

  local function lines_of(read)
    local writer, whole = writers.kept()
    read:put_lines(writer)
    return whole()
  end

  local function sum_of(...)
    local sum = merged(...)[1]
    return { sum.stats, sum.counts, sum.states, sum.options, sum.max_connections, sum.resolver, sum.last_error, sum.workers, sum.backends }
  end

  -- The page as another version would write it.
  local function of_another(text)
    return (text:gsub('"layout":"2 ', '"layout":"0 ', 1))
  end

  it("is read as it was written", function()
    local one = assert(page.read(written(), slices.none))
    assert.same({ cueball.version, 7, 12.5, false, 1 }, { one.version, one.pid, one.time_s, one.is_exiting, #one.pools })
    local of_stats, of_counts = numbers.tables(one.pools[1].numbers)
    assert.equal(1, of_stats.claims)
    assert.equal(3, of_stats.idle)
    assert.equal(1, of_counts.lease_le_7)
    local keys = {}
    for index = 1, one.pools[1].row_count do keys[index] = table.concat({ records.backend(one.pools[1], index) }, " ", 1, 2) end
    table.sort(keys)
    assert.same({ "10.0.0.1:7000 up", "10.0.0.2:7000 up", "10.0.0.3:7000 up" }, keys)
    local decoded = json.decode("[" .. lines_of(one) .. "]")[1]
    assert.same({ 'db é "x"', "running", 1, 3 }, { decoded.name, decoded.state, decoded.stats.claims, #decoded.backends })
    assert.is_nil(decoded.counts.lease_le_1)
  end)

  it("adds up as the pools do, whether it has records or another version wrote it", function()
    local plain = sum_of(snapshot.take(), snapshot.take(), snapshot.take())
    assert.equal(9, plain[1].idle)
    assert.equal(3, plain[9][1].states.up)
    assert.is_true(plain[9][1].since_ms > 0)
    assert.equal(3, plain[9][1].total_max)
    local text = written()
    assert.same(plain, sum_of(OWN, page.read(text, slices.none), page.read(text, slices.none)))
    assert.same(plain, sum_of(page.read(text, slices.none), OWN, OWN))
    assert.same(plain, sum_of(OWN, page.read(of_another(text), slices.none), page.read(text, slices.none)))
  end)

  it("tells errors and addresses that only its lines have", function()
    town.servers[1]:kill()
    town:advance(3000)
    local read = page.read(written(), slices.none)
    local plain = snapshot.take()
    assert.same(sum_of(plain), sum_of(read))
    assert.is_string(merged(read)[1].last_error)
  end)

  it("decodes no line where the records say it all", function()
    local read = page.read(written(), slices.none)
    local decode = json.decode
    json.decode = function() error "decoded" end
    local ok, message = pcall(merged, OWN, read)
    json.decode = decode
    assert.is_true(ok, message)
  end)

  it("without lines, for those who count only, has the same numbers", function()
    local whole, short = page.read(written(), slices.none), page.read(written(false), slices.none)
    assert.same({ "", 1, 3 }, { lines_of(short), #short.pools, short.pools[1].row_count })
    assert.same({ numbers.tables(whole.pools[1].numbers) }, { numbers.tables(short.pools[1].numbers) })
    local plain, one = merged(OWN, OWN), merged(OWN, short)
    assert.same(plain[1].backends, one[1].backends)
    assert.equal(6, merged(short, short)[1].stats.idle)
    assert.is_nil((page.read(written(false):sub(1, -2), slices.none)))
  end)

  it("of no pools is read, too", function()
    local one = assert(page.read(page.short { version = "1", time_s = 5, pid = 7, problem = "too small" }, slices.none))
    assert.same({ "too small", 0, "" }, { one.problem, #one.pools, lines_of(one) })
  end)

  it("is nothing if it is cut anywhere", function()
    local text = written()
    for length = 0, #text - 1 do assert.is_nil((page.read(text:sub(1, length), slices.none)), length) end
    assert.is_nil((page.read(text .. "x", slices.none)))
  end)

  it("does no harm whatever its bytes are", function()
    local text, draw, refused = written(), random.from(7), 0
    for _ = 1, 3000 do
      local at, byte = math.floor(draw() * #text) + 1, string.char(math.floor(draw() * 256))
      local one = page.read(text:sub(1, at - 1) .. byte .. text:sub(at + 1), slices.none)
      if one then
        merged(one)
        merged(OWN, one)
      else
        refused = refused + 1
      end
    end
    assert.is_true(refused > 100, refused)
  end)

  it("takes no bytes for a number that LuaJIT would take for something else", function()
    local text, draw = written(), random.from(7)
    for _ = 1, 3000 do
      local at, tag = math.floor(draw() * (#text - 8)) + 1, string.char(240 + math.floor(draw() * 16), 255)
      local one = page.read(text:sub(1, at - 1) .. "\1\0\0\0\0\0" .. tag .. text:sub(at + 8), slices.none)
      if one then merged(OWN, one) end
    end
  end)

  it("takes no such bytes for the time since when a backend is as it is, nor a time that is to come", function()
    local made, since_ms = page.new(true), 123.456
    made.version, made.time_s, made.pid = "1", 12.5, 7
    snapshot.each_record(slices.none, function(record)
      record.backends[2].since_ms = since_ms
      made:add(record, slices.none)
    end)
    local text, double = made:text(), ffi.new("double[1]", since_ms)
    local from = assert(text:find(ffi.string(double, 8), 1, true))
    local function with_bytes(bytes) return (page.read(text:sub(1, from - 1) .. bytes .. text:sub(from + 8), slices.none)) end
    assert.equal(since_ms, merged(with_bytes(ffi.string(double, 8)))[1].backends[2].since_ms)
    for tag = 240, 255 do assert.is_nil(with_bytes("\1\0\0\0\0\0" .. string.char(tag, 255)), tag) end
    double[0] = -1
    assert.is_nil(with_bytes(ffi.string(double, 8)))
  end)

  it("takes nothing of another version for a number that cannot be added up", function()
    local text = of_another(written()):gsub('"lines_size":%d+,', ""):match "^[^\n]*\n.-\n"
    local function with(name, number)
      local changed, count = text:gsub(('"%s":[%%d.]+'):format(name), ('"%s":%s'):format(name, number), 1)
      assert.equal(1, count)
      return (page.read(changed, slices.none))
    end
    assert.equal(41, merged(with("claims", "41"))[1].stats.claims)
    assert.equal(15, with("time_s", "15").time_s)
    for _, name in ipairs { "time_s", "pid", "claims", "lease_le_7", "idle", "since_ms" } do
      for _, number in ipairs { "1e999", "-1e999", "NaN" } do assert.is_nil(with(name, number), name) end
    end
    assert.is_nil(with("claims", "-1"))
    assert.is_nil(with("latency_ms", "NaN")) -- no JSON, though lua-cjson reads it
  end)

  it("does no harm if another version has other kinds of values", function()
    local head, line = of_another(written()):gsub('"lines_size":%d+,', ""):match "^([^\n]*)\n(.-\n)"
    local kinds = { '"x"', "true", "{}", "[1]", "1", "null", "1e999", "-1" }
    local names, count, refused = { "version", "pid", "time_s", "is_exiting" }, 0, 0
    local function try(changed_head, changed_line)
      count = count + 1
      local one = page.read(changed_head .. "\n" .. changed_line, slices.none)
      if not one then
        refused = refused + 1
        return
      end
      one.age_s = 0
      local pools = merged(OWN, one)
      page.json(writers.new(function() end), { version = "1", time_s = 1, workers = { one }, pools = pools }, slices.none)
      openmetrics.text { version = "1", time_s = 1, workers = { one }, pools = pools }
    end
    for _, kind in ipairs(kinds) do
      for stop in line:gmatch '"[%w_]+":()' do
        local _, ending = line:find('^%b{}', stop)
        if not ending then _, ending = line:find('^%b[]', stop) end
        if not ending then _, ending = line:find('^"[^"]*"', stop) end
        if not ending then _, ending = line:find('^[^,}%]]+', stop) end
        try(head, line:sub(1, stop - 1) .. kind .. line:sub(ending + 1))
      end
      for _, name in ipairs(names) do
        try(head:gsub('"' .. name .. '":[^,}]+', ('"%s":%s'):format(name, kind)), line)
      end
    end
    assert.is_true(refused > 50 and refused < count, refused)
  end)
end)
