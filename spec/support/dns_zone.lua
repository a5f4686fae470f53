--- A zone that specs of DNS clients ask for, and its answers in an order of their own.
--
--   local dns_zone = require "spec.support.dns_zone"
--   dns_zone.text(500)        the zone example., with _many._tcp for so many services, each with an address
--   dns_zone.sorted(text)     the lines of an answer, whatever their order
local dns_zone = {}

local RECORDS = [[
db A 10.0.0.1
db A 10.0.0.2
db AAAA 2001:db8::5
four A 10.0.0.4
_http._tcp 30 SRV 10 5 8080 db
_http._tcp 30 SRV 20 0 8081 four
alias CNAME other-alias
other-alias 5 CNAME db
zero 0 A 10.0.0.9
huge 4294967295 A 10.0.0.3
dot\.ted\200 A 10.0.0.7
_none._tcp SRV 0 0 0 .
]]

function dns_zone.text(count)
  local lines = {}
  for index = 1, count do
    lines[#lines + 1] = ("_many._tcp SRV 0 1 %d node-%d"):format(8000 + index, index)
    lines[#lines + 1] = ("node-%d A 10.1.%d.%d"):format(index, math.floor(index / 256), index % 256)
  end
  return RECORDS .. table.concat(lines, "\n") .. "\n"
end

function dns_zone.sorted(text)
  local lines = {}
  for line in text:gmatch "[^\n]+" do lines[#lines + 1] = line end
  table.sort(lines, function(a, b) return a > b end)
  return table.concat(lines, "\n")
end

return dns_zone
