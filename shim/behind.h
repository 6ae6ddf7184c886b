/* SPDX-License-Identifier: MIT */
/* behind.h: finds the functions that a program would call without us, many at once. */
#ifndef ZP_SHIM_BEHIND_H
#define ZP_SHIM_BEHIND_H

#include <stdbool.h>
#include <stddef.h>

/* found[i] becomes the function of that name in the first object behind us that defines it, up to the C
 * library, or NULL. By the symbol tables of the objects: dlsym takes longer for so many names than the rest
 * of start-up, and may allocate; it is asked only where no C library was found in this way. True if somebody
 * else than the C library defines one. */
bool behind_find(const char *const *names, void **found, size_t n) __attribute__((visibility("hidden")));

/* So many names at most. */
#define BEHIND_MAX 64

#endif
