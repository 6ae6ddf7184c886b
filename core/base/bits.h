/* SPDX-License-Identifier: MIT */
/* bits.h: alignment and bit arithmetic, the words everything else is written in. */
#ifndef ZP_BASE_BITS_H
#define ZP_BASE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_SHIFT 12
#define PAGE_BYTES ((size_t)1 << PAGE_SHIFT)
#define HUGE_BYTES ((size_t)2 << 20)
#define CACHE_LINE 64
#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define noinline_cold __attribute__((noinline, cold))

/* Keeps the compiler, not the processor, from moving memory accesses across. */
#define compiler_barrier() __asm__ __volatile__("" ::: "memory")

/* Plain machine loads and stores for fields that one thread writes and others may read at any time:
 * statistics, hints, states that are checked again under a lock. They impose no order. */
#define READ_RELAXED(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define WRITE_RELAXED(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELAXED)
#define ADD_RELAXED(field, value) WRITE_RELAXED(field, READ_RELAXED(field) + (value))
#define SUB_RELAXED(field, value) WRITE_RELAXED(field, READ_RELAXED(field) - (value))

/* For a word that only the calling thread may write at this time (its own, or one of a section that it has
 * entered): one instruction of the processor, which compilers do not make of two atomic accesses. Readers
 * elsewhere see the word before or after. READ_OPERAND is a load of a word, at least an int, that others
 * write, which may become an operand of the instruction that uses it: an atomic load never does. The compiler
 * may repeat it or keep an earlier value, so not in a loop that waits, nor where two reads must agree. */
#ifdef __SANITIZE_THREAD__
#define ADD_OWN(field, value) ADD_RELAXED(field, value)
#define SUB_OWN(field, value) SUB_RELAXED(field, value)
#define READ_OPERAND(field) READ_RELAXED(field)
#else
#define ADD_OWN(field, value) ((void)((field) += (value)))
#define SUB_OWN(field, value) ((void)((field) -= (value)))
#define READ_OPERAND(field) (*(const __typeof__((field) + 0) *)&(field))
#endif

/* Floor of the binary logarithm; x must not be 0. */
static inline unsigned log2_floor(uint64_t x) {
    return 63u - (unsigned)__builtin_clzll(x);
}

static inline bool is_pow2(size_t x) {
    return x != 0 && (x & (x - 1)) == 0;
}

static inline size_t align_up(size_t x, size_t alignment) {
    return (x + alignment - 1) & ~(alignment - 1);
}
static inline size_t align_down(size_t x, size_t alignment) {
    return x & ~(alignment - 1);
}

/* Bytes to whole pages, rounding up, without overflow at any size. */
static inline size_t pages_of(size_t bytes) {
    return bytes ? ((bytes - 1) >> PAGE_SHIFT) + 1 : 0;
}

static inline size_t min_size(size_t a, size_t b) {
    return a < b ? a : b;
}
static inline size_t max_size(size_t a, size_t b) {
    return a > b ? a : b;
}

static inline unsigned round_up_pow2(unsigned x) {
    return x <= 1 ? 1 : 1u << (32 - __builtin_clz(x - 1));
}

static inline void cpu_pause(void) {
    __builtin_ia32_pause();
}

#endif
