--- The manual as a book: docs/build makes it without a warning, it leads nowhere that is not there, and asks nobody on the network.
--
-- Making it takes a while, and needs Sphinx (.ci/deps ci): where that is missing, these specs are pending.
local shell = require "spec.support.shell"

local HAS_SPHINX = select(2, shell.run "command -v sphinx-build") == 0
local HAS_CHROMIUM = select(2, shell.run "command -v chromium") == 0

local folder

local function pages()
  local list = {}
  local command = "cd '%s' && find . -name '*.html' | sed 's#^\\./##' | sort"
  for path in shell.must(command:format(folder)):gmatch "[^\n]+" do list[#list + 1] = path end
  return list
end

local function read(path) return shell.read(folder .. "/" .. path) end

local function exists(path)
  local file = io.open(folder .. "/" .. path, "rb")
  return file and file:close() or false
end

-- "docs/x.html", "../README.html" → "README.html"
local function joined(from, target)
  local path = (from:match "^(.*/)" or "") .. target
  local count
  repeat path, count = path:gsub("[^/]+/%.%./", "", 1) until count == 0
  return path
end

local LOADS = { script = true, img = true, object = true, iframe = true, embed = true }

-- What a page loads by itself, or is styled with.
local function loaded_by(text)
  local list = {}
  for tag in text:gmatch "<[%w]+[^>]*>" do
    local element = tag:match "^<(%w+)"
    local is_style = element == "link" and tag:find 'rel="stylesheet"'
    local target = is_style and tag:match '%shref="([^"]*)"'
      or LOADS[element] and (tag:match '%ssrc="([^"]*)"' or tag:match '%sdata="([^"]*)"')
    if target then list[#list + 1] = target end
  end
  return list
end

local function is_foreign(target) return target:find "^%a[%w+.-]*:" ~= nil or target:find "^/" ~= nil end

local function foreign(list)
  local found = {}
  for _, target in ipairs(list) do
    if is_foreign(target) and not target:find "^data:" then found[#found + 1] = target end
  end
  return found
end

-- Links of a page that lead to no file, or to no anchor in one.
local function dead_links(path, text, texts)
  local dead = {}
  for target in text:gmatch '<a [^>]-href="([^"]*)"' do
    if not is_foreign(target) then
      local file, anchor = target:gsub("&amp;", "&"):match "^([^#?]*)[^#]*#?(.*)$"
      local full = file == "" and path or joined(path, file)
      if not exists(full) then
        dead[#dead + 1] = target
      elseif anchor ~= "" and full:find "%.html$" then
        texts[full] = texts[full] or read(full)
        if not texts[full]:find('id="' .. anchor .. '"', 1, true) then dead[#dead + 1] = target end
      end
    end
  end
  return dead
end

-- What chromium shows of a page that lies in a file.
local function shown(path)
  return shell.must(("unset LD_PRELOAD; timeout 120 chromium --headless --no-sandbox --disable-gpu --user-data-dir='%s.chromium' "
    .. "--virtual-time-budget=10000 --dump-dom 'file://%s/%s' 2>/dev/null"):format(folder, folder, path))
end

describe("the manual as a book", function()
  setup(function()
    if not HAS_SPHINX then return end
    folder = shell.must "mktemp -d" .. "/book"
    shell.must(("unset LD_PRELOAD; nice '%s/docs/build' '%s'"):format(shell.root, folder)) -- a warning is an error
  end)
  teardown(function()
    if folder then shell.must("rm -rf '" .. folder:gsub("/book$", "") .. "'") end
  end)

  local function holds(name, fn, needs_chromium)
    it(name, function()
      if not HAS_SPHINX or needs_chromium and not HAS_CHROMIUM then
        return pending("needs Sphinx and chromium: .ci/deps ci")
      end
      fn()
    end)
  end

  holds("has every page of docs/", function()
    local count = 0
    for name in shell.must(("cd '%s/docs' && ls *.md"):format(shell.root)):gmatch "([%w-]+)%.md" do
      count = count + 1
      assert.is_true(exists("docs/" .. name .. ".html"), name)
    end
    assert.is_true(count > 20)
    assert.is_true(exists "README.html" and exists "index.html")
  end)

  holds("loads nothing that is not in its folder", function()
    for _, path in ipairs(pages()) do
      local list = loaded_by(read(path))
      assert.same({}, foreign(list), path)
      for _, target in ipairs(list) do assert.is_true(exists(joined(path, (target:gsub("%?.*", "")))), path .. " loads " .. target) end
    end
    for sheet in shell.must(("cd '%s' && find _static -name '*.css'"):format(folder)):gmatch "[^\n]+" do
      local urls = {}
      for url in read(sheet):gmatch "url%(['\"]?([^)'\"]*)" do urls[#urls + 1] = url end
      assert.same({}, foreign(urls), sheet)
    end
    assert.same({ "//cdn.example/x.js", "https://fonts.example/a.css" },
      foreign(loaded_by('<script src="//cdn.example/x.js"></script><img src="data:x">'
        .. '<link rel="stylesheet" href="https://fonts.example/a.css">')))
  end)

  holds("has links that lead somewhere", function()
    local texts = {}
    for _, path in ipairs(pages()) do assert.same({}, dead_links(path, read(path), texts), path) end
    assert.same({ "nowhere.html", "lua.html#nowhere", "#no" },
      dead_links("docs/x.html", '<a href="nowhere.html"><a class="x" href="lua.html#nowhere"><a href="#no"><a href="lua.html">',
        { ["docs/x.html"] = "" }))
  end)

  holds("has its drawings in the pages, in the page's colour, with words for those who do not see them", function()
    local count = 0
    for drawing in read("docs/concepts.html"):gmatch "<figure class=\"drawing\">(.-)</figure>" do
      count = count + 1
      assert.is_truthy(drawing:find 'role="img" aria%-label="%a[^"]+"')
      assert.is_truthy(drawing:find("currentColor", 1, true))
      assert.is_nil(drawing:find 'class="alone"')
    end
    assert.equal(6, count)
  end)

  holds("finds words, read from files", function()
    local text = shown "search.html?q=decoherence"
    assert.is_truthy(text:find 'docs/concepts%.html', text:sub(1, 500))
    assert.is_truthy(text:find "Search finished, found %d+ page")
  end, true)

  holds("is dark where that is wanted", function()
    local text = shown "docs/concepts.html"
    assert.is_truthy(text:find 'data%-theme="auto"')
    local sheet = read "docs/concepts.html"
    assert.is_truthy(sheet:find("prefers-color-scheme: dark", 1, true))
  end, true)
end)
