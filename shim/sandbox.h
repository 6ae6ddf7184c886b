/* SPDX-License-Identifier: MIT */
/* sandbox.h: may this program have a background thread, and from when on?
 *
 * Some programs must stay single-threaded (unshare and setns of a user namespace fail otherwise), and in some a thread must
 * not be created late: a seccomp filter may answer clone with SIGSYS. No system call can ask about a filter
 * without risking the same. What a program might do is seen from what it imports:
 *   unshare, setns, seccomp_load, seccomp_init    no thread; big blocks are given back when they are freed, as glibc does
 *   prctl (it can install a filter)               the thread is started with the program; forked children get none
 *   neither                                       the thread is started when the pool has grown
 */
#ifndef ZP_SHIM_SANDBOX_H
#define ZP_SHIM_SANDBOX_H

enum sandbox_plan { SANDBOX_ANY_TIME, SANDBOX_AT_START, SANDBOX_NO_THREAD };

/* Looks at the imports of the main program. Takes microseconds; the answer is remembered. */
enum sandbox_plan sandbox_plan(void) __attribute__((visibility("hidden")));

#endif
