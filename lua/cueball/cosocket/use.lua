--- What a socket remembers of how it was used, and what follows from it for the next claimer: one table for each connection, the same on
-- every host (cueball.cosocket.socket; cueball.nginx.socket).
--
-- The happy path: the connection opens and is greeted; `pooled` ends the greeting; from then on claimers send and receive; at each release
-- `judge` finds nothing.
--
-- What can go wrong, and what judge calls it:
--   "timeout"  a receive or send timed out and was not completed since: an answer is under way, which the next claimer would read as its
--              own. A later receive that succeeds completes the one that timed out, unless something was sent in between: then nobody
--              can tell which question the answer belongs to. A send that timed out is never completed.
--   "lost"     the backend closed or reset the connection, or sent what nobody had asked for, before it delivered a byte to any claimer
--   "worn"     it has delivered to a claimer, and is used up: the backend closed it after it had answered, its claimer closed it, or bytes
--              are left in it
--   "unfit"    its state is not known, and neither speaks for the backend nor against it
local use = {}

--- What is wrong with a socket in which bytes lie that nobody asked for.
use.UNREAD = "unexpected data"

--- How a connection under TLS ended that the peer closed without saying so in TLS (close_notify). Whoever reads on gets it for an error.
use.TRUNCATED = "TLS: the connection was closed without a close_notify: it may be truncated"

--- What is known of a connection that just opened.
function use.new()
  return {
    is_pooled = false,      -- its greeting is over: what happens from now on happens in leases, or at rest
    was_lent = false,       -- a claimer has, or had, it
    has_delivered = false,  -- a byte came after it was lent
    is_asked = false,       -- something was sent, and no receive has succeeded since
    unfinished = nil,       -- a text: which operation timed out and was not completed since
    is_out_of_step = false, -- no receive can complete that one any more
    ended_by = nil,         -- "claimer" or "peer"
    end_message = nil,      -- how it ended: "closed" for an orderly end, "connection reset by peer" …
    is_foreign = false,     -- a claimer connected the socket anew: the connection is not the pool's
  }
end

local RECEIVE_TIMED_OUT = "a receive timed out, and its answer may still come"
local SEND_TIMED_OUT = "a send timed out, and part of it may be on its way"

--- The factory has made its connection. Whatever was said so far belongs to the greeting, which the factory answers for.
function use.pooled(self)
  if self.is_pooled then return end
  self.is_pooled = true
  self.has_delivered, self.is_asked, self.unfinished, self.is_out_of_step = false, false, nil, false
end

--- A claimer gets the socket.
function use.lent(self)
  self.was_lent = true
end

--- Something is about to be sent.
function use.sends(self)
  self.is_asked = true
  if self.unfinished then self.is_out_of_step = true end
end

--- Bytes have come.
function use.arrived(self)
  if self.was_lent then self.has_delivered = true end
end

--- A receive has delivered what it was asked for.
function use.received(self)
  self.is_asked = false
  if self.unfinished and not self.is_out_of_step then self.unfinished = nil end
end

function use.receive_timed_out(self)
  self.unfinished = self.unfinished or RECEIVE_TIMED_OUT
end

--- The receive that timed out waited for what nobody had asked for: no answer is under way.
function use.expected_nothing(self)
  if self.unfinished == RECEIVE_TIMED_OUT and not self.is_out_of_step and not self.is_asked then self.unfinished = nil end
end

function use.send_timed_out(self)
  self.unfinished, self.is_out_of_step = SEND_TIMED_OUT, true
end

--- The connection is over.
-- @param who "claimer" or "peer": the first that ended it counts
-- @param message "closed" for an orderly end
function use.ended(self, who, message)
  if self.ended_by then return end
  self.ended_by, self.end_message = who, message
end

--- The socket is connected once more: what is known of its connection before is of no use.
-- @return what is known of the new one
function use.again(self)
  local made = use.new()
  made.is_pooled, made.is_foreign = self.is_pooled, self.is_pooled
  return made
end

-- What the backend's end of the connection means.
local function kind_of_loss(self, message)
  if not self.has_delivered then return "lost" end
  -- A question that got no answer: a backend that has had enough of the connection closes like this, and so does one that dies.
  local is_answered = not self.is_asked or message == use.UNREAD
  local is_orderly = self.end_message == "closed" or self.end_message == use.TRUNCATED -- many servers say nothing as they close
  return is_answered and is_orderly and "worn" or "unfit"
end

--- May the connection be lent again?
-- @param message what the socket itself finds wrong with it, or nil
-- @return nil if nothing is wrong; or message, kind
function use.judge(self, message)
  if self.unfinished then
    if self.ended_by == "peer" and not self.has_delivered then return message or "closed", "lost" end
    return self.unfinished, "timeout"
  end
  if self.is_foreign then return "connected anew by its claimer", "unfit" end
  if not message then return nil end
  if self.ended_by == "peer" then return message, kind_of_loss(self, message) end
  if self.has_delivered then return message, "worn" end
  if message == use.UNREAD and self.is_pooled and not self.was_lent then return message, "lost" end
  return message, "unfit"
end

return use
