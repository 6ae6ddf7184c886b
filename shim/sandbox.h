/* SPDX-License-Identifier: MIT */
/* sandbox.h: may this program install a seccomp filter?
 *
 * Under a filter that kills, clone and a few harmless calls are the program's death, and no system call can ask about a filter
 * without risking the same. What a program might do is seen from what it imports: prctl or libseccomp. In such programs
 * everything but memory calls is done at start-up, the background task is started with the program, and
 * forked children get none.
 */
#ifndef ZP_SHIM_SANDBOX_H
#define ZP_SHIM_SANDBOX_H

enum sandbox_plan { SANDBOX_ANY_TIME, SANDBOX_AT_START };

/* Looks at the imports of the main program. Takes microseconds; the answer is remembered. */
enum sandbox_plan sandbox_plan(void) __attribute__((visibility("hidden")));

#endif
