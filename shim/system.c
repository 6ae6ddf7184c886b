/* SPDX-License-Identifier: MIT */
/* system.c: finds the definitions of the memory calls behind us. See system.h. */
#include "system.h"

#include "raw.h"
#include "symbols.h"

#include <dlfcn.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

long system_mbind(void *start, unsigned long length, int mode, const unsigned long *nodes,
                  unsigned long n_nodes, unsigned flags) {
    return syscall(SYS_mbind, start, length, mode, nodes, n_nodes, flags);
}

static void find(void **entry, const char *name, void *otherwise) {
    void *symbol = dlsym(RTLD_NEXT, name);
    if (!symbol) dlerror(); /* clears our error from the program's view */
    __atomic_store_n(entry, symbol ? symbol : otherwise, __ATOMIC_RELEASE);
}

#define FIND(table, name) find((void **)&(table)->name, #name, (void *)raw_##name)

void system_resolve(struct os_calls *os, struct system_calls *rest) {
    FIND(os, mmap);
    FIND(os, munmap);
    FIND(os, mremap);
    FIND(os, madvise);
    FIND(os, mprotect);
    FIND(os, pkey_mprotect);
    FIND(os, mlock);
    find((void **)&rest->mmap64, "mmap64", (void *)raw_mmap);
    FIND(rest, posix_madvise);
    FIND(rest, mlock2);
    FIND(rest, remap_file_pages);
    FIND(rest, shmat);
    FIND(rest, mlockall);
    FIND(rest, munlockall);
    FIND(rest, setrlimit);
    FIND(rest, setrlimit64);
    FIND(rest, prlimit);
    FIND(rest, prlimit64);
}

bool system_is_hooked(const struct os_calls *os, const void *other) {
    struct symbols libc, allocator;
    if (!symbols_of_c_library(&libc)) return false;
    /* The allocator behind us may define them too, as tcmalloc does for its profiler. It copes with threads
     * that the C library does not know. */
    bool other_allocator = symbols_of_object_at(other, &allocator);
    const struct {
        const void *found, *own;
    } calls[] = {
        {(void *)os->mmap, (void *)raw_mmap},
        {(void *)os->munmap, (void *)raw_munmap},
        {(void *)os->mremap, (void *)raw_mremap},
        {(void *)os->madvise, (void *)raw_madvise},
    };
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        bool known = calls[i].found == calls[i].own || symbols_segment_flags(&libc, calls[i].found) ||
                     (other_allocator && symbols_segment_flags(&allocator, calls[i].found));
        if (!known) return true;
    }
    return false;
}
