/* SPDX-License-Identifier: MIT */
/* guarded.h: blocks that each live alone in the address space: the allocator of the hardened mode.
 *
 * Structure   A range of addresses that is planned, not reserved, in the same part of the address space as
 *             open spaces (space.h). It is divided into 25 equal parts, one for each power of two from 8 KiB
 *             to 128 GiB; each part is divided into slots of its size, and a slot holds one block or nothing:
 *
 *               | unmapped ... | block, mapped exactly, ends at E | unmapped ... | last page: never mapped |
 *
 *             The block ends at a page's end as nearly as its alignment allows (16 bytes for malloc), and at
 *             a random page of a random slot. What surrounds it is simply not mapped: a guard costs neither a
 *             VMA nor a page, and touching it is SIGSEGV. A freed block is unmapped, so its contents are
 *             gone, it cannot be touched, and whatever the program did to the attributes of its pages is gone
 *             too. Its slot then rests: it is not used again before a quarter of as many blocks as the part
 *             has slots have been freed in that part.
 * Metadata    one descriptor a slot, out of line, found from the address by arithmetic: no search, and every
 *             pointer into the range can be told to be a block, the inside of one, a freed one or nothing.
 * Bounds      one VMA a live block, at most GUARDED_LIVE_MAX of them; a descriptor table (1 MiB at most) a
 *             size in use. Beyond that, and where the kernel refuses, requests are refused: the caller has
 *             another allocator to ask.
 * Why so      mapping and unmapping every block is slow. It is also the only way in which a stale pointer
 *             never works again while the slot rests, and it leaves the kernel nothing to merge, so that no
 *             free can fail for want of VMAs.
 *
 * Synchronization: no lock, so nothing can be lost in a fork, and a signal handler may come at any moment.
 *   class.slots         set once, by compare-and-swap (release); read with acquire
 *   slot.state          UNUSED or FREED -> BUSY: compare-and-swap by whoever takes the slot (acquire)
 *                       BUSY -> LIVE: the same thread, before it hands the block out
 *                       LIVE -> BUSY: compare-and-swap by whoever frees the block: of two that free it at
 *                       once, one loses and ends the process
 *                       BUSY -> FREED, or back: the same thread, after its work (release)
 *   address, size,      the thread that has made the slot BUSY; `size` also realloc of a LIVE block. Others
 *   freed_at            read them without synchronization: only to age a slot, or to say what is wrong with
 *                       a pointer
 *   n_freed, n_drawn,   atomic counters
 *   n_live, live_bytes
 * A child forked while another thread has a slot BUSY loses that slot.
 */
#ifndef ZP_HARDENED_GUARDED_H
#define ZP_HARDENED_GUARDED_H

#include "base/bits.h"

#include <stdatomic.h>

#define GUARDED_CLASSES 25
#define GUARDED_FIRST_LOG2 13
/* A process may have 65530 VMAs; the other half is the program's. */
#define GUARDED_LIVE_MAX 30000
#define GUARDED_ALIGNMENT_MAX GIB

enum guarded_state {
    GUARDED_UNUSED,
    GUARDED_BUSY,
    GUARDED_LIVE,
    GUARDED_FREED,
    GUARDED_LOST, /* something foreign is mapped there, or the kernel would not unmap it */
};

struct guarded_slot {
    _Atomic uint32_t state;
    char *address;
    size_t size;       /* what was asked for */
    uint64_t freed_at; /* n_freed of the class when the slot was freed */
};

struct guarded_class {
    _Atomic(struct guarded_slot *) slots;
    _Atomic uint64_t n_freed;
};

struct guarded {
    uintptr_t base;
    size_t span; /* 0 until set up */
    size_t max_bytes;
    uint64_t key;
    _Atomic uint64_t n_drawn;
    _Atomic uint32_t n_live;
    _Atomic size_t live_bytes;
    struct guarded_class classes[GUARDED_CLASSES];
};

/* Choose the range. Nothing is mapped yet, so this cannot fail. */
void guarded_init(struct guarded *guarded, size_t max_bytes);

static inline bool guarded_owns(const struct guarded *guarded, const void *p) {
    return (uintptr_t)p - guarded->base < guarded->span;
}

/* A zeroed block of exactly size bytes; alignment is a power of two up to GUARDED_ALIGNMENT_MAX. NULL if
 * refused. */
void *guarded_get(struct guarded *guarded, size_t alignment, size_t size);

/* For an owned pointer that is no live block, these end the process with one line. */
void guarded_put(struct guarded *guarded, void *p);
size_t guarded_size(struct guarded *guarded, const void *p);

/* Make a block smaller where it is: the fallback of a realloc that finds no memory. Its end is then guarded
 * to the page only. */
void guarded_shrink(struct guarded *guarded, void *p, size_t size);

/* Make a block larger by moving its pages, where there is no room for both the old and the new one. Its end
 * is then guarded to the page only. NULL if that cannot be done; nothing has changed then. */
void *guarded_grow(struct guarded *guarded, void *p, size_t size);

#endif
