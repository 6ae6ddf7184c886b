/* SPDX-License-Identifier: MIT */
/* tcache_adopt.pml: a thread cache passes from a thread that ends to one that uses it for another pool, while the first pool is
 * reclaimed from and destroyed (thread_exits, tcache_get, tcache_reclaim, tcache_forget_pool in cache/tcache.c).
 * mutants: NO_RECHECK CHANGE_OUTSIDE NO_BARRIER
 *
 * Store buffers as in tcache_reclaim.pml; the hand-over goes through the registry lock, a locked instruction that empties the
 * buffer, so one buffer serves both threads. Checked: blocks of one pool are never given to another, none is lost, and after
 * the pool's end nobody touches it. */

#define NONE 0
#define A 1
#define B 2

#define BUSY 0
#define COUNT 1
#define POOL 2

byte busy, claim, count = 1, pool = A;
chan buffer = [5] of { byte, byte };
byte own_busy, own_count, own_pool = A, counts_pending, pools_pending;

byte owner_of_blocks = A; /* to which pool the blocks in the cache belong */
byte returned_a, returned_b, done;
bool a_destroyed, free_list;

inline store(what, value) {
    atomic {
        buffer!what, value;
        if
        :: what == BUSY -> own_busy = value
        :: what == COUNT -> own_count = value; counts_pending++
        :: else -> own_pool = value; pools_pending++
        fi
    }
}

inline drain_one() {
    buffer?what, value;
    if
    :: what == BUSY -> busy = value
    :: what == COUNT -> count = value; counts_pending--
    :: else -> pool = value; pools_pending--
    fi
}

inline barrier() { atomic { do :: nempty(buffer) -> drain_one() :: empty(buffer) -> break od } }
inline load_count(to) { atomic { if :: counts_pending -> to = own_count :: else -> to = count fi } }
inline load_pool(to) { atomic { if :: pools_pending -> to = own_pool :: else -> to = pool fi } }

inline enter() {
    store(BUSY, 1);
    if
    :: claim == 0 -> entered = true
    :: claim != 0 -> store(BUSY, 0); entered = false
    fi
}

/* Blocks go back to the pool they are believed to come from. */
inline give_back(to, n) {
    atomic {
        if
        :: n > 0 ->
            assert(to == owner_of_blocks);
            assert(!(to == A && a_destroyed));
            if :: to == A -> returned_a = returned_a + n :: else -> returned_b = returned_b + n fi
        :: else
        fi
    }
}

/* The thread of pool A ends; another adopts its cache for pool B and puts one block into it. */
active proctype threads()
{
    byte seen, whose, what, value;
    bool entered;
    /* thread_exits: tries until it gets in, here without limit */
    do
    :: enter(); if :: entered -> break :: else fi
    od;
    load_pool(whose);
    load_count(seen);
    store(COUNT, 0);
    if :: whose != NONE -> give_back(whose, seen) :: else fi;
    store(BUSY, 0);
    barrier(); /* registry lock */
    free_list = true;

    /* tcache_get for pool B */
#ifdef CHANGE_OUTSIDE
    store(POOL, B);
    entered = true;
#else
    enter();
#endif
    if
    :: entered ->
#ifndef CHANGE_OUTSIDE
        store(POOL, B);
        store(BUSY, 0);
#endif
        /* pool_put: a block of B */
        enter();
        if
        :: entered ->
            load_count(seen);
            atomic { owner_of_blocks = B; assert(seen == 0) };
            store(COUNT, 1);
            store(BUSY, 0)
        :: !entered -> skip /* to the heap of B */
        fi
    :: !entered -> skip /* being reclaimed: goes on without a cache */
    fi;
    done++
}

active proctype processor()
{
    byte what, value;
end:
    do
    :: atomic { nempty(buffer) -> drain_one() }
    od
}

/* The background thread takes from caches of A, and then somebody destroys A. */
active proctype reclaimer_of_a()
{
    byte what, value, taken;
    bool claimed;
    if
    :: pool == A ->
        atomic { claimed = (claim == 0); if :: claimed -> claim = 1 :: else fi };
        if
        :: claimed ->
#ifndef NO_BARRIER
            barrier();
#endif
            if
#ifdef NO_RECHECK
            :: busy == 0 ->
#else
            :: busy == 0 && pool == A ->
#endif
                taken = count;
                count = 0;
                give_back(A, taken)
            :: else -> skip
            fi;
            claim = 0
        :: !claimed -> skip
        fi
    :: pool != A -> skip
    fi;
    done++
}

active proctype destroyer_of_a()
{
    byte what, value;
    bool claimed;
    done >= 1; /* helper_remove_pool: the background thread is out of A; or the thread is through with it */
    do
    :: pool != A -> break
    :: pool == A ->
        atomic { claimed = (claim == 0); if :: claimed -> claim = 1 :: else fi };
        if
        :: claimed ->
            barrier();
            if
            :: busy == 0 ->
                if
                :: pool == A ->
                    /* What is in it goes with the pool. */
                    atomic { if :: count > 0 -> assert(owner_of_blocks == A); returned_a = returned_a + count :: else fi };
                    count = 0;
                    pool = NONE
                :: else -> skip
                fi
            :: busy != 0 -> skip
            fi;
            claim = 0
        :: !claimed -> skip
        fi
    od;
    a_destroyed = true;
    done++
}

active proctype accountant()
{
    done == 3 && empty(buffer);
    assert(returned_a == 1);
    assert(returned_b == 0);
    assert(count == 0 || (owner_of_blocks == B && pool == B));
    assert(busy == 0 && claim == 0)
}
