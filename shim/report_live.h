/* SPDX-License-Identifier: MIT */
/* report_live.h: a shared page from which `zeropool stat PID` and `zeropool top` read a running process
 * (ZEROPOOL_LIVE=on).
 *
 * The page is a file zeropool-live.PID.NANOSECONDS in $XDG_RUNTIME_DIR, else /dev/shm, readable by its owner
 * only. The background thread writes the line of report_json.h into it a few times a second; the program's
 * own threads do nothing for it. Readers take no lock: they read again if `sequence` was odd or has changed.
 * The file goes when the program exits. One that is killed, or calls exec, leaves it. While it lives its page
 * is mapped for writing, so the kernel refuses a read lease on the file; where it grants one the page is
 * stale, and readers remove it. (Process ids tell nothing of processes in other namespaces.)
 */
#ifndef ZP_SHIM_REPORT_LIVE_H
#define ZP_SHIM_REPORT_LIVE_H

#include "shim.h"

#define LIVE_MAGIC "ZPLIVE1"
#define LIVE_EVERY_MS 250

/* scripts/zeropool_tools/live.py knows this layout. */
struct live_page {
    char magic[8];
    uint32_t pid;
    uint32_t uid;
    uint64_t start_ticks; /* field 22 of /proc/PID/stat: tells a process from a later one of the same id */
    uint64_t sequence;    /* odd while text is being written */
    uint64_t updated_ns;  /* CLOCK_MONOTONIC */
    uint64_t length;
    char text[];
};

/* In the constructor: make the page and start the thread that fills it. */
void report_live_start(char *const *environment) HIDDEN;

#endif
