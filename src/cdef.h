/* What LuaJIT's FFI is told, and what cueball_layout_at() tells: every public
 * header, and what specs ask of the core.  Read by the build (src/cdef.cmake), included by nothing else. */
#include "cueball.h"
#include "cueball_dns.h"
#include "cueball_http.h"
#include "cueball_native.h"
#include "cueball_notices.h"
#include "cueball_terminal.h"
#include "cueball_threaded.h"
#include "cueball_tls.h"
#include "cueball_tracker.h"
#include "cueball_visit.h"

#include "core/internal.h"
