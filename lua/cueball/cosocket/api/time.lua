--- Time as ngx_lua's API tells it. It is never older than the call: nginx keeps a time until its loop goes on.
local misuse = require "cueball.misuse"

local time = {}

local DAYS = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" }
local MONTHS = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" }
local NUMBERS = {}
for number, name in ipairs(MONTHS) do NUMBERS[name] = number end

local DAY_S = 86400
local LAST_S = 253402300799 -- 9999-12-31 23:59:59

-- Days since 1970 of a date in the Gregorian calendar (Hinnant, chrono-compatible low-level date algorithms).
local function days_of(year, month, day)
  if month <= 2 then year, month = year - 1, month + 12 end
  local era = math.floor(year / 400)
  local of_era = year - era * 400
  local of_year = math.floor((153 * (month - 3) + 2) / 5) + day - 1
  return era * 146097 + of_era * 365 + math.floor(of_era / 4) - math.floor(of_era / 100) + of_year - 719468
end

-- The reverse.
local function date_of(days)
  days = days + 719468
  local era = math.floor(days / 146097)
  local of_era = days - era * 146097
  local of_era_years = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524) - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * of_era_years + math.floor(of_era_years / 4) - math.floor(of_era_years / 100))
  local month = math.floor((5 * of_year + 2) / 153)
  local day = of_year - math.floor((153 * month + 2) / 5) + 1
  month = month < 10 and month + 3 or month - 9
  return era * 400 + of_era_years + (month <= 2 and 1 or 0), month, day
end

-- Seconds since 1970 as a date in UTC.
local function broken_down(seconds)
  seconds = math.max(0, math.min(seconds, LAST_S))
  seconds = math.floor(seconds)
  local days = math.floor(seconds / DAY_S)
  local year, month, day = date_of(days)
  local rest = seconds % DAY_S
  return {
    year = year, month = month, day = day, weekday = (days + 4) % 7 + 1,
    clock = ("%02d:%02d:%02d"):format(math.floor(rest / 3600), math.floor(rest / 60) % 60, rest % 60),
  }
end

local function check_number(seconds)
  if type(seconds) ~= "number" then misuse.raise "number argument only" end
end

--- "Thu, 18 Nov 2010 11:27:35 GMT"
function time.http_time(seconds)
  check_number(seconds)
  local date = broken_down(seconds)
  return ("%s, %02d %s %04d %s GMT"):format(DAYS[date.weekday], date.day, MONTHS[date.month], date.year, date.clock)
end

--- "Thu, 18-Nov-10 11:27:35 GMT"; the year has four digits after 2037.
function time.cookie_time(seconds)
  check_number(seconds)
  local date = broken_down(seconds)
  local year = date.year > 2037 and ("%04d"):format(date.year) or ("%02d"):format(date.year % 100)
  return ("%s, %02d-%s-%s %s GMT"):format(DAYS[date.weekday], date.day, MONTHS[date.month], year, date.clock)
end

local FORMS = {
  "^[^ ,]*, *(%d%d) +(%a%a%a) *(%d%d%d%d) *(%d%d):(%d%d):(%d%d)", -- RFC 822
  "^[^ ,]*, *(%d%d)%-(%a%a%a)%-(%d%d) *(%d%d):(%d%d):(%d%d)",   -- RFC 850
}
local OF_C = "^[^ ,]* *(%a%a%a) ([ %d]%d) *(%d%d):(%d%d):(%d%d) *(%d%d%d%d)" -- asctime

local function read_date(text)
  for _, form in ipairs(FORMS) do
    local day, month, year, hour, minute, second = text:match(form)
    if day then return day, month, year, hour, minute, second end
  end
  local month, day, hour, minute, second, year = text:match(OF_C)
  return day, month, year, hour, minute, second
end

local function is_leap(year)
  return year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
end

local LENGTHS = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

--- What http_time writes, and the older forms.
-- @return seconds since 1970; nil: it is no such time
function time.parse_http_time(text)
  if type(text) ~= "string" then misuse.raise "string argument only" end
  local day, name, year, hour, minute, second = read_date(text)
  local month = NUMBERS[name]
  if not month then return nil end
  local is_short = #year == 2
  day, year, hour, minute, second = tonumber(day), tonumber(year), tonumber(hour), tonumber(minute), tonumber(second)
  if is_short then year = year < 70 and year + 2000 or year + 1900 end
  if hour > 23 or minute > 59 or second > 59 then return nil end
  if day > LENGTHS[month] + (month == 2 and is_leap(year) and 1 or 0) then return nil end
  return days_of(year, month, day) * DAY_S + hour * 3600 + minute * 60 + second
end

-- ------------------------------------------------------------- the clock --

local CONVERSIONS = { "http_time", "cookie_time", "parse_http_time" }

--- The functions that tell what time it is on a host.
-- @return by name
function time.of(host)
  local of = { update_time = function() end }

  -- Whole milliseconds, as nginx has them.
  function of.now()
    return math.floor(host.time_s() * 1000) / 1000
  end
  function of.time()
    return math.floor(host.time_s())
  end
  function of.today()
    return os.date("%Y-%m-%d", of.time())
  end
  function of.localtime()
    return os.date("%Y-%m-%d %H:%M:%S", of.time())
  end
  function of.utctime()
    return os.date("!%Y-%m-%d %H:%M:%S", of.time())
  end
  for _, name in ipairs(CONVERSIONS) do of[name] = time[name] end
  return of
end

return time
