/* SPDX-License-Identifier: MIT */
/* process.h: the calls by which a program makes processes and threads, changes namespaces, signals its
 * threads and installs filters. See process.c. */
#ifndef ZP_SHIM_PROCESS_H
#define ZP_SHIM_PROCESS_H

/* In the constructor, after next_resolve: find those behind us. */
void process_resolve(void) __attribute__((visibility("hidden")));

#endif
