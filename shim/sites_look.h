/* SPDX-License-Identifier: MIT */
/* sites_look.h: which pages of a block does its owner touch, and how many page faults is that?
 *
 * Of some blocks a few pages are looked at: SITES_LOOK_PAGES, one at random in each part of the block,
 * when it is handed out and when it comes back. A page that is there already, from an earlier owner, would
 * tell nothing: it is given to the kernel, and is there again at the end if it was touched. So a look
 * costs its program up to that many page faults. All of the first blocks of a stack are looked at, then
 * one in SITES_LOOK_EVERY, which counts so much more. Blocks of the next allocator, and those with
 * contents (realloc), lose no page: there, pages touched before count as touched. Under a seccomp filter
 * nothing is looked at. */
#ifndef ZP_SHIM_SITES_LOOK_H
#define ZP_SHIM_SITES_LOOK_H

#include "sites_table.h"

#pragma GCC visibility push(hidden)

#define SITES_LOOK_PAGES 8
#define SITES_LOOK_FIRST 4
#define SITES_LOOK_EVERY 64

/* A block is handed out: decides, and looks. block is complete but for what this fills in. is_ours: whole
 * pages of the pool, without contents. */
void sites_look_begin(struct sites *sites, void *address, struct sites_block *block, bool is_ours,
                      uint32_t random);
/* It comes back, or the process ends. */
void sites_look_end(struct sites *sites, void *address, const struct sites_block *block);

#pragma GCC visibility pop

#endif
