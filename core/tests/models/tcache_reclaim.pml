/* SPDX-License-Identifier: MIT */
/* tcache_reclaim.pml: the protocol of cache/tcache.h by which others take from a thread's cache.
 * mutants: NO_BARRIER NO_CLAIM_CHECK NO_BUSY_CHECK LEAVE_FIRST CLEAR_ALWAYS
 *
 * The owner stores busy and then loads claim without a barrier; on x86 its stores wait in a buffer, first in first out. A
 * reclaimer claims by compare-and-swap, has the kernel run a barrier on every processor (membarrier: the owner's buffer is empty at
 * some moment in between), and then loads busy. A handler may interrupt the owner anywhere and uses the same cache and buffer.
 * Owner, handler and two reclaimers; checked: nobody is inside together with another, and no block is lost or doubled. */

#define BLOCKS 2
#ifdef LARGE
#define OPERATIONS 3
#else
#define OPERATIONS 2
#endif

#define BUSY 0
#define COUNT 1

/* Memory, as all processors see it. */
byte busy, claim;
byte count = 1; /* blocks in the cache; one more is with the program */

/* The owner's processor: what it stored and has not reached memory, and what it would read itself. */
chan buffer = [4] of { byte, byte };
byte own_busy, own_count, counts_pending;

/* For the assertions. */
byte live = 1, returned, owner_inside, reclaimer_inside, done;
bool handling;

inline store(what, value) {
    atomic {
        buffer!what, value;
        if
        :: what == BUSY -> own_busy = value
        :: else -> own_count = value; counts_pending++
        fi
    }
}

inline drain_one() {
    buffer?what, value;
    if
    :: what == BUSY -> busy = value
    :: else -> count = value; counts_pending--
    fi
}

inline load_count(to) {
    atomic {
        if
        :: counts_pending -> to = own_count
        :: else -> to = count
        fi
    }
}

/* One get or put, by the owner or by a handler that has interrupted it. */
inline operation() {
    entered = false;
    was_busy = own_busy;
    store(BUSY, 1); /* by a handler over the owner's own, as in the code */
#ifdef NO_BUSY_CHECK
    was_busy = 0;
#endif
    if
#ifdef NO_CLAIM_CHECK
    :: !was_busy -> entered = true
    :: else -> skip
#else
    :: !was_busy && claim == 0 -> entered = true
#ifdef CLEAR_ALWAYS
    :: was_busy || claim -> store(BUSY, 0)
#else
    :: was_busy -> skip
    :: !was_busy && claim -> store(BUSY, 0)
#endif
#endif
    fi;
    if
    :: entered ->
        atomic { owner_inside++; assert(reclaimer_inside == 0 && owner_inside == 1) };
        load_count(seen);
#ifdef LEAVE_FIRST
        store(BUSY, 0);
#endif
        if
        :: seen > 0 -> store(COUNT, seen - 1); live++
        :: live > 0 -> live--; store(COUNT, seen + 1)
        :: seen == 0 && live == 0 -> skip
        fi;
        owner_inside--;
#ifndef LEAVE_FIRST
        store(BUSY, 0)
#endif
    :: !entered -> skip
    fi
}

active proctype owner() provided (!handling)
{
    byte i, seen, was_busy;
    bool entered;
    for (i : 1 .. OPERATIONS) {
        operation()
    }
    done++
}

active proctype handler()
{
    byte seen, was_busy;
    bool entered;
    if
    :: handling = true; operation(); handling = false
    :: skip
    fi;
    done++
}

/* The processor empties its buffer when it likes. */
active proctype processor()
{
    byte what, value;
end:
    do
    :: atomic { nempty(buffer) -> drain_one() }
    od
}

active [2] proctype reclaimer()
{
    byte what, value, taken;
    bool claimed;
    atomic { claimed = (claim == 0); if :: claimed -> claim = 1 :: else fi };
    if
    :: claimed ->
#ifndef NO_BARRIER
        atomic { do :: nempty(buffer) -> drain_one() :: empty(buffer) -> break od };
#endif
        if
        :: busy == 0 ->
            atomic { reclaimer_inside++; assert(owner_inside == 0 && reclaimer_inside == 1) };
            taken = count;
            count = 0;
            returned = returned + taken;
            reclaimer_inside--
        :: busy != 0 -> skip
        fi;
        claim = 0
    :: !claimed -> skip
    fi;
    done++
}

active proctype accountant()
{
    done == 4 && empty(buffer);
    assert(count + live + returned == BLOCKS);
    assert(busy == 0 && claim == 0)
}
