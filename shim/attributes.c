/* SPDX-License-Identifier: MIT */
/* attributes.c: the calls by which a program changes mappings, interposed so that the pool knows which of its
 * blocks are changed.
 *
 * A block that comes back with other attributes than those of plain memory must be put right (recycle.h). To
 * find that out from the kernel at every free costs a system call that takes the process's memory lock, and
 * threads queue for it. To be told costs a comparison at calls that are rare: nearly every address that they
 * get lies above the pool.
 *
 * Each function compares, notes and goes on to the definition behind us; it neither locks nor allocates nor
 * touches errno, so it may be called from anywhere. The note comes first: a call that fails may have done a
 * part of its work. What puts back how a block was is noted only of mprotect, to read and write: guards of
 * stacks come and go. Not noted are the others (munlock, MADV_DOFORK) and what changes contents only: the
 * program owns those. Not seen are calls past these symbols: raw system calls, the C library by its handle.
 * For them recycle.h has a sample.
 */
#undef _FILE_OFFSET_BITS /* it would merge mmap and mmap64 */
#include "shim.h"
#include "system.h"

#include "learn/recycle.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/shm.h>

/* Values of newer headers than may be at hand. */
#define ADVICE_COLD 20
#define ADVICE_PAGEOUT 21
#define ADVICE_POPULATE_READ 22
#define ADVICE_POPULATE_WRITE 23
#define ADVICE_DONTNEED_LOCKED 24
#define ADVICE_COLLAPSE 25
#define ADVICE_GUARD_INSTALL 102
#define ADVICE_GUARD_REMOVE 103

static noinline_cold void note(const void *start, size_t length, uint16_t flags) {
    if (__atomic_load_n(&shim_pool.ready, __ATOMIC_ACQUIRE))
        recycle_note(&shim_pool.recycle, start, length, flags);
}

/* Does the range reach into the pool? Before the pool is set up its span is empty. */
static inline bool touches_pool(const void *start, size_t length) {
    uintptr_t base = READ_RELAXED(shim_pool.heap.space.base);
    size_t span = atomic_load_explicit(&shim_pool.heap.space.span, memory_order_relaxed);
    if (likely((uintptr_t)start >= base + span)) return false;
    return (uintptr_t)start >= base || length > base - (uintptr_t)start;
}

static inline void changes(const void *start, size_t length, uint16_t flags) {
    if (unlikely(touches_pool(start, length))) note(start, length, flags);
}

/* Flags of recycle_note for what the advice leaves behind, or 0. Unknown advice may do anything; it goes when
 * the pages are replaced. */
static uint16_t trace_of(int advice) {
    switch (advice) {
    case MADV_NORMAL:
    case MADV_WILLNEED:
    case MADV_DONTNEED:
    case MADV_FREE:
    case MADV_REMOVE:
    case MADV_DOFORK:
    case MADV_DODUMP:
    case MADV_KEEPONFORK:
    case MADV_UNMERGEABLE:
    case ADVICE_COLD:
    case ADVICE_PAGEOUT:
    case ADVICE_POPULATE_READ:
    case ADVICE_POPULATE_WRITE:
    case ADVICE_DONTNEED_LOCKED:
    case ADVICE_COLLAPSE:
    case ADVICE_GUARD_REMOVE:
        return 0;
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
        return EXTENT_HUGE;
    case ADVICE_GUARD_INSTALL:
        return EXTENT_REPLACED;
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_DONTFORK:
    case MADV_WIPEONFORK:
    case MADV_DONTDUMP:
    case MADV_MERGEABLE:
        return EXTENT_CHANGED;
    default:
        return EXTENT_CHANGED | EXTENT_HUGE;
    }
}

static inline void advises(const void *start, size_t length, int advice) {
    if (likely(!touches_pool(start, length))) return;
    uint16_t trace = trace_of(advice);
    if (trace) note(start, length, trace);
}

EXPORT int madvise(void *start, size_t length, int advice) {
    advises(start, length, advice);
    return os_calls.madvise(start, length, advice);
}

EXPORT int posix_madvise(void *start, size_t length, int advice) {
    advises(start, length, advice);
    return system_calls.posix_madvise(start, length, advice);
}

EXPORT int mprotect(void *start, size_t length, int protection) {
    if (likely(!touches_pool(start, length))) return os_calls.mprotect(start, length, protection);
    bool undoes = protection == (PROT_READ | PROT_WRITE),
         ready = __atomic_load_n(&shim_pool.ready, __ATOMIC_ACQUIRE);
    if (ready && !undoes) recycle_note_protection(&shim_pool.recycle, start, length, false);
    int result = os_calls.mprotect(start, length, protection);
    if (ready && undoes && result == 0) recycle_note_protection(&shim_pool.recycle, start, length, true);
    return result;
}

EXPORT int pkey_mprotect(void *start, size_t length, int protection, int key) {
    changes(start, length, EXTENT_CHANGED);
    return os_calls.pkey_mprotect(start, length, protection, key);
}

EXPORT int mlock(const void *start, size_t length) {
    changes(start, length, EXTENT_CHANGED);
    return os_calls.mlock(start, length);
}

EXPORT int mlock2(const void *start, size_t length, unsigned flags) {
    changes(start, length, EXTENT_CHANGED);
    return system_calls.mlock2(start, length, flags);
}

/* A mapping was refused. Idle memory of the pool counts against the program's limits and must not be the
 * reason. */
static noinline_cold bool makes_room(size_t length) {
    int error = errno;
    bool made = (error == ENOMEM || error == EAGAIN) && shim_make_room(length);
    errno = error;
    return made;
}

/* Blocks are unlocked when they are used again, unless everything mapped is to be locked. */
EXPORT int mlockall(int flags) {
    if (flags & MCL_FUTURE) shim_note_limit();
    int result = system_calls.mlockall(flags);
    if (result == 0) WRITE_RELAXED(os_keeps_locked, (flags & MCL_FUTURE) != 0);
    return result;
}

EXPORT int munlockall(void) {
    int result = system_calls.munlockall();
    if (result == 0) WRITE_RELAXED(os_keeps_locked, false);
    return result;
}

EXPORT void *mmap(void *start, size_t length, int protection, int flags, int fd, off_t offset) {
    if (unlikely(flags & MAP_FIXED)) changes(start, length, EXTENT_REPLACED);
    void *p = os_calls.mmap(start, length, protection, flags, fd, offset);
    return unlikely(p == MAP_FAILED) && makes_room(length)
               ? os_calls.mmap(start, length, protection, flags, fd, offset)
               : p;
}

EXPORT void *mmap64(void *start, size_t length, int protection, int flags, int fd, off_t offset) {
    if (unlikely(flags & MAP_FIXED)) changes(start, length, EXTENT_REPLACED);
    void *p = system_calls.mmap64(start, length, protection, flags, fd, offset);
    return unlikely(p == MAP_FAILED) && makes_room(length)
               ? system_calls.mmap64(start, length, protection, flags, fd, offset)
               : p;
}

EXPORT int munmap(void *start, size_t length) {
    changes(start, length, EXTENT_REPLACED);
    return os_calls.munmap(start, length);
}

/* The fifth argument is handed on whether it was given or not, as the C library does. It is a range only with
 * one of the flags. */
EXPORT void *mremap(void *from, size_t length, size_t new_length, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    void *to = va_arg(arguments, void *);
    va_end(arguments);
    changes(from, length > new_length ? length : new_length, EXTENT_REPLACED);
    if (flags & MREMAP_FIXED) changes(to, new_length, EXTENT_REPLACED);
    void *p = os_calls.mremap(from, length, new_length, flags, to);
    /* With a fixed place a failed call may already have done a part of its work. */
    bool again = unlikely(p == MAP_FAILED) && !(flags & MREMAP_FIXED) &&
                 makes_room(new_length > length ? new_length - length : 0);
    return again ? os_calls.mremap(from, length, new_length, flags, to) : p;
}

EXPORT int remap_file_pages(void *start, size_t length, int protection, size_t page, int flags) {
    changes(start, length, EXTENT_REPLACED);
    return system_calls.remap_file_pages(start, length, protection, page, flags);
}

/* Only the kernel knows the length of the segment. The first block is marked; the others are looked at. */
EXPORT void *shmat(int id, const void *start, int flags) {
    if (unlikely(flags & SHM_REMAP) && touches_pool(start, 1)) {
        note(start, 1, EXTENT_REPLACED);
        recycle_watch(&shim_pool.recycle);
    }
    return system_calls.shmat(id, start, flags);
}

long mbind(void *start, unsigned long length, int mode, const unsigned long *nodes, unsigned long n_nodes,
           unsigned flags);

EXPORT long mbind(void *start, unsigned long length, int mode, const unsigned long *nodes,
                  unsigned long n_nodes, unsigned flags) {
    changes(start, length, EXTENT_CHANGED);
    return system_mbind(start, length, mode, nodes, n_nodes, flags);
}
