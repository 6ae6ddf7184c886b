/* SPDX-License-Identifier: MIT */
/* shard_batch.pml: batches between thread caches and two shards, with stealing, limits, and locks that cannot always be had
 * (cache/shard.c, keep_rest in pool/pool.c). mutants: BIT_OUTSIDE STEAL_WITHOUT_LOCK KEEP_FORGETS
 *
 * Per shard a number of blocks of one class, and for the class a word with one bit per shard, changed under the shard's lock
 * and read without. Three threads, two on the first shard's processor. Checked: no block is lost or doubled, and when nobody is
 * inside, a shard's bit says whether it holds blocks: a lost bit would strand them. */

#ifdef LARGE
#define BLOCKS 5
#else
#define BLOCKS 3
#endif
#define LIMIT 2   /* blocks a shard may hold */
#define BATCH 2
#define ROUNDS 2

byte in_shard[2], bits[2];
bool locked[2];
byte heap, in_caches = BLOCKS, done;

/* True with the lock, or false after a bounded time; nothing is assumed about how long that is. */
inline acquire(s, got) {
    if
    :: atomic { !locked[s] -> locked[s] = true }; got = true
    :: locked[s] -> got = false
    fi
}

/* A thread cache is full: a batch goes to the shard; what is over its limit goes on to the heap, after the lock. */
inline put(s, n) {
    acquire(s, got);
    if
    :: got ->
        evicted = 0;
        if :: in_shard[s] == 0 -> bits[s] = 1 :: else fi;
        seen = in_shard[s];
        in_shard[s] = seen + n;
        do
        :: in_shard[s] > LIMIT ->
            seen = in_shard[s];
            in_shard[s] = seen - 1;
            evicted++
        :: else -> break
        od;
        locked[s] = false;
        atomic { heap = heap + evicted }
    :: !got -> atomic { heap = heap + n }
    fi
}

/* Take up to wanted blocks; taken says how many came. */
inline take(s, wanted, steal) {
    taken = 0;
#ifdef STEAL_WITHOUT_LOCK
    if
    :: steal -> got = true
    :: else -> acquire(s, got)
    fi;
#else
    acquire(s, got);
#endif
    if
    :: got ->
        do
        :: taken < wanted && in_shard[s] > 0 ->
            seen = in_shard[s];
            in_shard[s] = seen - 1;
            taken++
        :: else -> break
        od;
#ifdef BIT_OUTSIDE
        empty_now = (in_shard[s] == 0);
        locked[s] = false;
        if :: empty_now && taken > 0 -> bits[s] = 0 :: else fi
#else
        if :: in_shard[s] == 0 && taken > 0 -> bits[s] = 0 :: else fi;
        if :: !steal -> locked[s] = false :: else fi;
        if :: steal -> locked[s] = false :: else fi
#endif
    :: !got -> skip
    fi
}

/* What came with the first block goes into the cache, or, if a handler or a reclaimer has it, to the heap. */
inline keep_rest(n) {
    if
    :: n > 0 ->
        if
        :: atomic { in_caches = in_caches + n }
#ifdef KEEP_FORGETS
        :: atomic { in_caches = in_caches + 1 }
#else
        :: atomic { in_caches = in_caches + 1; heap = heap + n - 1 }
#endif
        fi
    :: else -> skip
    fi
}

proctype thread(byte own)
{
    byte i, n, seen, evicted, taken;
    bool got, empty_now;
    for (i : 1 .. ROUNDS) {
        if
        :: atomic { in_caches >= BATCH -> in_caches = in_caches - BATCH; n = BATCH }; put(own, n)
        :: atomic { in_caches >= 1 -> in_caches--; n = 1 }; put(own, n)
        :: bits[own] == 1 -> take(own, BATCH, false); keep_rest(taken)
        :: bits[1 - own] == 1 -> take(1 - own, 1, true); keep_rest(taken)
        :: skip
        fi
    }
    done++
}

init {
    atomic {
        run thread(0);
        run thread(0);
        run thread(1)
    }
    done == 3;
    assert(heap + in_caches + in_shard[0] + in_shard[1] == BLOCKS);
    assert(in_shard[0] <= LIMIT && in_shard[1] <= LIMIT);
    assert((bits[0] == 1) == (in_shard[0] > 0));
    assert((bits[1] == 1) == (in_shard[1] > 0));
    assert(!locked[0] && !locked[1])
}
