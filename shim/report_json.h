/* SPDX-License-Identifier: MIT */
/* report_json.h: what the pool has done, as one line of JSON; the format of the report at exit and of the
 * live page.
 *
 * Written without stdio, memory or system calls, since the background thread writes it too, which has no
 * place in the C library.
 */
#ifndef ZP_SHIM_REPORT_JSON_H
#define ZP_SHIM_REPORT_JSON_H

#include "shim.h"

/* Enough for every size and REPORT_THREADS_MAX threads; longer text is cut back to whole parts. */
#define REPORT_BYTES (32 * KIB - 128)
#define REPORT_THREADS_MAX 64

/* What only the caller can know. */
struct report_process {
    int pid, parent_pid;
    const char *command;
    uint64_t wall_ns;
    bool at_exit; /* the next four are known */
    uint64_t user_us, system_us, n_minor_faults, max_rss_bytes;
};

/* Returns the length, newline included; text is NUL-terminated. */
size_t report_json(char *text, size_t size, const struct report_process *process) HIDDEN;

#endif
