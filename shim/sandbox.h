/* SPDX-License-Identifier: MIT */
/* sandbox.h: is the program under a seccomp filter?
 *
 * A filter may answer any system call with the program's death, and which calls it lets pass cannot be asked.
 * So under one the pool makes no other calls than the C library's malloc makes (os_restricted), and has no
 * background thread.
 *
 * - Inherited: systemd, containers and sandboxes install one before exec. /proc/self/status tells, read by
 *   open, read and close, which the loader has made, too: when the pool is set up, or before the program
 *   installs a filter of its own. Programs that need no pool are not kept waiting for it. Where it cannot be
 *   read, a filter is assumed.
 * - Installed by prctl, or by syscall(SYS_seccomp or SYS_prctl), also through libseccomp, which calls them as
 *   every program does: both functions are interposed. Before the call everything is as it must be under a
 *   filter; if it fails, and none was in force, that is undone, since programs probe with arguments that
 *   cannot succeed.
 * - Not seen: filters that a program installs by an instruction of its own.
 * - Threads: a filter of one thread is taken for one of the process.
 */
#ifndef ZP_SHIM_SANDBOX_H
#define ZP_SHIM_SANDBOX_H

#include "shim.h"

/* Before the pool is set up, and before anything is asked of the machine. */
void sandbox_learn(void) HIDDEN;

/* Does this system call, or prctl, install a filter? */
bool sandbox_is_filter_call(long number, long a) HIDDEN;

/* Around such a call. */
void sandbox_before_filter(void) HIDDEN;
void sandbox_after_filter(bool installed) HIDDEN;

#endif
