/* SPDX-License-Identifier: MIT */
/* load.h: a trace file as calls with slots in place of addresses. */
#ifndef REPLAY_LOAD_H
#define REPLAY_LOAD_H

#include "format.h"

#include <pthread.h>
#include <stddef.h>

struct load_call {
    uint64_t size;
    uint64_t old_size;       /* of OP_REALLOC_END */
    size_t next_of_thread;   /* index of the thread's next call; 0: none */
    uint32_t slot, old_slot; /* from 1; 0: none */
    uint8_t op, align_log2;
};

struct load_thread {
    uint32_t id;
    size_t first, last;    /* indices of calls */
    uint32_t pending_slot; /* between OP_REALLOC_BEGIN and _END */
    pthread_t handle;
};

struct load {
    struct load_call *calls; /* from 1 to n_calls */
    struct load_thread *threads;
    size_t n_calls, n_threads, n_slots;
    uint64_t bytes;
};

/* Zeroed memory that no allocator sees, or NULL. */
void *load_table(size_t bytes);

/* Reads a file. NULL, or what is wrong with it. */
const char *load_file(struct load *load, const char *path);

#endif
