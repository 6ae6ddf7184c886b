// SPDX-License-Identifier: MIT
// A preload library in which large allocations fail: what the suite exists to find.
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>

#define LARGE_BYTES ((size_t)1 << 20)

void *malloc(size_t size) {
    static void *(*next)(size_t);

    if (size >= LARGE_BYTES) {
        errno = ENOMEM;
        return NULL;
    }
    if (next == NULL) next = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    return next(size);
}
