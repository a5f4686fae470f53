--- Finds the backends that are written in etcd, a key for each below a prefix, and follows them by a watch. The value of a key is a
-- backend as a text: "10.0.0.1:8080". (etcd 3.4 and later, by its JSON gateway.)
--
--   resolver = etcd { prefix = "/services/web/", address = "127.0.0.1", port = 2379 }
local bit = require "bit"
local cueball = require "cueball"
local http = require "examples.discovery.http"

local LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local base64 = {}

function base64.encode(text)
  local out = {}
  for index = 1, #text, 3 do
    local a, b, c = text:byte(index, index + 2)
    local number = a * 65536 + (b or 0) * 256 + (c or 0)
    for place = 18, 0, -6 do
      local sextet = bit.band(bit.rshift(number, place), 63) + 1
      out[#out + 1] = (place == 6 and not b or place == 0 and not c) and "=" or LETTERS:sub(sextet, sextet)
    end
  end
  return table.concat(out)
end

function base64.decode(text)
  local out, number, bits = {}, 0, 0
  for letter in text:gmatch "[%w+/]" do
    number, bits = bit.bor(bit.lshift(bit.band(number, 0xff), 6), LETTERS:find(letter, 1, true) - 1), bits + 6
    if bits >= 8 then
      bits = bits - 8
      out[#out + 1] = string.char(bit.band(bit.rshift(number, bits), 0xff))
    end
  end
  return table.concat(out)
end

-- All keys that begin with the prefix: up to the next text of its length.
local function range_of(prefix)
  return { key = base64.encode(prefix), range_end = base64.encode(prefix:sub(1, -2) .. string.char(prefix:byte(-1) + 1)) }
end

local function list_of(known)
  local list = {}
  for _, backend in pairs(known) do list[#list + 1] = backend end
  return list
end

-- What a key says; a value that is no backend is the sink's to complain of.
local function note(known, kv, is_gone)
  known[base64.decode(kv.key)] = not is_gone and base64.decode(kv.value) or nil
end

return function(options)
  local at = { address = options.address or "127.0.0.1", port = options.port or 2379, timeout_ms = 3600000 }

  local function list(sink)
    local answer, message = http.ask(sink.host, at, "POST", "/v3/kv/range", range_of(options.prefix))
    if not answer then return nil, message end
    local found
    found, message = answer:rest()
    if not found then return nil, message end
    local known = {}
    for _, kv in ipairs(found.kvs or {}) do note(known, kv) end
    return list_of(known), { revision = tonumber(found.header.revision), known = known }
  end

  local function follow(sink, position)
    local wanted = range_of(options.prefix)
    wanted.start_revision = position.revision + 1
    local answer, message = http.ask(sink.host, at, "POST", "/v3/watch", { create_request = wanted })
    while answer do
      local line
      line, message = answer:line()
      local result = line and line.result
      if not result then break end
      if result.canceled then return false end -- that revision is no longer kept: list anew
      for _, event in ipairs(result.events or {}) do note(position.known, event.kv, event.type == "DELETE") end
      if result.events then sink:set(list_of(position.known)) end
      position.revision = tonumber(result.header.revision)
    end
    if answer then answer:close() end
    return nil, message or "etcd ended the watch"
  end

  return cueball.resolver.watch { name = options.name or "etcd", list = list, follow = follow }
end
