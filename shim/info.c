/* SPDX-License-Identifier: MIT */
/* info.c: the functions that ask about or tune the allocator. The pool's share is added to the next
 * allocator's answer. */
#include "account.h"
#include "shim.h"

#include <stdio.h>
#include <stdlib.h>

EXPORT size_t malloc_usable_size(void *p) {
    if (!p) return 0;
    if (shim_owns(p)) return extent_active_bytes(pool_live_extent(&shim_pool, p));
    if (bootstrap_owns(p)) return bootstrap_size(p);
    return next.malloc_usable_size(p);
}

EXPORT int malloc_trim(size_t pad) {
    size_t given_back = pool_trim(&shim_pool, pad);
    int others = next.malloc_trim(pad);
    return others || given_back > 0;
}

EXPORT struct mallinfo2 mallinfo2(void) {
    struct mallinfo2 info = next.mallinfo2();
    struct account account = account_of_pool();
    info.hblks += account.n_live;
    info.hblkhd += account.live_bytes;
    info.arena += account.idle_bytes;
    info.ordblks += account.n_idle;
    info.fordblks += account.idle_bytes;
    info.keepcost += account.idle_bytes;
    return info;
}

/* Sums beyond INT_MAX wrap, as in the C library. */
static void add(int *sum, size_t n) {
    *sum = (int)((unsigned)*sum + (unsigned)n);
}

EXPORT struct mallinfo mallinfo(void) {
    struct mallinfo info = next.mallinfo();
    struct account account = account_of_pool();
    add(&info.hblks, account.n_live);
    add(&info.hblkhd, account.live_bytes);
    add(&info.arena, account.idle_bytes);
    add(&info.ordblks, account.n_idle);
    add(&info.fordblks, account.idle_bytes);
    add(&info.keepcost, account.idle_bytes);
    return info;
}

EXPORT void malloc_stats(void) {
    next.malloc_stats();
    struct account account = account_of_pool();
    if (account.live_bytes + account.idle_bytes) account_print(stderr, &account);
}

EXPORT int malloc_info(int options, FILE *stream) {
    struct account account = account_of_pool();
    if (options != 0 || account.live_bytes + account.idle_bytes == 0)
        return next.malloc_info(options, stream);
    char *text = NULL;
    size_t length = 0;
    FILE *memory = open_memstream(&text, &length);
    if (!memory) return next.malloc_info(options, stream);
    int result = next.malloc_info(options, memory);
    if (fclose(memory) == 0 && text) account_print_xml(stream, text, &account);
    free(text);
    return result;
}

bool shim_next_is_tuned;

EXPORT int mallopt(int parameter, int value) {
    bool ours = parameter == M_TRIM_THRESHOLD || parameter == M_TOP_PAD || parameter == M_MMAP_THRESHOLD ||
                parameter == M_MMAP_MAX;
    if (ours) WRITE_RELAXED(shim_next_is_tuned, true);
    return next.mallopt(parameter, value);
}
