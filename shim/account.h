/* SPDX-License-Identifier: MIT */
/* account.h: what the pool holds, in the terms of mallinfo, malloc_stats and malloc_info.
 *
 * - Live blocks are counted where the C library counts its own large ones: hblks, hblkhd;
 *   <total type="mmap">.
 * - Idle memory is free memory of the allocator: arena, fordblks, ordblks, and keepcost, since malloc_trim
 *   would give it back; <total type="rest">, <system type="current">.
 *
 * So arena = uordblks + fordblks holds if it holds for the next allocator, and fordblks <= arena.
 */
#ifndef ZP_SHIM_ACCOUNT_H
#define ZP_SHIM_ACCOUNT_H

#include <stddef.h>
#include <stdio.h>

#pragma GCC visibility push(hidden)

struct account {
    size_t n_live, live_bytes, n_idle, idle_bytes;
};

/* All zero before there is a pool. */
struct account account_of_pool(void);

/* In the style of malloc_stats. */
void account_print(FILE *stream, const struct account *account);

/* Prints what the next allocator's malloc_info has written with an element for the pool, and with totals that
 * contain it. */
void account_print_xml(FILE *stream, const char *text, const struct account *account);

#pragma GCC visibility pop

#endif
