/* SPDX-License-Identifier: MIT */
/* os_self.c: this process's own memory, where it may be missing, or may not be written. See os.h. */
#include "os/os.h"
#include "os/os_call.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/uio.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

bool os_read_memory(const void *from, void *to, size_t length) {
    if (os_restricted) return false;
    struct iovec target = {to, length}, source = {(void *)from, length};
    return os_call(SYS_process_vm_readv, os_process_id(), (long)&target, 1, (long)&source, 1, 0) ==
           (long)length;
}

bool os_is_readable(const void *address, size_t n_pages) {
    enum { EACH = 32 }; /* stacks may be small */
    char *page = (char *)align_down((uintptr_t)address, PAGE_BYTES), bytes[EACH];
    /* Changes nothing of memory without such advice, but fails where something is missing. */
    if (os_restricted) {
        int saved = errno;
        bool is_there = os_calls.madvise(page, n_pages << PAGE_SHIFT, MADV_NORMAL) == 0;
        errno = saved;
        return is_there;
    }
    struct iovec sources[EACH];
    for (size_t n; n_pages > 0; n_pages -= n, page += n << PAGE_SHIFT) {
        n = min_size(n_pages, EACH);
        for (size_t i = 0; i < n; i++)
            sources[i] = (struct iovec){page + (i << PAGE_SHIFT), 1};
        struct iovec target = {bytes, n};
        if (os_call(SYS_process_vm_readv, os_process_id(), (long)&target, 1, (long)sources, (long)n, 0) !=
            (long)n)
            return false;
    }
    return true;
}

int os_map_unshared(size_t length, void **out) {
    int error = os_map(length, out);
    if (error) return error;
    int saved = errno;
    if (os_calls.madvise(*out, length, MADV_WIPEONFORK)) {
        error = -errno;
        errno = saved;
        os_unmap(*out, length);
    }
    return error;
}

bool os_drop_page(void *page) {
    int saved = errno;
    bool dropped = os_calls.madvise(page, PAGE_BYTES, MADV_DONTNEED) == 0;
    errno = saved;
    return dropped;
}

/* A word at a time: a thread that comes by sees the old instructions or the new ones. */
bool os_write_code(void *at, uint64_t word) {
    void *page = (void *)align_down((uintptr_t)at, PAGE_BYTES);
    int saved = errno;
    bool open = os_calls.mprotect(page, PAGE_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC) == 0;
    if (open) {
        __atomic_store_n((uint64_t *)at, word, __ATOMIC_SEQ_CST);
        os_calls.mprotect(page, PAGE_BYTES, PROT_READ | PROT_EXEC);
    }
    errno = saved;
    return open;
}
