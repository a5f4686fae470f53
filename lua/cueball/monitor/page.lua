--- What one worker shows, as a text: a line of JSON about the worker, and one for each pool. So it can be written and read in slices, and
-- its lines go into an answer as they are.
local json = require "cueball.monitor.json"

local page = {}

local HEAD = { "version", "pid", "id", "time_s", "is_exiting", "problem" }

--- Writes the page of a worker.
-- @param taken  { version, pid, id, time_s, is_exiting, problem, pools }
-- @param pause  of cueball.monitor.slices
-- @return the text; `taken` has `lines` then, that of each pool
function page.write(taken, pause)
  local head, lines = {}, {}
  for _, name in ipairs(HEAD) do head[name] = taken[name] end
  for index, pool in ipairs(taken.pools) do
    lines[index] = json.encode(pool)
    pause()
  end
  taken.lines = lines
  if #lines == 0 then return json.encode(head) end
  return json.encode(head) .. "\n" .. table.concat(lines, "\n")
end

local function is_pool(value)
  return type(value) == "table" and type(value.name) == "string" and type(value.state) == "string" and type(value.stats) == "table"
    and type(value.backends) == "table" and type(value.options) == "table" and type(value.resolver) == "table"
end

--- Reads a page.
-- @return what was written, with `lines`; nil: it is something else
function page.read(text, pause)
  local taken
  for line in (type(text) == "string" and text or ""):gmatch "[^\n]+" do
    local value = json.decode(line)
    if not taken then
      if type(value) ~= "table" or type(value.time_s) ~= "number" or type(value.version) ~= "string" then return nil end
      taken = value
      taken.pools, taken.lines = json.list {}, {}
    elseif is_pool(value) then
      taken.pools[#taken.pools + 1], taken.lines[#taken.lines + 1] = value, line
    else
      return nil
    end
    pause()
  end
  return taken
end

-- A JSON object, and a list of texts as one more member.
local function with_list(object, name, lines)
  local text = json.encode(object)
  local comma = text == "{}" and "" or ","
  return ('%s%s"%s":[%s]}'):format(text:sub(1, -2), comma, name, table.concat(lines, ","))
end

--- A view of all workers as JSON.
-- @param view { version, time_s, problem, workers, pools }; workers with `lines` are not encoded again
function page.json(view, pause)
  local head, workers, pools = {}, {}, {}
  for name, value in pairs(view) do
    if name ~= "workers" and name ~= "pools" then head[name] = value end
  end
  for index, worker in ipairs(view.workers) do
    if not worker.lines then page.write(worker, pause) end
    local own = {}
    for name, value in pairs(worker) do
      if name ~= "pools" and name ~= "lines" then own[name] = value end
    end
    workers[index] = with_list(own, "pools", worker.lines)
    pause()
  end
  for index, pool in ipairs(view.pools) do
    pools[index] = json.encode(pool)
    pause()
  end
  local text = with_list(head, "workers", workers)
  return ('%s,"pools":[%s]}'):format(text:sub(1, -2), table.concat(pools, ","))
end

--- A snapshot as JSON, made in slices.
-- @param taken { …, pools }
function page.snapshot(taken, pause)
  local head, pools = {}, {}
  for name, value in pairs(taken) do
    if name ~= "pools" then head[name] = value end
  end
  for index, pool in ipairs(taken.pools) do
    pools[index] = json.encode(pool)
    pause()
  end
  return with_list(head, "pools", pools)
end

return page
