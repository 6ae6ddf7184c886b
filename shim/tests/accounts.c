/* SPDX-License-Identifier: MIT */
/* accounts.c: mallinfo, mallinfo2, malloc_stats and malloc_info add up and contain the pool. usage: accounts
 * [FILE]
 *
 * Runs with each allocator behind. With FILE, prints malloc_info there and malloc_stats on standard error,
 * for accounts.py. */
#include "check.h"

#include <malloc.h>
#include <pthread.h>
#include <stdio.h>

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

#define N 60

static void *blocks[N];
static struct mallinfo2 before; /* the next allocator alone */

static bool glibc_is_next(void) {
    return !strstr(getenv("LD_PRELOAD"), "malloc.so") && !strstr(getenv("LD_PRELOAD"), "tcmalloc");
}

static void check_sums(size_t n_live, size_t live_bytes) {
    struct mallinfo2 now = mallinfo2();
    struct mallinfo old = mallinfo();
    CHECK(now.hblkhd - before.hblkhd >= live_bytes &&
          now.hblkhd - before.hblkhd <= live_bytes + live_bytes / 4 + n_live * 4096);
    CHECK(now.hblks - before.hblks >= n_live && now.hblks - before.hblks <= n_live + 2);
    if (glibc_is_next()) {
        CHECK(now.fordblks <= now.arena && now.keepcost <= now.fordblks);
        CHECK(now.arena == now.uordblks + now.fordblks);
        CHECK((unsigned)old.arena == (unsigned)old.uordblks + (unsigned)old.fordblks);
    }
    CHECK(now.fordblks <= now.arena + now.hblkhd);
    /* tcmalloc has only one of the two. Idle memory may have gone back meanwhile. */
    if (!strstr(getenv("LD_PRELOAD"), "tcmalloc"))
        CHECK((unsigned)old.hblkhd == (unsigned)now.hblkhd && (unsigned)old.hblks == (unsigned)now.hblks);
}

static void *hold(void *argument) {
    for (int i = 0; i < 20; i++) {
        void *p = get(100 * KIB);
        memset(p, 1, 100 * KIB);
        free(p);
    }
    return argument;
}

int main(int argc, char **argv) {
    require_shim();
    before = mallinfo2();
    size_t total = 0;
    for (int i = 0; i < N; i++) {
        size_t n = (size_t)(i % 4 + 1) * 300 * KIB;
        memset(blocks[i] = get(n), 1, n);
        total += n;
    }
    check_sums(N, total);
    for (int i = 1; i < N; i++) {
        total -= (size_t)(i % 4 + 1) * 300 * KIB;
        free(blocks[i]);
        if (i % 10 == 0) check_sums((size_t)(N - i), total);
    }
    check_sums(1, 300 * KIB);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, hold, NULL) == 0 && pthread_join(thread, NULL) == 0);
    if (glibc_is_next()) check_sums(1, 300 * KIB);
    if (argc > 1) {
        FILE *file = fopen(argv[1], "w");
        CHECK(file && malloc_info(0, file) == 0 && fclose(file) == 0);
        CHECK(malloc_info(1, stderr) != 0);
        malloc_stats();
    }
    malloc_trim(0);
    check_sums(1, 300 * KIB);
    return 0;
}
