/* SPDX-License-Identifier: MIT */
/* deferred.pml: blocks left to the holder of the heap's lock (heap_free_list in heap/heap_free.c; heap_bins_defer,
 * heap_bins_drain_deferred, heap_bins_serve and heap_bins_unlock in heap/heap_bins.c).
 * mutants: NO_LOOK NO_SERVE DRAIN_IN_TWO COUNT_LATE
 *
 * Threads return blocks. Who does not get the lock leaves the block on the list, if that has room, and tries the lock once
 * more; else it waits. Who holds the lock empties the list before its own work, and looks once more after the release. The
 * list is a number of blocks: pushed by one compare-and-swap, emptied by one exchange. Memory is sequentially consistent
 * here; on real machines the look after the release may come too early, and a block then waits for the next holder. Checked:
 * no block is lost or doubled, the count never falls below zero, each thread leaves at most one block more than there is room
 * for, and when all are done nothing is left. */

#ifdef LARGE
#define THREADS 3
#define ROUNDS 3
#else
#define THREADS 3
#define ROUNDS 2
#endif
#define ROOM 2

bool locked;
byte list, counted, filed, done;

inline drain(n) {
    if
    :: list > 0 ->
#ifdef DRAIN_IN_TWO
        n = list;
        list = 0;
#else
        atomic { n = list; list = 0 };
#endif
        filed = filed + n;           /* under the lock */
        atomic { assert(counted >= n); counted = counted - n }
    :: else
    fi
}

inline serve(n, got) {
    do
    :: list == 0 -> break
    :: list > 0 ->
        atomic { if :: !locked -> locked = true; got = true :: else -> got = false fi };
        if
        :: got -> drain(n); locked = false
        :: else -> break
        fi
    od
}

active [THREADS] proctype returns() {
    byte round, n;
    bool got;
    do
    :: round == ROUNDS -> break
    :: round < ROUNDS ->
        atomic { if :: !locked -> locked = true; got = true :: else -> got = false fi };
        if
        :: !got && counted < ROOM -> /* another may see the same room: one block more for each thread */
#ifdef COUNT_LATE
            atomic { list++ };
            atomic { counted++ };
#else
            atomic { counted++ };
            atomic { list++ };
#endif
            assert(list <= ROOM + THREADS - 1);
#ifndef NO_SERVE
            serve(n, got);
#endif
            n = 0
        :: else ->
            if
            :: !got -> atomic { !locked -> locked = true }
            :: else
            fi;
            drain(n);
            filed = filed + 1;
            locked = false;
#ifndef NO_LOOK
            serve(n, got);
#endif
            n = 0
        fi;
        round++
    od;
    atomic { done++ }
}

active proctype ends() {
    done == THREADS;
    assert(!locked && list == 0 && counted == 0 && filed == THREADS * ROUNDS)
}
