/* SPDX-License-Identifier: MIT */
/* bypass.h: callers that reach the C library's own free past the preloaded one. See bypass.c. */
#ifndef ZP_SHIM_BYPASS_H
#define ZP_SHIM_BYPASS_H

#include "symbols.h"

#include <stdbool.h>

#pragma GCC visibility push(hidden)

/* Is this a block of ours? Defined by each library that closes the way past it. */
bool bypass_owns(const void *p);

/* At start-up, after next_resolve and unsealed: whoever looks up the C library's free from now on gets one
 * that knows the pool's blocks. */
void bypass_close(void);

/* Does the main program define malloc and free itself? Then the pool must stay out of the way. */
bool bypass_program_has_own_malloc(void);

#pragma GCC visibility pop

#endif
