/* SPDX-License-Identifier: MIT */
/* info.c: the functions that ask about or tune the allocator. The pool adds its share to what the next one says. */
#include "shim.h"

#include "zeropool.h"

#include <stdio.h>

EXPORT size_t malloc_usable_size(void *p)
{
    if (!p) return 0;
    if (shim_owns(p)) return extent_active_bytes(pool_live_extent(&shim_pool, p));
    if (bootstrap_owns(p)) return bootstrap_size(p);
    return next.malloc_usable_size(p);
}

EXPORT int malloc_trim(size_t pad)
{
    size_t given_back = pool_trim(&shim_pool, pad);
    int others = next.malloc_trim(pad);
    return others || given_back > 0;
}

/* Large blocks are counted where glibc counts its own: among the mapped ones. */
EXPORT struct mallinfo2 mallinfo2(void)
{
    struct mallinfo2 info = next.mallinfo2();
    if (shim_pool.ready) {
        zp_stats stats;
        pool_stats(&shim_pool, &stats);
        info.hblkhd += stats.bytes_live;
        info.fordblks += stats.bytes_cached + stats.bytes_dirty;
    }
    return info;
}

EXPORT struct mallinfo mallinfo(void)
{
    struct mallinfo info = next.mallinfo();
    if (shim_pool.ready) {
        zp_stats stats;
        pool_stats(&shim_pool, &stats);
        info.hblkhd += (int)stats.bytes_live;
        info.fordblks += (int)(stats.bytes_cached + stats.bytes_dirty);
    }
    return info;
}

EXPORT void malloc_stats(void) { next.malloc_stats(); }

EXPORT int malloc_info(int options, FILE *stream) { return next.malloc_info(options, stream); }

bool shim_next_is_tuned;

EXPORT int mallopt(int parameter, int value)
{
    bool ours = parameter == M_TRIM_THRESHOLD || parameter == M_TOP_PAD || parameter == M_MMAP_THRESHOLD || parameter == M_MMAP_MAX;
    if (ours) WRITE_RELAXED(shim_next_is_tuned, true);
    return next.mallopt(parameter, value);
}
