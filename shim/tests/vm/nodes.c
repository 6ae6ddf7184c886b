/* SPDX-License-Identifier: MIT */
/* nodes.c: on a machine with two NUMA nodes, memory that is written for the first time belongs to the node of
 * the thread that writes it, and what a program binds to a node does not bind who gets that memory next.
 * Prints nodes, which are the same without the library. */
#include "../reliability/common.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define PAGE 4096
#define MPOL_BIND 2

static void run_on(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set)) skip("needs two processors");
}

/* The share of pages on the node, in percent; the node of each processor has its number. */
static int share_on(int node, char *block, size_t n_bytes) {
    size_t n = n_bytes / PAGE, on_node = 0, known = 0;
    int last = 0;
    for (size_t i = 1; i + 1 < n; i++) {
        void *page = (void *)(((size_t)block + i * PAGE) & ~(size_t)(PAGE - 1));
        int status = -1;
        if (syscall(SYS_move_pages, 0, 1ul, &page, NULL, &status, 0))
            skip("pages cannot be asked for their nodes");
        if (status < 0) {
            last = status;
            continue;
        }
        known++;
        on_node += status == node;
    }
    if (last) fprintf(stderr, "%zu of %zu known, else %d; ", known, n, last);
    return known ? (int)(on_node * 100 / known) : -1;
}

static const size_t sizes[] = {40 * KIB, 200 * KIB, 900 * KIB, 3 * MIB, 20 * MIB, 64 * MIB};
#define N_SIZES (sizeof sizes / sizeof sizes[0])
#define N_BLOCKS 4

struct work {
    int node;
    char *blocks[N_SIZES][N_BLOCKS];
};

static void *fill(void *argument) {
    struct work *work = argument;
    run_on(work->node);
    for (size_t s = 0; s < N_SIZES; s++)
        for (int i = 0; i < N_BLOCKS; i++)
            memset(work->blocks[s][i], 1, sizes[s]);
    return NULL;
}

static void tell(struct work *work) {
    for (size_t s = 0; s < N_SIZES; s++)
        for (int i = 0; i < N_BLOCKS; i++) {
            char what[80];
            int share = share_on(work->node, work->blocks[s][i], sizes[s]);
            for (size_t at = 0; at < sizes[s]; at += PAGE)
                if (work->blocks[s][i][at] != 1) exit(4);
            fprintf(stderr, "%zu KiB: %d %%\n", sizes[s] / KIB, share);
            snprintf(what, sizeof what, "%zu KiB on the node of who wrote it", sizes[s] / KIB);
            say(what, share >= 90);
        }
}

static void get_all(struct work *work) {
    for (size_t s = 0; s < N_SIZES; s++)
        for (int i = 0; i < N_BLOCKS; i++)
            if (!(work->blocks[s][i] = hide(malloc(sizes[s])))) exit(3);
}

static void first_write(void) {
    static struct work work = {.node = 1};
    run_on(1);
    get_all(&work);
    fill(&work);
    tell(&work);
}

/* Got by a thread on node 0, written by one on node 1. */
static void other_thread(void) {
    static struct work work = {.node = 1};
    pthread_t thread;
    run_on(0);
    get_all(&work);
    if (pthread_create(&thread, NULL, fill, &work) || pthread_join(thread, NULL)) exit(3);
    tell(&work);
}

/* A block bound to node 1 and freed; the next one, written on node 0, lies there. */
static void policy(void) {
    run_on(0);
    for (int i = 0; i < 3; i++) {
        size_t n = 16 * MIB;
        unsigned long nodes = 2;
        char *block = hide(aligned_alloc(PAGE, n));
        if (syscall(SYS_mbind, block, n, MPOL_BIND, &nodes, 8 * sizeof nodes, 0))
            skip("memory cannot be bound to a node");
        memset(block, 1, n);
        say("bound to node 1", share_on(1, block, n) >= 99);
        free(block);
        block = hide(aligned_alloc(PAGE, 2 * n));
        memset(block + n, 1, n);
        say("the next is free of it", share_on(0, block + n, n) >= 90);
        free(block);
    }
}

static const struct test_case cases[] = {
    {"first-write", first_write}, {"other-thread", other_thread}, {"policy", policy}, {NULL, NULL}};

int main(int argc, char **argv) {
    return run_case(cases, argc, argv);
}
