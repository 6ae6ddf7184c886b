/* SPDX-License-Identifier: MIT */
/* unwind.h: the calls that led here, without frame pointers, by the tables of .eh_frame.
 *
 * Structure: what a table says about one address is kept in `rules`, a direct-mapped cache of words: 34
 * bits of the key and 30 of the rule. The key is made of address and number of the object (modules.h) by a
 * bijection, so what was unloaded is not mistaken for what lies there now, but for one case in 2^47.
 *
 * Reading: memory between the thread's stack pointer and the top of its stack is read directly once the
 * kernel has said that all of it is there. All other memory (signal stacks, coroutines, a chain that went
 * astray) is copied by the kernel, which says so where nothing is. Under a seccomp filter only the former
 * works.
 *
 * No lock, no allocation, errno is kept; handlers may call it. 2.5 KiB of stack. Memory of zeros is a
 * valid empty unwinder. The words of the cache are read and written whole, in any order.
 */
#ifndef ZP_SHIM_UNWIND_H
#define ZP_SHIM_UNWIND_H

#include "modules.h"

#pragma GCC visibility push(hidden)

#define UNWIND_RULES_LOG2 13
#define UNWIND_DEPTH 64

struct unwinder {
    _Atomic uint64_t rules[1 << UNWIND_RULES_LOG2];
    struct modules modules;
};

/* What a thread knows of its stack: this range can be read. Zeros at first. */
struct unwind_thread {
    uintptr_t low, high;
};

/* A frame: the number of the object in the upper 16 bits, below them the address in its file of the last
 * byte of the call, or of the interrupted instruction. Without an object: UNWIND_NO_MODULE and the
 * address. */
#define UNWIND_NO_MODULE 0xffffu
#define UNWIND_ADDRESS_BITS 48

/* At start-up; see modules_prepare. */
bool unwind_prepare(void);

struct unwind_stop {
    uintptr_t start, end;
};

/* The frames of the calling thread, innermost first, at most max; of those at the beginning that belong to
 * the object which holds `own`, none (NULL: all). *is_cut: there are more. With a stop, the chain ends before
 * the first frame in that function. */
unsigned unwind_walk(struct unwinder *unwinder, struct unwind_thread *thread, const void *own,
                     const struct unwind_stop *stop, uint64_t *frames, unsigned max, bool *is_cut);

#pragma GCC visibility pop

#endif
