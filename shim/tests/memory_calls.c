/* SPDX-License-Identifier: MIT */
/* memory_calls.c: the interposed memory calls return what the C library's own do, and leave errno as they
 * do. */
#include "check.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/shm.h>

static unsigned n_bad;

#define SAME(expression, result, error)                                                                      \
    do {                                                                                                     \
        errno = 4321;                                                                                        \
        bool same_ = (expression) == (result) && errno == (error);                                           \
        if (!same_) fprintf(stderr, "%s: errno %d\n", #expression, errno), n_bad++;                          \
    } while (0)

/* What the calls return is what they return without the library, inside the pool and outside. */
int main(void) {
    require_shim();
    for (int inside = 0; inside < 2; inside++) {
        char *p = inside ? get(5 * MIB)
                         : mmap(NULL, 5 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(p && p != MAP_FAILED && in_pool(p) == inside);
        p = (char *)(((uintptr_t)p + 4095) & ~(uintptr_t)4095);
        SAME(mprotect(p + 1, 4096, PROT_READ), -1, EINVAL);
        SAME(mprotect(p, 4096, PROT_READ), 0, 4321);
        SAME(pkey_mprotect(p, 4096, PROT_READ | PROT_WRITE, -1), 0, 4321);
        SAME(pkey_mprotect(p, 4096, PROT_READ | PROT_WRITE, 15), -1, EINVAL);
        SAME(madvise(p, 4096, 4000), -1, EINVAL);
        SAME(madvise(p, 4096, MADV_DONTFORK), 0, 4321);
        SAME(posix_madvise(p + 1, 4096, POSIX_MADV_RANDOM), EINVAL, 4321);
        SAME(posix_madvise(p, 4096, POSIX_MADV_SEQUENTIAL), 0, 4321);
        p[8192] = 7;
        SAME(posix_madvise(p + 8192, 4096, POSIX_MADV_DONTNEED), 0, 4321);
        CHECK(p[8192] == 7);
        SAME(mlock(p, 4096), 0, 4321);
        SAME(mlock(p, SIZE_MAX - 8192), -1, EINVAL);
        SAME(mlock2(p, 4096, 99), -1, EINVAL);
        SAME(mmap(p, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), MAP_FAILED, EINVAL);
        SAME(mmap(p, 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED, -1, 0), MAP_FAILED, EBADF);
        SAME(mmap64(p, 4096, PROT_READ, MAP_PRIVATE | MAP_FIXED, -1, 0), MAP_FAILED, EBADF);
        SAME(mmap(p, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), (void *)p, 4321);
        SAME(munmap(p + 1, 4096), -1, EINVAL);
        SAME(munmap(p, 4096), 0, 4321);
        SAME(mremap(p, 4096, 8192, 0), MAP_FAILED, EFAULT);
        SAME(mremap(p + 8192, 4096, 4096, 0), (void *)(p + 8192), 4321);
        SAME(remap_file_pages(p + 8192, 4096, 0, 0, 0), -1, EINVAL);
        SAME(shmat(-1, p, SHM_REMAP), (void *)-1, EINVAL);
        /* Arguments that have no sense reach the kernel, too. */
        SAME(munmap(p, SIZE_MAX), -1, EINVAL);
        SAME(mprotect(p, SIZE_MAX & ~(size_t)4095, PROT_READ), -1, ENOMEM);
        SAME(madvise(NULL, 4096, MADV_DONTDUMP), -1, ENOMEM);
        if (inside) free(p);
    }
    return n_bad > 0;
}
