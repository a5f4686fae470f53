--- Regular expressions of PCRE2, compiled and matched through the FFI: what `re` of ngx_lua's API stands on (cueball.cosocket.api.re).
--
-- The library is loaded when the first expression is compiled. Compiled expressions are kept, the latest 1024 at least and 2048 at most.
local ffi = require "ffi"
local bit = require "bit"
local clib = require "cueball.cosocket.api.clib"
local misuse = require "cueball.misuse"

local pcre = {}

local KEPT_MAX = 1024

-- Declarations outlive the module; it may be loaded again.
pcall(ffi.cdef, [[
  void *cueball_pcre_compile(const char *pattern, size_t length, uint32_t options, int *error, size_t *at, void *context)
    __asm__("pcre2_compile_8");
  void *cueball_pcre_compile_context_create(void *general) __asm__("pcre2_compile_context_create_8");
  int cueball_pcre_set_compile_extra_options(void *context, uint32_t options) __asm__("pcre2_set_compile_extra_options_8");
  int cueball_pcre_jit_compile(void *code, uint32_t options) __asm__("pcre2_jit_compile_8");
  void cueball_pcre_code_free(void *code) __asm__("pcre2_code_free_8");
  void *cueball_pcre_match_data_create(uint32_t pairs, void *general) __asm__("pcre2_match_data_create_8");
  void cueball_pcre_match_data_free(void *data) __asm__("pcre2_match_data_free_8");
  size_t *cueball_pcre_get_ovector_pointer(void *data) __asm__("pcre2_get_ovector_pointer_8");
  int cueball_pcre_match(const void *code, const char *subject, size_t length, size_t from, uint32_t options, void *data, void *context)
    __asm__("pcre2_match_8");
  int cueball_pcre_dfa_match(const void *code, const char *subject, size_t length, size_t from, uint32_t options, void *data,
    void *context, int *workspace, size_t count) __asm__("pcre2_dfa_match_8");
  int cueball_pcre_pattern_info(const void *code, uint32_t what, void *where) __asm__("pcre2_pattern_info_8");
  int cueball_pcre_get_error_message(int error, char *buffer, size_t size) __asm__("pcre2_get_error_message_8");
]])

-- pcre2.h
local ANCHORED, NO_UTF_CHECK = 0x80000000, 0x40000000
local ALT_BSUX, CASELESS, DOTALL, DUPNAMES, EXTENDED = 0x2, 0x8, 0x20, 0x40, 0x80
local MATCH_UNSET_BACKREF, MULTILINE, UTF = 0x200, 0x400, 0x80000
local EXTRA_BAD_ESCAPE_IS_LITERAL, JIT_COMPLETE = 0x2, 1
local INFO_CAPTURES, INFO_NAMES, INFO_NAME_SIZE, INFO_NAME_TABLE = 4, 17, 18, 19
local NOMATCH, JIT_STACK_LIMIT, NO_JIT = -1, -46, 0x2000

-- nginx has the numbers of the first PCRE in its messages.
local OLD_NUMBERS = { [-33] = -24, [-36] = -11, [-47] = -8, [-53] = -21, [-63] = -21 }

local FLAGS = {
  o = {}, j = { is_jit = true }, d = { is_dfa = true }, i = { bits = CASELESS }, s = { bits = DOTALL }, m = { bits = MULTILINE },
  u = { bits = UTF }, U = { bits = bit.bor(UTF, NO_UTF_CHECK) }, x = { bits = EXTENDED }, a = { bits = ANCHORED },
  D = { bits = DUPNAMES, has_dupnames = true }, J = { bits = bit.bor(ALT_BSUX, MATCH_UNSET_BACKREF) },
}

local lib, compile_context
local number, position = ffi.new "int[1]", ffi.new "size_t[1]"
local count, table_of_names = ffi.new "uint32_t[1]", ffi.new "const unsigned char *[1]"
local WORKSPACE = 4096
local workspace

local function load_library()
  local found, message = clib.load(false, "libpcre2-8-0", "libpcre2-8.so.0")
  if not found then misuse.raise("re: regular expressions need PCRE2, and " .. message) end
  lib = found
  compile_context = lib.cueball_pcre_compile_context_create(nil)
  -- As the first PCRE, for which the libraries were written: "\y" is a "y".
  lib.cueball_pcre_set_compile_extra_options(compile_context, EXTRA_BAD_ESCAPE_IS_LITERAL)
end

local parsed = {} -- options by their letters

local FLAGS_OF_ANY = { "is_jit", "is_dfa", "has_dupnames" }

local function parse(letters)
  local found = { bits = 0, is_jit = false, is_dfa = false, has_dupnames = false }
  for letter in letters:gmatch "." do
    local flag = FLAGS[letter]
    if not flag then misuse.raise(('unknown flag "%s" (flags "%s")'):format(letter, letters)) end
    found.bits = bit.bor(found.bits, flag.bits or 0)
    for _, name in ipairs(FLAGS_OF_ANY) do found[name] = found[name] or flag[name] or false end
  end
  parsed[letters] = found
  return found
end

local function info(code, what)
  lib.cueball_pcre_pattern_info(code, what, count)
  return count[0]
end

-- The named groups: { { name, number }, … }.
local function names_of(code)
  local names, size = {}, info(code, INFO_NAME_SIZE)
  lib.cueball_pcre_pattern_info(code, INFO_NAME_TABLE, table_of_names)
  local at = table_of_names[0]
  for index = 1, info(code, INFO_NAMES) do
    names[index] = { ffi.string(at + 2), at[0] * 256 + at[1] }
    at = at + size
  end
  return names
end

local function fault(pattern)
  local buffer = ffi.new "char[256]"
  lib.cueball_pcre_get_error_message(number[0], buffer, 256)
  local at = tonumber(position[0])
  local message = ('pcre_compile() failed: %s in "%s"'):format(ffi.string(buffer), pattern)
  return at < #pattern and ('%s at "%s"'):format(message, pattern:sub(at + 1)) or message
end

local Regex = {}
Regex.__index = Regex

local function compile(pattern, flags)
  if not lib then load_library() end
  local code = lib.cueball_pcre_compile(pattern, #pattern, flags.bits, number, position, compile_context)
  if code == nil then return nil, fault(pattern) end
  code = ffi.gc(code, lib.cueball_pcre_code_free)
  if flags.is_jit then lib.cueball_pcre_jit_compile(code, JIT_COMPLETE) end -- where it cannot, the interpreter matches
  local captures = flags.is_dfa and 0 or info(code, INFO_CAPTURES)
  local data = ffi.gc(lib.cueball_pcre_match_data_create(captures + 1, nil), lib.cueball_pcre_match_data_free)
  local names = names_of(code)
  return setmetatable({
    code = code, data = data, captures = captures, names = names, is_dfa = flags.is_dfa, has_dupnames = flags.has_dupnames,
    ncaptures = captures, name_count = #names, -- as resty.core.regex calls them
    ends = lib.cueball_pcre_get_ovector_pointer(data), -- two for each group: where it begins and ends, from 0
  }, Regex)
end

-- Two generations: what is asked for moves to the younger one, and the older one goes once that is full.
local young, old, young_count = {}, {}, 0

--- @param pattern a string
-- @param letters options, as ngx_lua has them: "jo", "ix" …
-- @return a compiled expression; or nil, message
function pcre.regex(pattern, letters)
  local key = letters .. "\0" .. pattern
  local found = young[key]
  if found then return found end
  found = old[key]
  if not found then
    local message
    found, message = compile(pattern, parsed[letters] or parse(letters))
    if not found then return nil, message end
  end
  if young_count >= KEPT_MAX then young, old, young_count = {}, young, 0 end
  young[key], young_count = found, young_count + 1
  return found
end

-- A number as nginx tells it: of the first PCRE, where all that is wrong with UTF-8 is one.
local function failed(result)
  return nil, ("pcre_exec() failed: %d"):format(OLD_NUMBERS[result] or result <= -3 and result >= -22 and -10 or result)
end

--- Matches from an offset on.
-- @param from of the first byte to look at, from 0
-- @return how many groups `ends` has, the whole match included; false: no match; nil, message
function Regex:match(subject, from)
  if from > #subject then return failed(-33) end
  local result
  if self.is_dfa then
    workspace = workspace or ffi.new("int[?]", WORKSPACE)
    result = lib.cueball_pcre_dfa_match(self.code, subject, #subject, from, 0, self.data, nil, workspace, WORKSPACE)
    if result == 0 then result = 1 end -- there was more than one match; the longest counts
  else
    result = lib.cueball_pcre_match(self.code, subject, #subject, from, 0, self.data, nil)
    if result == JIT_STACK_LIMIT then result = lib.cueball_pcre_match(self.code, subject, #subject, from, NO_JIT, self.data, nil) end
  end
  if result > 0 then return result end
  if result == NOMATCH then return false end
  return failed(result)
end

--- What the last match found in a group.
-- @param groups what match returned
-- @return its first and last place in the subject, from 1; nil: nothing
function Regex:group(index, groups)
  if index >= groups then return nil end
  local from = self.ends[2 * index]
  if from == 0xffffffffffffffffULL then return nil end
  return tonumber(from) + 1, tonumber(self.ends[2 * index + 1])
end

return pcre
