/* SPDX-License-Identifier: MIT */
/* budget.h: how much idle memory a heap may hold.
 *
 * The budget is derived from what the program shows that it needs: live + idle <= (1 + slack) times the peak of live bytes in
 * the last one to two seconds, plus a small floor. The sum can only grow when untouched memory is taken, so that is the one
 * place where the budget is enforced, and the price of enforcing it (one madvise) is always paid beside the larger price
 * of the faults ahead.
 * The slack is what a best-fit heap that joins dirty with clean neighbours needs to serve random sizes without refaulting,
 * measured: blocks of 1-25 MiB need 1/6 to 1/4 of the peak, blocks of 64-512 KiB 1/12. So requests from
 * BUDGET_LARGE_BYTES on have a slack of 21/128: for blocks of 1-8 MiB 5/32 takes a third more time, an eighth twice as much, a quarter costs 3 % more
 * resident memory and saves little. From BUDGET_HUGE_BYTES on 7/32, for blocks of 5-25 MiB (glibc 437 MiB):
 *   slack   21/128      6/32        7/32        1/4
 *   time    98 ms       88          74          72
 *   peak    424 MiB     432         444         443
 * Smaller ones, when the sum is over 3/32, give back twice what they take, which holds the sum without throwing
 * away what large requests have set aside.
 */
#ifndef ZP_POOL_BUDGET_H
#define ZP_POOL_BUDGET_H

#include "pool/heap.h"

#define BUDGET_WINDOW_MS 1000
#define BUDGET_LARGE_BYTES MIB
#define BUDGET_HUGE_BYTES (8 * MIB)
#define BUDGET_FLOOR_BYTES MIB

/* With the lock held: note that active_bytes has risen. */
void budget_note_peak(struct heap *heap);

/* With the lock held: the idle bytes that must go before n_bytes of untouched memory are taken, for which resident_bytes become
 * resident (heap_fresh.h). */
size_t budget_excess(struct heap *heap, size_t n_bytes, size_t resident_bytes);

#endif
