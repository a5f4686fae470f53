/* Places where a tracer can look in from outside (docs/tracing.md): USDT probes, as
 * <sys/sdt.h> makes them.  A probe is one nop in the code, and a note in a section of
 * the library that is not loaded, which says where the nop is and in which registers or
 * memory the arguments are.  It calls nothing and asks nothing, so the core does no I/O:
 * the kernel replaces the nop while somebody traces.
 *
 * Arguments are what is at hand: on the short ways nothing is computed for them. */
#ifndef CUEBALL_CORE_TRACE_H
#define CUEBALL_CORE_TRACE_H

#if defined CUEBALL_PROBES && CUEBALL_PROBES
#include <sys/sdt.h>
#if defined __clang__
#pragma clang diagnostic ignored "-Wgnu-zero-variadic-macro-arguments" /* in the macros of that header */
#endif
#define CUEBALL__TRACE2(name, a, b) STAP_PROBE2(cueball, name, a, b)
#define CUEBALL__TRACE3(name, a, b, c) STAP_PROBE3(cueball, name, a, b, c)
#define CUEBALL__TRACE4(name, a, b, c, d) STAP_PROBE4(cueball, name, a, b, c, d)
#define CUEBALL__TRACE5(name, a, b, c, d, e) STAP_PROBE5(cueball, name, a, b, c, d, e)
#else
#define CUEBALL__TRACE2(name, a, b) ((void)0)
#define CUEBALL__TRACE3(name, a, b, c) ((void)0)
#define CUEBALL__TRACE4(name, a, b, c, d) ((void)0)
#define CUEBALL__TRACE5(name, a, b, c, d, e) ((void)0)
#endif

#endif
