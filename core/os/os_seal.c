/* SPDX-License-Identifier: MIT */
/* os_seal.c: makes the pages of function pointers writable for a moment. See os.h.
 *
 * They lie in the part of the object that the loader makes read-only after relocation (RELRO), which has
 * pages of its own that have been written already: this costs no memory. The windows are few, at start-up and
 * at the first large request, and open before there is a second thread or in one thread only, so the count
 * needs no more than to let them nest.
 */
#include "os/os.h"

#include <elf.h>
#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The beginning of the object: the linker's name for its header, in front of the other headers. */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));

static _Atomic unsigned n_open;

/* The whole pages of it, as the loader counts them. */
static bool find_range(uintptr_t *start, size_t *length) {
    const Elf64_Ehdr *header = (const void *)__ehdr_start;
    const Elf64_Phdr *segments = (const void *)(__ehdr_start + header->e_phoff);
    const Elf64_Phdr *sealed = NULL;
    uintptr_t base = 0;
    for (int i = 0; i < header->e_phnum; i++) {
        if (segments[i].p_type == PT_LOAD && segments[i].p_offset == 0)
            base = (uintptr_t)__ehdr_start - segments[i].p_vaddr;
        if (segments[i].p_type == PT_GNU_RELRO) sealed = &segments[i];
    }
    if (!sealed) return false;
    *start = align_down(base + sealed->p_vaddr, PAGE_BYTES);
    *length = align_down(base + sealed->p_vaddr + sealed->p_memsz, PAGE_BYTES) - *start;
    return true;
}

/* By syscall(): the interposed function would count it as the program's. */
static bool protect(int protection) {
    uintptr_t start;
    size_t length;
    if (!find_range(&start, &length)) return true; /* linked without: always writable */
    int saved = errno;
    bool done = syscall(SYS_mprotect, start, length, protection) == 0;
    errno = saved;
    return done;
}

bool os_unseal(void) {
    if (atomic_fetch_add_explicit(&n_open, 1, memory_order_relaxed) == 0 &&
        !protect(PROT_READ | PROT_WRITE)) {
        atomic_fetch_sub_explicit(&n_open, 1, memory_order_relaxed);
        return false;
    }
    return true;
}

void os_seal(void) {
    if (atomic_fetch_sub_explicit(&n_open, 1, memory_order_relaxed) == 1) protect(PROT_READ);
}
