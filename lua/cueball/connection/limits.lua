--- Time limits of connecting, as sockets take them.
local limits = {}

--- A socket takes whole milliseconds, and 0 for its default.
function limits.whole(ms)
  return ms > 1 and ms - ms % 1 or 1
end

--- What connecting and greeting may take: what is left of the attempt, or the factory's connect_timeout_ms if that is less.
function limits.of_attempt(settings, context)
  local limit = context.timeout_ms
  if settings.connect_timeout_ms and settings.connect_timeout_ms < limit then limit = settings.connect_timeout_ms end
  return limit
end

return limits
