/* SPDX-License-Identifier: MIT */
/* report.h: the statistics that ZEROPOOL_STATS asks for, written when the program exits. */
#ifndef ZP_SHIM_REPORT_H
#define ZP_SHIM_REPORT_H

#include <stdint.h>

/* Remember where to write. Nothing is written without ZEROPOOL_STATS=FILE or fd:N. */
void report_configure(char *const *environment) __attribute__((visibility("hidden")));

/* The program's name, and when it started, for whoever else reports. */
extern char report_command[32] __attribute__((visibility("hidden")));
extern uint64_t report_started_ns __attribute__((visibility("hidden")));

#endif
