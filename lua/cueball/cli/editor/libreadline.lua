--- The readline library that lua-readline stands on, beyond what lua-readline has of it.
--
--   local lib, message = require("cueball.cli.editor.libreadline").open()
--   lib.binding               lua-readline
--   lib.line()                → what is being typed, and how many bytes are left of the cursor
--
-- The functions of readline are found in the very library that lua-readline has loaded: there is one line, one history. None of those that
-- are called here calls Lua.
local ffi = require "ffi"

local libreadline = {}

local DECLARATIONS = [[
  extern char *cueball_rl_line_buffer __asm__("rl_line_buffer");
  extern int cueball_rl_point __asm__("rl_point");
  extern int cueball_rl_end __asm__("rl_end");
  extern int cueball_rl_catch_signals __asm__("rl_catch_signals");
  extern int cueball_rl_catch_sigwinch __asm__("rl_catch_sigwinch");
  extern void *cueball_rl_prep_term_function __asm__("rl_prep_term_function");
  extern void *cueball_rl_deprep_term_function __asm__("rl_deprep_term_function");
  extern void *cueball_rl_input_available_hook __asm__("rl_input_available_hook");
  extern int cueball_rl_completion_type __asm__("rl_completion_type");
  extern int cueball_rl_completion_append_character __asm__("rl_completion_append_character");
  extern const char *cueball_rl_completer_word_break_characters __asm__("rl_completer_word_break_characters");
  extern unsigned long cueball_rl_readline_state __asm__("rl_readline_state");
  extern void *cueball_rl_last_func __asm__("rl_last_func");
  extern char *cueball_rl_executing_keyseq __asm__("rl_executing_keyseq");
  extern int cueball_rl_key_sequence_length __asm__("rl_key_sequence_length");
  extern void *cueball_rl_callback_func __asm__("_rl_callback_func");
  int cueball_rl_initialize(void) __asm__("rl_initialize");
  int cueball_rl_tty_set_echoing(int is_on) __asm__("rl_tty_set_echoing");
  int cueball_rl_variable_bind(const char *name, const char *value) __asm__("rl_variable_bind");
  char *cueball_rl_variable_value(const char *name) __asm__("rl_variable_value");
  int cueball_rl_clear_visible_line(void) __asm__("rl_clear_visible_line");
  int cueball_rl_on_new_line(void) __asm__("rl_on_new_line");
  void cueball_rl_redisplay(void) __asm__("rl_redisplay");
  int cueball_rl_forced_update_display(void) __asm__("rl_forced_update_display");
  void cueball_rl_reset_screen_size(void) __asm__("rl_reset_screen_size");
  int cueball_rl_set_prompt(const char *prompt) __asm__("rl_set_prompt");
  int cueball_rl_begin_undo_group(void) __asm__("rl_begin_undo_group");
  int cueball_rl_end_undo_group(void) __asm__("rl_end_undo_group");
  int cueball_rl_delete_text(int from, int to) __asm__("rl_delete_text");
  int cueball_rl_insert_text(const char *text) __asm__("rl_insert_text");
  int cueball_rl_ding(void) __asm__("rl_ding");
  int cueball_rl_crlf(void) __asm__("rl_crlf");
  int cueball_rl_stuff_char(int byte) __asm__("rl_stuff_char");
  void *cueball_rl_function_of_keyseq(const char *keys, void *keymap, int *type) __asm__("rl_function_of_keyseq");
  void cueball_rl_free_line_state(void) __asm__("rl_free_line_state");
  void cueball_rl_clear_history(void) __asm__("clear_history");
  void cueball_rl_add_history(const char *text) __asm__("add_history");
  int cueball_rl_fflush(void *file) __asm__("fflush");
  char *cueball_rl_setlocale(int category, const char *locale) __asm__("setlocale");
  int cueball_rl_mblen(const char *bytes, size_t size) __asm__("mblen");
  int cueball_rl_nothing(void) __asm__("sched_yield");
  int cueball_rl_something(void) __asm__("getpid");
]]

-- Where words begin for readline. What is completed may begin elsewhere; the list is made to fit.
local BREAKS = " \t\n!\"#$%&'()*+,-./:;<=>?@[\\]^`{|}~"
local ISEARCH, NSEARCH = 0x80, 0x100 -- RL_STATE_ISEARCH, RL_STATE_NSEARCH
local KEY_MAX = 64
local LC_CTYPE = 0 -- of Linux

-- What was found out: the library; or false.
local opened, problem

local function check(library)
  for name in DECLARATIONS:gmatch "(cueball_rl_[%w_]+)" do local _ = library[name] end
end

-- lua-readline, and its library with everything above in it; throws where something is missing.
local function load()
  local binding = require "readline"
  for _, name in ipairs(libreadline.NEEDED) do
    if type(binding[name]) ~= "function" then error("lua-readline is too old: it has no " .. name, 0) end
  end
  local path = package.searchpath("C-readline", package.cpath)
  local library = ffi.load(path)
  ffi.cdef(DECLARATIONS)
  check(library)
  return binding, library
end
libreadline.NEEDED = { "handler_install", "handler_remove", "read_char", "sigcleanup", "set_complete_function",
  "set_default_complete_function", "set_readline_name" }

-- Where nothing says what characters the terminal has, as in containers, they are those of UTF-8, and not ASCII.
local function has_locale()
  for _, name in ipairs(libreadline.LOCALES) do
    local value = os.getenv(name)
    if value and value ~= "" then return true end
  end
  return false
end
libreadline.LOCALES = { "LC_ALL", "LC_CTYPE", "LANG" }

-- Signals and the modes of the terminal are cueball.cli.terminal's. What stands here before rl_initialize() is what ~/.inputrc may change.
local function set_up(binding, library)
  library.cueball_rl_catch_signals, library.cueball_rl_catch_sigwinch = 0, 0
  library.cueball_rl_prep_term_function, library.cueball_rl_deprep_term_function = nil, nil
  if ffi.os == "Linux" and not has_locale() then library.cueball_rl_setlocale(LC_CTYPE, "C.UTF-8") end
  binding.set_readline_name "cueball"
  library.cueball_rl_variable_bind("enable-bracketed-paste", "on")
  library.cueball_rl_initialize()
  library.cueball_rl_tty_set_echoing(1)
  library.cueball_rl_completion_append_character = 0
  library.cueball_rl_completer_word_break_characters = libreadline.BREAKS
  library.cueball_rl_clear_history() -- lua-readline has read that of others
end
libreadline.BREAKS = ffi.new("char[?]", #BREAKS + 1, BREAKS)

-- What is shown, and how.
local function add_display(lib, library)
  local function flush() library.cueball_rl_fflush(nil) end
  --- Takes the line off the screen: what is written stands in its place; draw_line has it below that.
  function lib.clear_line() library.cueball_rl_clear_visible_line() flush() end
  function lib.draw_line() library.cueball_rl_on_new_line() library.cueball_rl_redisplay() end
  function lib.set_prompt(words) library.cueball_rl_set_prompt(words) end
  function lib.is_searching(kind)
    return bit.band(tonumber(library.cueball_rl_readline_state), kind or ISEARCH + NSEARCH) ~= 0
  end
  --- The line is drawn anew, from the cursor on, for the size that the terminal has now.
  function lib.resized()
    library.cueball_rl_reset_screen_size()
    library.cueball_rl_on_new_line()
    library.cueball_rl_forced_update_display()
  end
  function lib.ring() library.cueball_rl_ding() flush() end
  --- No bell, for a while.
  local style
  function lib.mute(is_mute)
    if is_mute then
      style = style or lib.variable "bell-style"
      library.cueball_rl_variable_bind("bell-style", "none")
    elseif style then
      library.cueball_rl_variable_bind("bell-style", style)
      style = nil
    end
  end
  --- The line is left as it stands; whatever was going on in it, a search, a count, is over.
  function lib.abandon_line()
    lib.binding.sigcleanup()
    library.cueball_rl_free_line_state()
    library.cueball_rl_point = library.cueball_rl_end
    library.cueball_rl_redisplay()
    library.cueball_rl_crlf()
    flush()
  end
end

local ESCAPE, ABORT = 27, "\7" -- Ctrl-G: where the text that is sought is typed first, an Escape belongs to it
local IS_KEYMAP = 1 -- ISKMAP: a key that begins others

-- How keys are typed. readline asks a hook whether more of them have come. It is told so between an Escape and what belongs to it, and else
-- not: it would wait for them, with the event loop, or take from the terminal what comes behind those that it has. The functions for that
-- have no arguments; one returns 0, the other something else. readline 8.2 does not bear several bytes of a key at once that it does not
-- know, but those of a character it wants at once.
local function add_keys(lib, library)
  local nothing, something = ffi.cast("void *", library.cueball_rl_nothing), ffi.cast("void *", library.cueball_rl_something)
  local is_utf8 = library.cueball_rl_mblen("ä", 2) == 2
  -- A function that waits for one character, the one to be sought, gets an Escape as it is: it does not bear that more is to come.
  local function press(bytes, has_more)
    has_more = has_more and library.cueball_rl_callback_func == nil
    library.cueball_rl_input_available_hook = has_more and something or nothing
    for index = 1, #bytes do library.cueball_rl_stuff_char(bytes:byte(index)) end
    lib.binding.read_char()
  end
  local kind = ffi.new "int[1]"
  local function begins_others(byte)
    kind[0] = 0
    if byte == "\0" then return true end -- readline ends the text there that is sought
    library.cueball_rl_function_of_keyseq(byte == "\\" and "\\\\" or byte, nil, kind)
    return kind[0] == IS_KEYMAP
  end
  -- What is no character of the locale is left out: in a search readline 8.2 reads on behind its end.
  local function press_characters(bytes)
    while bytes ~= "" do
      local length = library.cueball_rl_mblen(bytes, #bytes)
      if length > 0 then press(bytes:sub(1, length), false) else lib.ring() end
      bytes = bytes:sub(math.max(1, length) + 1)
    end
  end
  --- A key, or a character, all of its bytes. A search ends before a key such as Ctrl-X, or an arrow: readline 8.2 does not bear one in a
  -- search.
  function lib.press(bytes)
    if is_utf8 and bytes:byte() >= 0x80 then return press_characters(bytes) end
    local is_escape = bytes:byte() == ESCAPE
    if lib.is_searching() and (is_escape or begins_others(bytes:sub(1, 1))) then
      press(lib.is_searching(NSEARCH) and ABORT or "\27", false)
      if bytes == "\27" then return end
    end
    for index = 1, #bytes do press(bytes:sub(index, index), index < #bytes and bytes:byte(index) == ESCAPE) end
  end
end

local function new(binding, library)
  local lib = { binding = binding }
  add_display(lib, library)
  add_keys(lib, library)
  function lib.variable(name)
    local value = library.cueball_rl_variable_value(name)
    return value ~= nil and ffi.string(value) or nil
  end
  function lib.line()
    return ffi.string(library.cueball_rl_line_buffer, library.cueball_rl_end), library.cueball_rl_point
  end
  --- What stands between a place and the cursor is another text; undone in one step. It is not drawn.
  function lib.put(from, text)
    library.cueball_rl_begin_undo_group()
    library.cueball_rl_delete_text(from, library.cueball_rl_point)
    library.cueball_rl_point = from
    library.cueball_rl_insert_text(text)
    library.cueball_rl_end_undo_group()
  end
  function lib.replace(from, text)
    lib.put(from, text)
    library.cueball_rl_redisplay()
  end
  --- Another line, with the cursor behind so many bytes.
  function lib.set_line(text, at)
    library.cueball_rl_point = library.cueball_rl_end
    lib.put(0, text)
    library.cueball_rl_point = at
  end
  --- In the completion: "\t" for the common one, "?" for a list, "%" for steps through it, "*" for all of it …
  function lib.completion_kind()
    local length = math.min(library.cueball_rl_key_sequence_length, KEY_MAX)
    lib.keys = ffi.string(library.cueball_rl_executing_keyseq, length)
    return string.char(library.cueball_rl_completion_type)
  end
  --- The keys that asked for the completion are typed once more.
  function lib.again()
    library.cueball_rl_last_func = nil -- else it would go on with the list that was empty
    lib.press(lib.keys)
  end
  function lib.add_history(text) library.cueball_rl_add_history(text) end
  return lib
end

--- @return it; or nil, message: there is none for this Lua, or another that only looks like it
function libreadline.open()
  if opened == nil then
    local ok, binding, library = pcall(load)
    if ok then
      set_up(binding, library)
      opened = new(binding, library)
    else
      opened, problem = false, tostring(binding)
    end
  end
  return opened or nil, problem
end

return libreadline
