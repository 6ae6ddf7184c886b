/* SPDX-License-Identifier: MIT */
/* passive.h: programs in which the pool stays out of the way by itself.
 *
 * The rule, over the objects that the loader has mapped at start (the program, its libraries, what is
 * preloaded):
 *   1. one defines __sanitizer_get_allocated_size: the runtime of AddressSanitizer, LeakSanitizer,
 * ThreadSanitizer, MemorySanitizer or HWAddressSanitizer, each of which must know every block;
 *   2. one imports a function of an allocator's own interface that takes a block (sallocx, mi_usable_size,
 * tc_malloc_size, ...), and another one defines such a function: a block of the pool in it would end the
 * program. Then every call goes to the next allocator, as with ZEROPOOL_ENABLED=off. `zeropool doctor` knows
 * the same rule.
 */
#ifndef ZP_SHIM_PASSIVE_H
#define ZP_SHIM_PASSIVE_H

#include <stdbool.h>

/* Must the pool stay passive? Found out once. Takes no lock but the loader's own, and does not allocate. */
bool passive_wanted(void) __attribute__((visibility("hidden")));

#endif
