/* SPDX-License-Identifier: MIT */
/* probe.h: static probes (USDT) for perf, bpftrace and SystemTap; docs/probes.md lists them.
 *
 * A probe is one nop and a note in the file; it costs nothing until a tracer puts a breakpoint there. Probes
 * stand on slow paths only: a traced one costs a microsecond. Without <sys/sdt.h> (Debian: systemtap-sdt-dev)
 * there are none.
 */
#ifndef ZP_SYNC_PROBE_H
#define ZP_SYNC_PROBE_H

#if __has_include(<sys/sdt.h>)
#include <sys/sdt.h>
#define PROBE1(name, a) DTRACE_PROBE1(zeropool, name, a)
#define PROBE2(name, a, b) DTRACE_PROBE2(zeropool, name, a, b)
#define PROBE3(name, a, b, c) DTRACE_PROBE3(zeropool, name, a, b, c)
#else
#define PROBE1(name, a) ((void)0)
#define PROBE2(name, a, b) ((void)0)
#define PROBE3(name, a, b, c) ((void)0)
#endif

#endif
