--- The editor of the prompt for terminals that can do nothing: the terminal itself has the line, and nothing is drawn.
local plain = {}

local Plain = {}
Plain.__index = Plain

--- See cueball.cli.prompt.
function plain.new(prompt)
  return setmetatable({
    prompt = prompt, is_raw = false,
    rest = "",             -- that was typed and is no whole line
    is_over = false,       -- nothing more comes
    is_interrupted = false,
    asked = nil,           -- the prompt that stands on the screen
  }, Plain)
end

local function ask(self, mark)
  self.asked = mark
  self.prompt:write(mark)
end

function Plain:above(bytes)
  if not self.asked then return self.prompt:write(bytes) end
  self.prompt:write("\n" .. bytes .. self.asked)
end

function Plain:typed(bytes)
  self.is_over = not bytes
  self.rest = self.rest .. (bytes or "")
end

function Plain:interrupt(is_running)
  self.rest, self.is_interrupted = "", not is_running
end

function Plain.redraw() end

-- What there is to return.
local function taken(self)
  if self.is_interrupted then
    self.prompt:write "\n"
    return nil, "interrupted", true
  end
  local line, rest = self.rest:match "^([^\n]*)\n(.*)$"
  if line then
    self.rest = rest
    return line
  end
  if self.prompt.session.is_over then self.prompt:write "\n" end
  if self.is_over or self.prompt.session.is_over then return nil, "end" end
end

function Plain:read(pending)
  self.is_interrupted = false
  ask(self, self.prompt.session:prompt(pending ~= nil))
  local line, why = taken(self)
  while not line and not why do
    self.prompt:wait()
    line, why = taken(self)
  end
  self.asked = nil
  return line and (pending and pending .. "\n" .. line or line), why
end

--- It shows no history.
function Plain.added() end

function Plain.close() end

return plain
