/* SPDX-License-Identifier: MIT */
/* report.h: the statistics that ZEROPOOL_STATS asks for, written when the program exits. */
#ifndef ZP_SHIM_REPORT_H
#define ZP_SHIM_REPORT_H

/* Remember where to write. Nothing is written without ZEROPOOL_STATS=FILE. */
void report_configure(char *const *environment) __attribute__((visibility("hidden")));

#endif
