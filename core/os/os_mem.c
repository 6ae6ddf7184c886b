/* SPDX-License-Identifier: MIT */
/* os_mem.c: mapping, purging, moving and locking memory. See os.h for the contract. */
#include "os/os.h"
#include "os/os_call.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

bool os_keeps_locked;

#define ANON (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)

/* Runs a call that reports failure through errno, and hands errno on as a value instead. */
#define PRESERVING_ERRNO(failed, expression)                                                                 \
    ({                                                                                                       \
        int saved_ = errno;                                                                                  \
        int result_ = (failed) == (expression) ? -errno : 0;                                                 \
        errno = saved_;                                                                                      \
        result_;                                                                                             \
    })

static int advise(void *address, size_t length, int advice) {
    int fault = os_fault(OS_MADVISE);
    if (fault) return -fault;
    return PRESERVING_ERRNO(-1, os_calls.madvise(address, length, advice));
}

static int map(void *address, size_t length, int protection, int flags, void **out) {
    int fault = os_fault(OS_MMAP);
    if (fault) return -fault;
    int saved = errno;
    void *p = os_calls.mmap(address, length, protection, flags, -1, 0);
    int error = errno;
    errno = saved;
    if (p == MAP_FAILED) return -error;
    *out = p;
    return 0;
}

int os_map(size_t length, void **out) {
    return map(NULL, length, PROT_READ | PROT_WRITE, ANON, out);
}

int os_reserve(size_t length, void **out) {
    return map(NULL, length, PROT_NONE, ANON, out);
}

int os_map_at(void *address, size_t length) {
    void *p = NULL;
    int error = map(address, length, PROT_READ | PROT_WRITE, ANON | MAP_FIXED_NOREPLACE, &p);
    if (error) return error;
    if (p == address) return 0;
    /* Kernels before 4.17 take the flag as a hint. */
    os_unmap(p, length);
    return -EEXIST;
}

/* Set once a heap has been kept from huge pages: what is mapped anew within it must be like the rest, or it
 * is a VMA of its own. */
static bool huge_forbidden;

int os_remap_fresh(void *address, size_t length) {
    void *p;
    int error = map(address, length, PROT_READ | PROT_WRITE, ANON | MAP_FIXED, &p);
    if (!error && READ_RELAXED(huge_forbidden)) os_forbid_huge(address, length);
    return error;
}

int os_unmap(void *address, size_t length) {
    int fault = os_fault(OS_MUNMAP);
    if (fault) return -fault;
    return PRESERVING_ERRNO(-1, os_calls.munmap(address, length));
}

static bool purge_keeps;

void os_learn_purge(void) {
    static bool learned;
    void *page = NULL;
    if (READ_RELAXED(learned) || os_map(PAGE_BYTES, &page)) return;
    WRITE_RELAXED(learned, true);
    *(volatile char *)page = 1;
    if (advise(page, PAGE_BYTES, MADV_DONTNEED) == 0 && *(volatile char *)page)
        WRITE_RELAXED(purge_keeps, true);
    os_unmap(page, PAGE_BYTES);
}

int os_purge(void *address, size_t length) {
    int error = READ_RELAXED(purge_keeps) ? -ENOSYS : advise(address, length, MADV_DONTNEED);
    /* Locked: mapping it anew would fill it at once where all mappings are to be locked. */
    if (error == -EINVAL && READ_RELAXED(os_keeps_locked))
        error = advise(address, length, MADV_DONTNEED_LOCKED);
    return error ? os_remap_fresh(address, length) : 0;
}

#define OWN_PROCESS (-10000) /* PIDFD_SELF_THREAD of linux/pidfd.h, in place of a descriptor */

bool os_purges_together;

bool os_purge_several(const struct iovec *ranges, unsigned n) {
    static bool unknown; /* to this kernel; all writers write the same */
    if (!os_purges_together || os_restricted || READ_RELAXED(unknown) || READ_RELAXED(purge_keeps) ||
        os_fault(OS_MADVISE))
        return false;
    size_t n_bytes = 0;
    for (unsigned i = 0; i < n; i++)
        n_bytes += ranges[i].iov_len;
    long done = OS_CALL5(SYS_process_madvise, OWN_PROCESS, ranges, n, MADV_DONTNEED, 0);
    if (done < 0) WRITE_RELAXED(unknown, true);
    return done == (long)n_bytes;
}

int os_mark_reclaimable(void *address, size_t length) {
    return READ_RELAXED(purge_keeps) ? -ENOSYS : advise(address, length, MADV_FREE);
}

int os_give_unwritten(void *address, size_t length) {
    return advise(address, length, MADV_PAGEOUT);
}

int os_advise_huge(void *address, size_t length) {
    return advise(address, length, MADV_HUGEPAGE);
}

int os_forbid_huge(void *address, size_t length) {
    WRITE_RELAXED(huge_forbidden, true);
    return advise(address, length, MADV_NOHUGEPAGE);
}

int os_fill(void *address, size_t length, bool by_advice) {
    static bool unknown; /* to this kernel (before 5.14); all writers write the same */
    if (READ_RELAXED(unknown)) return -EINVAL;
    char *unit = (char *)align_up((uintptr_t)address, HUGE_BYTES);
    char *end = (char *)align_down((uintptr_t)address + length, HUGE_BYTES);
    bool advised = by_advice && unit < end && os_advise_huge(unit, (size_t)(end - unit)) == 0;
    int error = os_populate(address, length);
    if (error == -EINVAL) WRITE_RELAXED(unknown, true);
    if (advised) os_forbid_huge(unit, (size_t)(end - unit));
    return error;
}

int os_populate(void *address, size_t length) {
    return advise(address, length, MADV_POPULATE_WRITE);
}

/* One call moves one VMA: kernels before 6.17 refuse a range of several, after they have unmapped the place
 * where it was to go. */
static int move_one(void *from, void *to, size_t length) {
    int fault = os_fault(OS_MREMAP);
    if (fault) {
        os_unmap(to, length); /* what a real failure may have done */
        return -fault;
    }
    return PRESERVING_ERRNO(
        MAP_FAILED,
        os_calls.mremap(from, length, length, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to));
}

/* A block that was moved and has grown since is two or three VMAs, one that the program has given advice
 * about a few more; numpy does so from the second page on. */
#define MOVE_PIECES 8

/* How much of a range, from its beginning, is one VMA. */
static size_t one_vma_prefix(char *from, size_t length) {
    if (length <= PAGE_BYTES || os_is_one_vma(from, length)) return length;
    size_t is = PAGE_BYTES, is_not = length;
    while (is_not - is > PAGE_BYTES) {
        size_t middle = align_down(is + (is_not - is) / 2, PAGE_BYTES);
        if (os_is_one_vma(from, middle))
            is = middle;
        else
            is_not = middle;
    }
    return is;
}

ssize_t os_move_pages(void *from, void *to, size_t length) {
    if (os_restricted) return 0;
    size_t moved = 0;
    for (int piece = 0; piece < MOVE_PIECES && moved < length; piece++) {
        char *source = (char *)from + moved, *target = (char *)to + moved;
        size_t n_bytes = one_vma_prefix(source, length - moved);
        if (move_one(source, target, n_bytes) == 0) {
            moved += n_bytes;
            continue;
        }
        if (os_remap_fresh(target, n_bytes) == 0) break;
        memcpy(from, to, moved); /* no contents may stay in a range that is given up */
        return -ENOMEM;
    }
    return (ssize_t)moved;
}

int os_relocate(void *from, size_t length, void *to, size_t new_length) {
    if (os_restricted) return -EPERM;
    int fault = os_fault(OS_MREMAP);
    if (fault) return -fault;
    return PRESERVING_ERRNO(MAP_FAILED,
                            os_calls.mremap(from, length, new_length, MREMAP_MAYMOVE | MREMAP_FIXED, to));
}

int os_lock(void *address, size_t length) {
    if (os_restricted) return -EPERM;
    int fault = os_fault(OS_MLOCK);
    if (fault) return -fault;
    return PRESERVING_ERRNO(-1, os_calls.mlock(address, length));
}

int os_unlock(void *address, size_t length) {
    if (os_restricted) return -EPERM;
    return PRESERVING_ERRNO(-1, munlock(address, length));
}

/* mprotect leaves a protection key where it is. Where there are none, the call that takes it away fails. */
int os_make_accessible(void *address, size_t length) {
    int fault = os_fault(OS_MPROTECT);
    if (fault) return -fault;
    if (!os_restricted &&
        PRESERVING_ERRNO(-1, os_calls.pkey_mprotect(address, length, PROT_READ | PROT_WRITE, 0)) == 0)
        return 0;
    return PRESERVING_ERRNO(-1, os_calls.mprotect(address, length, PROT_READ | PROT_WRITE));
}

/* For advice that some kernels lack: then nobody can have asked for it. */
static void forget_hints(void *address, size_t length) {
    advise(address, length, MADV_NORMAL);
    advise(address, length, MADV_UNMERGEABLE);
    if (!os_restricted) os_call(SYS_mbind, (long)address, (long)length, 0 /* MPOL_DEFAULT */, 0, 0, 0);
}

int os_scrub(void *address, size_t length) {
    int error = -os_make_accessible(address, length);
    /* MADV_WIPEONFORK is refused on anything but private anonymous memory, which makes it the detector of
     * overlays; its opposite then clears what the program (or this call) has set. */
    if (!error) error = -advise(address, length, MADV_WIPEONFORK);
    if (!error) error = -advise(address, length, MADV_KEEPONFORK);
    if (!error) error = -advise(address, length, MADV_DOFORK);
    if (!error) error = -advise(address, length, MADV_DODUMP);
    /* A filter may forbid munlock; what stays locked then costs no more than before. */
    if (!error && !os_restricted && !READ_RELAXED(os_keeps_locked)) error = os_unlock(address, length);
    if (!error) {
        forget_hints(address, length);
        return 0;
    }
    error = -os_remap_fresh(address, length);
    return error ? -error : 1;
}

bool os_is_one_vma(void *address, size_t length) {
    /* Growing a mapping in place fails with EFAULT if the old range is not within one VMA, which is looked at
     * first, and with something else for a size that no address space has room for: a query without effect,
     * in one call. The size must stay below TASK_SIZE, which kernels from 6.16 on check before anything
     * else. */
    const size_t impossible = ((size_t)1 << 47) - 2 * PAGE_BYTES;
    if (os_restricted) return true;
    if (os_fault(OS_MREMAP)) return false;
    int error = PRESERVING_ERRNO(MAP_FAILED, os_calls.mremap(address, length, impossible, 0));
    return error != -EFAULT;
}

int os_resident_pages(void *address, size_t n_pages) {
    unsigned char resident[64]; /* stacks may be small */
    int n_resident = 0;
    n_pages = min_size(n_pages, OS_RESIDENT_MAX);
    for (size_t done = 0, n; done < n_pages; done += n) {
        n = min_size(n_pages - done, sizeof resident);
        int error = os_restricted ? -EPERM : -os_fault(OS_MINCORE);
        if (!error)
            error = PRESERVING_ERRNO(
                -1, mincore((char *)address + (done << PAGE_SHIFT), n << PAGE_SHIFT, resident));
        if (error) return error;
        for (size_t i = 0; i < n; i++)
            n_resident += resident[i] & 1;
    }
    return n_resident;
}

int os_peek_pages(void *const pages[OS_PEEK_PAGES]) {
    enum { EACH = 128 };
    uint64_t words[OS_PEEK_PAGES * EACH / sizeof(uint64_t)];
    struct iovec into = {words, sizeof words}, from[OS_PEEK_PAGES];
    for (int i = 0; i < OS_PEEK_PAGES; i++)
        from[i] = (struct iovec){pages[i], EACH};
    long n = os_restricted ? -EPERM : -os_fault(OS_MINCORE);
    if (n == 0)
        n = os_call(SYS_process_vm_readv, os_process_id(), (long)&into, 1, (long)from, OS_PEEK_PAGES, 0);
    if (n != (long)sizeof words) return n < 0 ? (int)n : -EFAULT;
    uint64_t all = 0;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        all |= words[i];
    return all != 0;
}

uint32_t *os_fork_word(void) {
    void *page = NULL;
    if (os_map(PAGE_BYTES, &page)) return NULL;
    if (advise(page, PAGE_BYTES, MADV_WIPEONFORK)) {
        os_unmap(page, PAGE_BYTES);
        return NULL;
    }
    *(uint32_t *)page = 1;
    return page;
}
