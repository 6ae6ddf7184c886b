/* SPDX-License-Identifier: MIT */
/* fork_door.pml: the repair in a forked child (process/fork.c): one thread repairs, nobody passes before it is done.
 * mutants: OPEN_EARLY NO_CLAIM REPAIR_WHILE_ENTERED KEEP_HEAP
 *
 * The child begins with one thread; the word of the door reads 0. Locks may have been held at the fork by threads that exist
 * no more, and what they guarded cannot be trusted; the forking thread itself may have forked from a signal handler inside a slow
 * path, with a lock of its own. Later there are two more threads, and all use the pool at once. Checked: exactly one repair; it never
 * takes a lock of a living thread for a lost one; nobody uses what cannot be trusted; in the end both locks are free and both levels are of
 * use again (heap_rebuild.c makes the heap anew, whoever held its lock). */

#define NOBODY 0
#define LOST 9

byte word;
byte heap_lock, shard_lock; /* who holds it; 1 .. 3 are the child's threads */
bool heap_trusted = true, shard_trusted = true;
byte n_repairs, n_slow, done;

/* What the kernel left behind. */
inline at_the_fork(thread_inside) {
    if
    :: heap_lock = LOST; heap_trusted = false
    :: skip
    fi;
    if
    :: shard_lock = LOST; shard_trusted = false
    :: thread_inside && heap_lock == NOBODY -> heap_lock = 1 /* its own */
    :: skip
    fi
}

inline repair(me) {
    n_repairs++;
    if
    :: heap_lock != NOBODY -> assert(heap_lock == LOST)
    :: else -> skip
    fi;
#ifndef KEEP_HEAP
    heap_lock = me;
    heap_trusted = true;
#endif
    heap_lock = NOBODY; /* made anew, and released */
    if
    :: shard_lock != NOBODY -> assert(shard_lock == LOST); shard_trusted = true; shard_lock = NOBODY /* emptied and released */
    :: else -> skip
    fi
}

/* fork_pass: passed says whether to go on. */
inline pass(me, entered) {
    if
    :: word == 1 -> passed = true
    :: word != 1 ->
#ifndef REPAIR_WHILE_ENTERED
        if
        :: entered -> passed = false
        :: else ->
#endif
#ifdef OPEN_EARLY
            mine = (word == 0);
            word = 1;
            if :: mine -> repair(me) :: else fi;
            passed = true
#else
#ifdef NO_CLAIM
            mine = (word == 0);
            word = 2;
#else
            atomic { mine = (word == 0); if :: mine -> word = 2 :: else fi };
#endif
            if
            :: mine -> repair(me); word = 1; passed = true
            :: !mine ->
                if
                :: word == 1 -> passed = true /* it came in time */
                :: passed = false             /* it did not: refused, or deferred */
                fi
            fi
#endif
#ifndef REPAIR_WHILE_ENTERED
        fi
#endif
    fi
}

inline use_heap(me) {
    if
    :: atomic { heap_lock == NOBODY -> heap_lock = me };
        assert(heap_trusted);
        heap_lock = NOBODY
    :: heap_lock != NOBODY -> skip /* after a bounded time */
    fi
}

inline use_shard(me) {
    if
    :: atomic { shard_lock == NOBODY -> shard_lock = me };
        assert(shard_trusted);
        shard_lock = NOBODY
    :: shard_lock != NOBODY -> skip
    fi
}

inline slow_path(me) {
    pass(me, false);
    if
    :: passed ->
        n_slow++;
        use_shard(me);
        use_heap(me)
    :: !passed -> skip
    fi
}

proctype thread(byte me)
{
    bool passed, mine;
    slow_path(me);
    slow_path(me);
    done++
}

init {
    bool passed, mine, inside;
    if
    :: inside = true
    :: inside = false
    fi;
    at_the_fork(inside);
    if
    :: inside ->
        /* The handler, after the fork, may come here again: it must not repair beneath the slow path it has interrupted. */
        pass(1, true);
        if :: passed -> use_shard(1) :: else fi;
        /* It returns, and the slow path goes on where it was, with what it holds. */
        if
        :: heap_lock == 1 -> heap_lock = NOBODY
        :: else -> skip
        fi
    :: !inside -> skip
    fi;
    atomic {
        run thread(2);
        run thread(3)
    }
    slow_path(1);
    slow_path(1);
    done == 2;
    assert(n_repairs <= 1);
    assert(n_slow == 0 || n_repairs == 1);
    assert(word == 1);
    assert(shard_lock == NOBODY && shard_trusted);
    assert(heap_lock == NOBODY && heap_trusted)
}
