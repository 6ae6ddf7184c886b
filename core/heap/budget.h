/* SPDX-License-Identifier: MIT */
/* budget.h: how much idle memory a heap may hold.
 *
 * The budget is derived from what the program shows that it needs: live + idle <= (1 + slack) times the peak
 * of live bytes in the last one to two seconds, plus a small floor. Live is what the program holds and uses:
 * what lies in thread caches and shards is idle, and what was untouched when it was handed out does not count
 * before it is known to be used (zero.h), nor the last growth of a block before the next one. Those are not
 * counted at every call, but when it matters (account.h). The sum can only grow when untouched memory is
 * taken, so that is the one place where the budget is enforced, and the price of enforcing it (one madvise)
 * is always paid beside the larger price of the faults ahead. The slack is what a best-fit heap that joins
 * dirty with clean neighbours needs to serve random sizes without refaulting. The sum of N blocks that are
 * replaced at random strays from its mean by a multiple of the size of one times the root of N, which is the
 * root of size x sum: so from BUDGET_LARGE_BYTES on the slack is sqrt(request x peak), at least 21/128 and at
 * most 7/32 of the peak. Measured: 16 blocks of 1-8 MiB take 80 ms with 21/128, 60 so, and 50 if it may be a
 * quarter; 50 such blocks the same with 21/128, 6/32 and 7/32, and twice as much with an eighth; 20 blocks of
 * 5-25 MiB 98, 88, 74 and 72 ms with 21/128, 6/32, 7/32 and a quarter, which brings one set in three to 1.05
 * x glibc's peak. Smaller requests, when the sum is over 3/32, give back twice what they take, which holds
 * the sum without throwing away what large requests have set aside.
 */
#ifndef ZP_HEAP_BUDGET_H
#define ZP_HEAP_BUDGET_H

#include "heap/heap.h"

#define BUDGET_WINDOW_MS 1000
/* Smaller blocks are taken to be used as soon as they grow. */
#define BUDGET_UNPROVEN_PAGES (MIB >> PAGE_SHIFT)
#define BUDGET_LARGE_BYTES MIB
#define BUDGET_FLOOR_BYTES MIB
/* The slack is no more than this, or than this share of the peak: a fifth of a gigabyte is too much to hold
 * for faults that may come. */
#define BUDGET_SLACK_BYTES (64 * MIB)
#define BUDGET_SLACK_SHARE 12
/* A program that has dropped more than half of what it held, and loads again, leaves pieces between its new
 * blocks that it will not use: until it holds as much as before, and a second has passed or it holds this
 * share more, the slack is no more than that share of the peak. */
#define BUDGET_RELOAD_MORE 8
#define BUDGET_RELOAD_SHARE 32

/* A program of steady size whose budget makes it give back this share of its peak, and at least so much, soon
 * takes the same again, in page faults: each time the slack rises by the second share, up to the third. A
 * window without a rise takes a quarter of that away. See docs/notes/earned-slack.md. */
#define BUDGET_EARN_EVERY_SHARE 16
#define BUDGET_EARN_EVERY_BYTES (512 * KIB)
#define BUDGET_EARN_SHARE 32
#define BUDGET_EARN_BYTES (128 * KIB)
#define BUDGET_EARNED_SHARE 8
#define BUDGET_EARNED_BYTES MIB

/* Live bytes may be taken to have risen so much, or by the share, since the caches were last looked at. */
#define BUDGET_SLOP_BYTES (256 * KIB)
#define BUDGET_SLOP_SHIFT 6

/* What the program holds, as far as is known: handed out, but for what caches held when account_settle last
 * looked. A plain read. */
size_t budget_live(const struct heap *heap);

/* With the lock held: note that active_bytes has risen, or is known better. */
void budget_note_peak(struct heap *heap);

/* With the lock held: the idle bytes that must go before n_bytes of untouched memory are taken, for which
 * resident_bytes become resident (heap_fresh.h). Not proven: it is not known that they will be used, so they
 * do not raise the peak. */
size_t budget_excess(struct heap *heap, size_t n_bytes, size_t resident_bytes, bool proven);

/* With the lock held: so much is given back because budget_excess said so, for a request of n_bytes. */
void budget_note_forced(struct heap *heap, size_t forced_bytes, size_t n_bytes);

/* With the lock held: would that be so, with a peak that is not known well enough, or beyond what the heap
 * itself could give back? */
bool budget_is_out_of_date(struct heap *heap, size_t n_bytes, bool proven);

/* With the lock held: so much lies in caches now, and n_bytes of untouched memory are wanted. Returns how
 * much of that is over the budget, beyond what the heap itself could give back. */
size_t budget_settle(struct heap *heap, size_t n_bytes, bool proven, size_t cached_bytes);

#endif
