// SPDX-License-Identifier: MIT
// zeropool-replay: does again what a trace holds, with as many threads, under whichever allocator is
// preloaded.
//
// Every thread does its own calls in their order. A call that needs a block of another thread waits for it,
// and none runs more than WINDOW calls ahead of the slowest, so that about as much is live at a time as there
// was. Blocks are touched page by page. The output is the same under every allocator. Its own tables come
// from mmap.
#include "load.h"

#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WINDOW 64
#define PAGE 4096

static struct load trace;
static _Atomic(char *) *blocks; // by slot
static atomic_size_t n_done;
static atomic_bool failed;
static bool touching = true;

static void pause_a_little(unsigned *turn) {
    if (++*turn < 200) {
        sched_yield();
        return;
    }
    struct timespec nap = {0, 50000};
    nanosleep(&nap, NULL);
}

static void touch(char *block, size_t from, size_t to) {
    if (!touching) return;
    for (size_t at = from; at < to; at += PAGE)
        *(volatile char *)(block + at) = 1;
}

static char *take(uint32_t slot) {
    char *block;
    unsigned turn = 0;
    while (!(block = atomic_exchange(&blocks[slot], NULL))) {
        if (atomic_load(&failed)) return NULL;
        pause_a_little(&turn);
    }
    return block;
}

static char *allocate(const struct load_call *call) {
    switch (call->op) {
    case OP_CALLOC:
        return calloc(1, call->size);
    case OP_ALIGNED:
        return memalign((size_t)1 << call->align_log2, call->size);
    default:
        return malloc(call->size);
    }
}

static void perform(const struct load_call *call) {
    char *block = NULL;
    if (call->op == OP_FREE) {
        free(take(call->old_slot));
        return;
    }
    if (call->op == OP_REALLOC_END && call->old_slot) {
        char *old = take(call->old_slot);
        if (!old) return;
        block = realloc(old, call->size);
        if (block && call->size > call->old_size) touch(block, call->old_size, call->size);
    } else {
        block = allocate(call);
        if (block) touch(block, 0, call->size);
    }
    if (!block) {
        atomic_store(&failed, true);
        return;
    }
    atomic_store(&blocks[call->slot], block);
}

static void *work(void *argument) {
    const struct load_thread *thread = argument;
    for (size_t i = thread->first; i && !atomic_load(&failed); i = trace.calls[i].next_of_thread) {
        unsigned turn = 0;
        while (i > atomic_load(&n_done) + WINDOW && !atomic_load(&failed))
            pause_a_little(&turn);
        perform(&trace.calls[i]);
        atomic_fetch_add(&n_done, 1);
    }
    return NULL;
}

static int usage(FILE *to, int status) {
    fputs("usage: zeropool-replay [--touch=all|none] FILE\n\n"
          "Repeats the allocation calls of FILE, written by 'zeropool trace', with as many threads.\n"
          "--touch=none leaves out touching the pages of each block.\n",
          to);
    return status;
}

int main(int n_words, char **words) {
    const char *path = NULL;
    for (int i = 1; i < n_words; i++) {
        if (!strcmp(words[i], "--help")) return usage(stdout, 0);
        if (!strcmp(words[i], "--touch=none"))
            touching = false;
        else if (!strcmp(words[i], "--touch=all"))
            touching = true;
        else if (words[i][0] == '-' || path)
            return usage(stderr, 2);
        else
            path = words[i];
    }
    if (!path) return usage(stderr, 2);
    const char *problem = load_file(&trace, path);
    if (problem) {
        fprintf(stderr, "zeropool-replay: %s: %s\n", path, problem);
        return 1;
    }
    blocks = load_table((trace.n_slots + 1) * sizeof *blocks);
    if (!blocks) return 1;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 128 << 10);
    for (size_t i = 1; i < trace.n_threads; i++) {
        if (pthread_create(&trace.threads[i].handle, &attributes, work, &trace.threads[i])) {
            fputs("zeropool-replay: cannot start as many threads\n", stderr);
            return 1;
        }
    }
    if (trace.n_threads) work(&trace.threads[0]);
    for (size_t i = 1; i < trace.n_threads; i++)
        pthread_join(trace.threads[i].handle, NULL);
    if (atomic_load(&failed)) {
        fputs("zeropool-replay: out of memory\n", stderr);
        return 1;
    }
    printf("%zu calls, %zu threads, %llu MiB asked for\n", trace.n_calls, trace.n_threads,
           (unsigned long long)(trace.bytes >> 20));
    return 0;
}
