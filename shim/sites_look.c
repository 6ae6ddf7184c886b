/* SPDX-License-Identifier: MIT */
/* sites_look.c: see sites_look.h. */
#include "sites_look.h"

#include "base/bits.h"
#include "learn/sample.h"
#include "os/os.h"

enum { NOT_LOOKED_AT, ONE, ONE_OF_MANY };

/* The same page at both ends of a block's life. NULL: the block has no whole page. */
static void *page_of(void *address, const struct sites_block *block, unsigned i) {
    uintptr_t start = align_up((uintptr_t)address, PAGE_BYTES);
    uintptr_t end = align_down((uintptr_t)address + block->bytes, PAGE_BYTES);
    if (end <= start) return NULL;
    return sample_page((void *)start, (end - start) >> PAGE_SHIFT, i, SITES_LOOK_PAGES,
                       (uint32_t)block->born_ns);
}

void sites_look_begin(struct sites *sites, void *address, struct sites_block *block, bool is_ours,
                      uint32_t random) {
    uint32_t before = atomic_fetch_add_explicit(&sites->stacks[block->stack].n_seen, 1, memory_order_relaxed);
    bool is_first = before < SITES_LOOK_FIRST;
    block->look = NOT_LOOKED_AT;
    block->fresh = 0;
    if ((!is_first && random % SITES_LOOK_EVERY) || !page_of(address, block, 0)) return;
    for (unsigned i = 0; i < SITES_LOOK_PAGES; i++) {
        void *page = page_of(address, block, i);
        int n = os_resident_pages(page, 1);
        if (n < 0 || (n > 0 && is_ours && !os_drop_page(page))) return;
        block->fresh |= (uint8_t)(!n << i);
    }
    block->look = is_first ? ONE : ONE_OF_MANY;
}

void sites_look_end(struct sites *sites, void *address, const struct sites_block *block) {
    if (block->look == NOT_LOOKED_AT) return;
    unsigned touched = 0, faulted = 0;
    for (unsigned i = 0; i < SITES_LOOK_PAGES; i++) {
        int n = os_resident_pages(page_of(address, block, i), 1);
        if (n < 0) return;
        touched += (unsigned)n;
        faulted += n && block->fresh >> i & 1;
    }
    struct sites_stack *stack = &sites->stacks[block->stack];
    uint64_t pages = sites_weighted(pages_of(block->bytes), block->weight);
    if (block->look == ONE_OF_MANY) pages *= SITES_LOOK_EVERY;
    sites_sum(&stack->looked_pages, pages);
    sites_sum(&stack->touched_pages, pages * touched / SITES_LOOK_PAGES);
    sites_sum(&stack->faulted_pages, pages * faulted / SITES_LOOK_PAGES);
}
