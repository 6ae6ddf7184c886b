/* SPDX-License-Identifier: MIT */
/* heap_fresh.h: untouched memory: where it comes from, and how it is made resident at once where that pays.
 *
 * A page of untouched memory costs a fault of 0.7 to 2.7 us when it is first written, which is most of what a
 * growing program spends on memory. Filling it beforehand with MADV_POPULATE_WRITE saves a fifth of that, and
 * by huge pages four fifths. Both are wrong where the program then does not write, so they are for requests
 * whose like has been seen filled (zero.h), and
 *   - huge pages are asked for only while the memory is filled: the advice is taken back before anybody else
 *     sees the memory, so that nothing swells later, when part of it has been given back and the kernel's
 *     khugepaged comes by;
 *   - a heap of at least FRESH_UNIT_MIN_BYTES that fills by huge pages does so up to the next multiple of 2
 *     MiB. What the request does not need is filed as what it is: idle and resident. That is at most 1/32 of
 *     the live bytes: one thread at a time does it for each FRESH_UNIT_MIN_BYTES in use.
 *
 * VMAs. Memory without advice and memory with the advice taken back are two kinds of VMA. So the whole space
 * is given from the start what the taking back leaves behind, which changes nothing where huge pages come by
 * advice only; the number of VMAs stays what it was. Where huge pages come unasked (mode "always") nothing is
 * filled under advice and nothing forbidden; blocks of HUGE_MIN_BYTES and more are advised in every mode
 * (zero_wants_huge). Where they never come, nothing is filled to the next multiple.
 *
 * NUMA. What is filled lies on the node of the thread that asks for it, not of the one that writes first. So
 * with several nodes only blocks of up to FRESH_NODE_MAX_BYTES are filled beforehand.
 *
 * Huge or small. As a rule huge pages take a quarter of the time of small ones. Not in a virtual machine that
 * gives free memory back to its host in whole huge pages (free page reporting): each has to come back from
 * there first, while small pages come from what other programs have just left. And where the hypervisor keeps
 * page tables of its own for the guest (shadow paging, PVM), the first touch of a filled page takes 4 us, of
 * a huge one as much for all of it. Measured on one such machine, for each 4 KiB: small pages 2 us, huge ones
 * 0.7 where they are in place and 4 to 8 where not; and small ones 15 where nothing is left. So fills of both
 * kinds are timed, with a first touch of some of their pages, and the faster kind is used, but one page in
 * FRESH_RETRY_EVERY is filled by the other, unless huge ones take less than FRESH_GOOD_NS. A fill during
 * which the thread waited, for a processor or for the kernel's lock of the address space, says nothing about
 * the kind of page, and is not counted. Only where they come by advice.
 *
 * Locking      heap_fresh_frontier and heap_fresh_take drop the heap lock while they map; heap_fresh_fill
 *              runs without it on memory that is on no list (EXTENT_BUSY, or the request's own).
 */
#ifndef ZP_HEAP_HEAP_FRESH_H
#define ZP_HEAP_HEAP_FRESH_H

#include "heap/heap.h"

#define FRESH_UNIT_MIN_BYTES (64 * MIB)
#define FRESH_NODE_MAX_BYTES (1 * MIB)
#define FRESH_GOOD_NS 1000u
#define FRESH_RETRY_EVERY 32
#define FRESH_TOUCHES 7
#define FRESH_TIMED_BYTES (64 * KIB) /* of less by small pages the system call is too large a part */

/* Claim a step of address space at the frontier, or n_pages if that is more or a step is refused, map it and
 * make a BUSY extent of it. Called and returns with the lock held, unless it returns NULL with *lock_lost
 * set. */
struct extent *heap_fresh_frontier(struct heap *heap, size_t n_pages, bool *lock_lost);

/* Untouched memory for a request: from a clean bin or beyond the frontier. Lock as in heap_fresh_frontier. */
struct extent *heap_fresh_take(struct heap *heap, size_t n_pages, size_t align_pages, bool *lock_lost);

/* With the lock held: might more than the request be made resident? */
bool heap_fresh_fills_units(const struct heap *heap, const struct heap_request *request);

/* What is to be made resident for a request. */
struct fresh_range {
    char *begin, *end;   /* untouched memory within the request's extent; equal if there is none */
    struct extent *rest; /* BUSY, directly behind it, to be filled with it and filed as dirty; or NULL */
    bool huge;           /* by huge pages, asked for by advice */
    size_t n_bytes;      /* how much between begin and end is untouched */
};

/* With the lock held: decide what is filled of the untouched part of the request's extent, and beside it. */
struct fresh_range heap_fresh_plan(struct heap *heap, const struct heap_request *request,
                                   struct extent *extent, struct fresh_range untouched);

/* Without the lock: fill it. True if the request's untouched part is resident now. */
bool heap_fresh_fill(struct heap *heap, const struct fresh_range *range);

/* Without the lock: fill a live block that reads as zero. 0 or negative errno: some of it may be resident. */
int heap_fresh_fill_block(struct heap *heap, const struct extent *extent);

/* What the first touch of a resident page takes, in nanoseconds: the median of FRESH_TOUCHES pages from there
 * on. The program need not do those any more, so they are not lost. */
uint64_t heap_fresh_touch_ns(const char *page);

/* How long a fill and the first touch of its pages took. */
struct fresh_timing {
    uint64_t fill_ns, thread_ns; /* the same by the clock, and of the thread's processor time */
    uint64_t touch_ns;           /* all pages together */
};

/* Without the lock, by any thread: that is what filling n_pages by huge or by small pages took. */
void heap_fresh_learn(struct heap *heap, bool huge, size_t n_pages, struct fresh_timing timing);

/* Is a fill for n_pages to ask for huge pages, where they come by advice? A plain read. */
bool heap_fresh_wants_huge(const struct heap *heap, size_t n_pages);

/* If it is not known yet, since descriptors or memory were short: find out how huge pages are to be had, and
 * whether there are several nodes. Reads files. By the background thread, beside all others; before that
 * nothing is filled by huge pages. */
void heap_fresh_learn_machine(struct heap *heap);

/* At set-up, while the space is empty: the same, unless os_restricted. */
void heap_fresh_prepare(struct heap *heap);

/* In a forked child: whoever was growing the heap is gone. */
void heap_fresh_fork_child(struct heap *heap);

#endif
