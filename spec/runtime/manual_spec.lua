--- The page docs/runtime.md: its programs are compiled and run, its pieces compiled, and it has every function.
local manual = require "spec.support.manual"
local program = require "spec.support.program"
local runtime = require "spec.support.runtime"
local server = require "spec.support.server"
local shell = require "spec.support.shell"
local uv = require "luv"

local PAGE = shell.text_of "docs/runtime.md"

-- What the pieces of the page take for granted.
local AROUND = [[
#include <cueball_runtime.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
void piece(cueball_runtime *runtime, cueball_threaded *db, cueball_lease lease, bool answered, bool cancelled);
void piece(cueball_runtime *runtime, cueball_threaded *db, cueball_lease lease, bool answered, bool cancelled)
{
    (void)runtime, (void)db, (void)lease, (void)answered, (void)cancelled;
    {
#line %d "docs/runtime.md"
%s
    }
}
]]

-- The programs of the page: { source =, script =, output = }; and its pieces: { text =, line = }.
local function read(page)
  local programs, pieces, script, last = {}, {}, nil, nil
  for _, block in ipairs(manual.blocks_of(page)) do
    if block.language == "lua" then
      script = block.text
    elseif block.language == "c" and block.text:find("int main(", 1, true) then
      last = { source = block.text, script = script }
      programs[#programs + 1] = last
    elseif block.language == "c" then
      pieces[#pieces + 1] = block
    elseif block.language == "text" and last then
      last.output, last = block.text, nil
    end
  end
  return programs, pieces
end

local function compile_piece(piece)
  program.write("piece.c", AROUND:format(piece.line, piece.text))
  program.must("${CC:-cc} -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -Wno-unused-variable -Wno-shadow -fsyntax-only -Isrc/include "
    .. shell.quote(program.folder() .. "/piece.c"))
end

describe("docs/runtime.md", function()
  local echo

  setup(function()
    runtime.setup()
    echo = server.process()
  end)

  teardown(function()
    echo.kill "sigkill"
    while not echo.is_over do uv.run "once" end
    uv.run "nowait"
    runtime.teardown()
  end)

  it("has programs that print what stands below them", function()
    local programs = read(PAGE)
    assert.equal(1, #programs)
    for _, one in ipairs(programs) do
      local count
      one.script, count = one.script:gsub("127%.0%.0%.1:7000", "127.0.0.1:" .. echo.port)
      assert.equal(1, count)
      program.write("pools.lua", one.script)
      program.write("page.c", one.source)
      assert.equal(one.output, runtime.run_there "page" .. "\n")
    end
  end)

  it("has pieces that compile", function()
    local _, pieces = read(PAGE)
    assert.is_true(#pieces >= 9)
    for _, piece in ipairs(pieces) do compile_piece(piece) end
    assert.has_error(function() compile_piece { line = 1, text = "cueball_threaded_claim(db, &lease);" } end)
  end)

  -- Those of programs: the part of hosts is on another page.
  local function functions_of(header)
    local names = {}
    for name in header:gmatch "\nCUEBALL_API [^;]-([%w_]+)%(" do names[#names + 1] = name end
    return names
  end

  local function missing_from(page, names)
    local rows, missing = "\n" .. page:match "\n## Every function\n(.-)\n## ", {}
    for _, name in ipairs(names) do
      local is_there = false
      for cell in rows:gmatch "\n| ([^|]*) |" do is_there = is_there or cell:find("`" .. name .. "`", 1, true) ~= nil end
      if not is_there then missing[#missing + 1] = name end
    end
    return missing
  end

  it("says of every function in which threads it may be called, and who owns what", function()
    local of_programs = shell.text_of("src/include/cueball_threaded.h"):match "^(.-)\n/%* %-+ the host %-%- %*/"
    local names = functions_of(of_programs .. shell.text_of "src/include/cueball_runtime.h")
    assert.is_true(#names > 30)
    assert.same({}, missing_from(PAGE, names))
    assert.same({ "cueball_lease_adopt" }, missing_from((PAGE:gsub("\n| `cueball_lease_adopt`", "\n| `adopt`")), names))
  end)
end)
