/* SPDX-License-Identifier: MIT */
/* sandbox.h: may this program have a background thread, and from when on?
 *
 * Some programs must stay single-threaded: the kernel refuses unshare(CLONE_NEWUSER) and setns to others. In some a thread must
 * not be created late: a seccomp filter may answer clone, and a few harmless calls, with the program's death, and no system
 * call can ask about a filter without risking the same. What a program might do is seen from what it imports:
 *   unshare, setns, libseccomp   no thread; libseccomp, also where a library brings it in, can lay its filter over all threads
 *   prctl                        it can install a filter: everything but memory calls is done at start-up, the thread is
 *                                started with the program, and forked children get none
 *   prctl and syscall            it can lay that filter over all threads: ours makes nothing but memory calls, unless set*uid is
 *                                imported too, since then it must look whether the user changes
 *   none of them                 the thread is started when the pool has grown
 */
#ifndef ZP_SHIM_SANDBOX_H
#define ZP_SHIM_SANDBOX_H

#include <stdbool.h>

enum sandbox_plan { SANDBOX_ANY_TIME, SANDBOX_AT_START, SANDBOX_NO_THREAD };

/* Looks at the imports of the main program, and for libseccomp among what is loaded with it. Takes microseconds; the answer is remembered. */
enum sandbox_plan sandbox_plan(void) __attribute__((visibility("hidden")));

bool sandbox_may_filter_all_threads(void) __attribute__((visibility("hidden")));

#endif
