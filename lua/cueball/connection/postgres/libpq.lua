--- libpq, PostgreSQL's client library, through FFI: loaded when it is first needed, by its soname.
--
--   local pq = libpq.load()      pq.PQstatus(conn) …; or nil, message
--
-- The declarations have names of their own, so that a program may declare libpq's functions as it likes.
local ffi = require "ffi"

local libpq = {}

local SONAMES = { Linux = { "libpq.so.5" }, OSX = { "libpq.5.dylib", "libpq.dylib" }, BSD = { "libpq.so.5" }, Windows = { "libpq.dll" } }

local MISSING = "cueball.connection.postgres needs libpq, PostgreSQL's client library, which could not be loaded (%s). "
  .. "Install it with `apt install libpq5`."
local TOO_OLD = "cueball.connection.postgres needs libpq 14 or later; the one that is installed is %d.%d"

local TYPES = [[
typedef struct cueball_pq_conn cueball_pq_conn;
typedef struct cueball_pq_result cueball_pq_result;
typedef struct cueball_pq_cancel cueball_pq_cancel;
typedef struct cueball_pq_file cueball_pq_file;
typedef struct cueball_pq_notify { char *relname; int be_pid; char *extra; struct cueball_pq_notify *next; } cueball_pq_notify;
typedef void (*cueball_pq_receiver)(void *arg, const cueball_pq_result *result);
]]

-- CONN, RESULT, CANCEL: the types above.
local FUNCTIONS = [[
int PQlibVersion(void);
CONN *PQconnectStartParams(const char *const *keywords, const char *const *values, int expand_dbname);
int PQconnectPoll(CONN *conn);
void PQfinish(CONN *conn);
int PQsocket(const CONN *conn);
int PQstatus(const CONN *conn);
int PQtransactionStatus(const CONN *conn);
const char *PQparameterStatus(const CONN *conn, const char *name);
char *PQerrorMessage(const CONN *conn);
char *PQhost(const CONN *conn);
char *PQhostaddr(const CONN *conn);
char *PQport(const CONN *conn);
int PQbackendPID(const CONN *conn);
int PQsslInUse(CONN *conn);
int PQsetnonblocking(CONN *conn, int arg);
int PQsetErrorVerbosity(CONN *conn, int verbosity);
cueball_pq_receiver PQsetNoticeReceiver(CONN *conn, cueball_pq_receiver receiver, void *arg);
void PQtrace(CONN *conn, cueball_pq_file *stream);
void PQuntrace(CONN *conn);
void PQsetTraceFlags(CONN *conn, int flags);
int PQsendQuery(CONN *conn, const char *query);
int PQsendQueryParams(CONN *conn, const char *command, int count, const unsigned int *types, const char *const *values,
  const int *lengths, const int *formats, int result_format);
int PQsendPrepare(CONN *conn, const char *name, const char *query, int count, const unsigned int *types);
int PQsendQueryPrepared(CONN *conn, const char *name, int count, const char *const *values, const int *lengths, const int *formats,
  int result_format);
int PQsetSingleRowMode(CONN *conn);
int PQflush(CONN *conn);
int PQconsumeInput(CONN *conn);
int PQisBusy(CONN *conn);
RESULT *PQgetResult(CONN *conn);
int PQenterPipelineMode(CONN *conn);
int PQexitPipelineMode(CONN *conn);
int PQpipelineSync(CONN *conn);
int PQputCopyData(CONN *conn, const char *buffer, int length);
int PQputCopyEnd(CONN *conn, const char *message);
int PQgetCopyData(CONN *conn, char **buffer, int async);
cueball_pq_notify *PQnotifies(CONN *conn);
void PQfreemem(void *memory);
int PQresultStatus(const RESULT *result);
char *PQresultErrorMessage(const RESULT *result);
char *PQresultErrorField(const RESULT *result, int code);
int PQntuples(const RESULT *result);
int PQnfields(const RESULT *result);
char *PQfname(const RESULT *result, int column);
unsigned int PQftype(const RESULT *result, int column);
int PQfformat(const RESULT *result, int column);
char *PQgetvalue(const RESULT *result, int row, int column);
int PQgetlength(const RESULT *result, int row, int column);
int PQgetisnull(const RESULT *result, int row, int column);
char *PQcmdStatus(RESULT *result);
char *PQcmdTuples(RESULT *result);
void PQclear(RESULT *result);
CANCEL *PQcancelCreate(CONN *conn);
int PQcancelStart(CANCEL *cancel);
int PQcancelPoll(CANCEL *cancel);
int PQcancelSocket(const CANCEL *cancel);
char *PQcancelErrorMessage(const CANCEL *cancel);
void PQcancelFinish(CANCEL *cancel);
]]

-- Of libc: a file in memory, for PQtrace.
local MEMORY_FILE = [[
cueball_pq_file *cueball_pq_open_memstream(char **text, size_t *size) __asm__("open_memstream");
int cueball_pq_fclose(cueball_pq_file *file) __asm__("fclose");
void cueball_pq_free(void *memory) __asm__("free");
]]

-- What libpq's functions return.
libpq.CONNECTION_OK = 0
libpq.POLLING = { [0] = "failed", [1] = "r", [2] = "w", [3] = "ok" }
libpq.EMPTY_QUERY, libpq.COMMAND_OK, libpq.TUPLES_OK, libpq.COPY_OUT, libpq.COPY_IN, libpq.FATAL_ERROR = 0, 1, 2, 3, 4, 7
libpq.COPY_BOTH, libpq.SINGLE_TUPLE, libpq.PIPELINE_SYNC, libpq.PIPELINE_ABORTED = 8, 9, 10, 11
libpq.TRANSACTION = { [0] = "idle", [1] = "active", [2] = "in_transaction", [3] = "failed_transaction", [4] = "closed" }
libpq.VERBOSITY_DEFAULT, libpq.VERBOSITY_VERBOSE = 1, 2
libpq.TRACE_WITHOUT_TIMES = 1

local function declare()
  if pcall(ffi.typeof, "cueball_pq_conn") then return end
  ffi.cdef(TYPES)
  local text = FUNCTIONS:gsub("CONN", "cueball_pq_conn"):gsub("RESULT", "cueball_pq_result"):gsub("CANCEL", "cueball_pq_cancel")
  ffi.cdef((text:gsub("PQ(%w+)(%b());", 'cueball_pq_%1%2 __asm__("PQ%1");')))
  ffi.cdef(MEMORY_FILE)
end

-- The library's functions under their own names, each looked up once.
local function named(library)
  return setmetatable({}, { __index = function(functions, name)
    local found = library["cueball_pq_" .. name:sub(3)]
    functions[name] = found
    return found
  end })
end

local function open_library()
  local why
  for _, name in ipairs(SONAMES[ffi.os] or SONAMES.Linux) do
    local ok, found = pcall(ffi.load, name)
    if ok then return found end
    why = why or tostring(found)
  end
  return nil, why
end

local loaded

--- @return its functions; or nil, message
function libpq.load()
  if loaded then return loaded end
  declare()
  local library, why = open_library()
  if not library then return nil, MISSING:format(why) end
  local pq = named(library)
  local version = pq.PQlibVersion()
  if version < 140000 then return nil, TOO_OLD:format(math.floor(version / 10000), version % 10000) end
  pq.version = version
  pq.has_cancel = pcall(function() return pq.PQcancelStart end)
  -- It stays loaded as long as the Lua state: connections that are collected last call it.
  debug.getregistry()["cueball.libpq"] = library
  loaded = pq
  return pq
end

return libpq
