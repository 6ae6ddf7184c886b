/* SPDX-License-Identifier: MIT */
/* budget.h: how much idle memory a heap may hold.
 *
 * The budget is derived from what the program shows that it needs: live + idle <= 9/8 of the peak of live bytes in the last
 * one to two seconds, plus a small floor. A coalescing heap serves random sizes without faults at 1.11 to 1.22 times
 * the peak, so less would refault and more would buy nothing. The sum can only grow when untouched memory is taken, so
 * that is the one place where the budget is enforced, and the price of enforcing it (one madvise) is always paid
 * beside the larger price of the faults ahead.
 */
#ifndef ZP_POOL_BUDGET_H
#define ZP_POOL_BUDGET_H

#include "pool/heap.h"

#define BUDGET_WINDOW_MS 1000
#define BUDGET_SLACK_SHIFT 3
#define BUDGET_FLOOR_BYTES (512 * KIB)

/* With the lock held: note that active_bytes has risen. */
void budget_note_peak(struct heap *heap);

/* With the lock held: the idle bytes that must go before n_bytes of untouched memory are taken. */
size_t budget_excess(struct heap *heap, size_t n_bytes);

#endif
