--- Every page of the manual can be read: links lead somewhere, lines are not too long, Lua compiles, and programs print what stands below
-- them. Each checker is first fed what it must refuse.
local manual = require "spec.support.manual"
local shell = require "spec.support.shell"

local root, read, blocks_of, without_blocks = shell.root, shell.text_of, manual.blocks_of, manual.without_blocks

local function exists(path)
  local file = io.open(root .. "/" .. path, "rb") -- a folder opens too, on Linux
  return file and file:close() or false
end

local function pages()
  local found = { "README.md", "CHANGELOG.md" }
  local list = shell.must(("cd '%s' && ls docs/*.md bench/README.md bench/*/README.md"):format(root))
  for path in list:gmatch "[^\n]+" do found[#found + 1] = path end
  return found
end

-- GitHub's name for a heading's anchor.
local function anchor_of(heading)
  return (heading:lower():gsub("[^%w%s_-]", ""):gsub("%s", "-"))
end

local function anchors_of(text)
  local anchors = {}
  for heading in ("\n" .. without_blocks(text)):gmatch "\n#+ ([^\n]*)" do anchors[anchor_of(heading)] = true end
  return anchors
end

--- Sections of a page that begins with a list of its sections, and lacks these there.
local function unlisted(text)
  local prose, lacking = without_blocks(text), {}
  local beginning = prose:match "^(.-)\n## " or prose
  if not beginning:find("](#", 1, true) then return lacking end
  for heading in prose:gmatch "\n## ([^\n]*)" do
    if not beginning:find("](#" .. anchor_of(heading) .. ")", 1, true) then lacking[#lacking + 1] = heading end
  end
  return lacking
end

--- Links of a page that lead nowhere.
local function dead_links(path, text)
  local dead, folder = {}, path:match "^(.*/)" or ""
  for target in without_blocks(text):gmatch "%]%(([^)%s]+)%)" do
    if not target:find "^%a+:" then
      local file, anchor = target:match "^([^#]*)#?(.*)$"
      local full = file == "" and path or folder .. file
      if not exists(full) then
        dead[#dead + 1] = target
      elseif anchor ~= "" and not anchors_of(file == "" and text or read(full))[anchor] then
        dead[#dead + 1] = target
      end
    end
  end
  return dead
end

--- Runs a Lua block on its own; what it prints comes back.
local function output_of(block, name)
  local lines = {}
  local function note(...)
    local parts = {}
    for i = 1, select("#", ...) do parts[i] = tostring((select(i, ...))) end
    lines[#lines + 1] = table.concat(parts, "\t") .. "\n"
  end
  local chunk = assert(loadstring(block.text, "=" .. name))
  setfenv(chunk, setmetatable({ print = note }, { __index = _G }))()
  return table.concat(lines)
end

describe("every page", function()
  it("has links that lead somewhere", function()
    for _, path in ipairs(pages()) do assert.same({}, dead_links(path, read(path)), path) end
  end)

  it("would be caught with a dead link or anchor", function()
    assert.same({ "lau.md", "lua.md#nowhere", "#no" },
      dead_links("docs/lua.md", "\n# Here\n[a](lau.md) [b](lua.md#nowhere) [c](lua.md#options) [d](#no) [e](#here) [f](http://x.org)"))
  end)

  it("lists all of its sections, if it lists any", function()
    for _, path in ipairs(pages()) do assert.same({}, unlisted(read(path)), path) end
  end)

  it("would be caught with a section that is not in its list", function()
    assert.same({ "More, and most" }, unlisted "# A\n- [one](#one)\n```sh\n## no\n```\n## One\n[x](#more-and-most)\n## More, and most\n")
    assert.same({}, unlisted "# A\n[one](b.md#one)\n## One\n")
  end)

  it("has prose whose lines fit a window", function()
    for _, path in ipairs(pages()) do
      -- An entry of the changelog is one line.
      if path ~= "CHANGELOG.md" then assert.same({}, manual.long_prose(read(path)), path) end
    end
  end)

  it("would be caught with a long line or row, but not with long code or a picture", function()
    local long = ("ü"):rep(161)
    assert.same({ "2: 161", "3: 163", "5: 245" },
      manual.long_prose(("a\n%s\n- %s\n%s\n| %s |"):format(long, long, ("ü"):rep(160), ("ü"):rep(241))))
    assert.same({}, manual.long_prose(("```\n%s\n```\n| `%s` [a](%s) |\n![%s](a.svg)"):format(long, long, long, long)))
  end)

  it("has Lua that compiles", function()
    local count = 0
    for _, path in ipairs(pages()) do
      for _, block in ipairs(blocks_of(read(path))) do
        if block.language == "lua" then
          assert(loadstring(block.text, ("=%s:%d"):format(path, block.line)))
          count = count + 1
        end
      end
    end
    assert.is_true(count > 10)
    assert.is_nil(loadstring(blocks_of("```lua\nlocal = 1\n```")[1].text))
  end)

  it("has programs that print what stands below them", function()
    finally(manual.stop)
    local count = 0
    for _, path in ipairs(pages()) do
      local blocks = blocks_of(read(path))
      for index, block in ipairs(blocks) do
        local below = blocks[index + 1]
        if block.language == "lua" and below and below.language == "text" and below.line == block.last + 2 then
          local name = ("%s:%d"):format(path, block.line)
          block.text = manual.runnable(path, block.text)
          assert.equal(below.text, output_of(block, name), name)
          count = count + 1
        end
      end
    end
    assert.is_true(count >= 6)
  end)
end)
