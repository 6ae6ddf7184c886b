/* SPDX-License-Identifier: MIT */
/* fork.h: what a forked child finds, and does about it.
 *
 * Nothing is registered with pthread_atfork and no lock is held across fork: allocators that do so deadlock
 * against stdio. In the child the door to every slow path is closed (sync/fork_door.h) until it is repaired.
 * Behind a closed door nobody takes a lock, so what is locked then was locked in the parent and is not to be
 * trusted. Nothing is, but live blocks: thread caches and shards are forgotten, and the heap is made anew
 * (heap_rebuild.c). The door stays closed while the forking thread itself is inside its cache, which a signal
 * handler has interrupted. vfork children share the parent's memory and see nothing; they must not do more
 * than exec.
 */
#ifndef ZP_PROCESS_FORK_H
#define ZP_PROCESS_FORK_H

#include "pool/pool.h"
#include "sync/fork_door.h"

/* In the child, right after fork: repair at once, so that it keeps nothing of what its parent had freed,
 * whatever it does. Where nobody calls this (raw system calls), the first slow path repairs. */
void fork_child(void);

/* Repairs if needed. False while another thread of the child is doing so. */
bool fork_repair(void);

#endif
