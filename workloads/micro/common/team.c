// SPDX-License-Identifier: MIT
// Threads and their barrier.
#include "team.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "../../common/clock.h"
#include "../../common/fail.h"
#include "args.h"
#include "cpu.h"

static pthread_barrier_t team_barrier;
static unsigned team_size;
static void (*team_work)(unsigned index);

static cpu_set_t team_cpus; // those that the process may use; read by members only
static bool team_pins, team_spreads;

void team_pin(const char *where) {
    team_pins = strcmp(where, "none") != 0;
    team_spreads = strcmp(where, "spread") == 0;
}

// Keeps the calling thread on the processor of member `index`.
static void pin(unsigned index) {
    unsigned turn = team_spreads ? index % (unsigned)CPU_COUNT(&team_cpus) : 0;
    unsigned cpu = 0;
    for (;; cpu++)
        if (CPU_ISSET(cpu, &team_cpus) && turn-- == 0) break;
    cpu_set_t mine;
    CPU_ZERO(&mine);
    CPU_SET(cpu, &mine);
    if (sched_setaffinity(0, sizeof mine, &mine) != 0) fail_errno("cannot pin a thread");
}

static void *team_member(void *index) {
    if (team_pins) pin((unsigned)(uintptr_t)index);
    team_work((unsigned)(uintptr_t)index);
    return NULL;
}

void team_check(uint64_t threads) {
    if (threads < 1 || threads > TEAM_MOST) args_refuse("--threads: 1 to 64");
}

void team_run(unsigned n, void (*work)(unsigned index)) {
    team_check(n);
    pthread_t thread[TEAM_MOST];
    team_size = n;
    team_work = work;
    if (team_pins && sched_getaffinity(0, sizeof team_cpus, &team_cpus) != 0)
        fail_errno("cannot tell which processors may be used");
    if (n > 1) pthread_barrier_init(&team_barrier, NULL, n);
    for (unsigned i = 1; i < n; i++) {
        errno = pthread_create(&thread[i], NULL, team_member, (void *)(uintptr_t)i);
        if (errno != 0) fail_errno("cannot start a thread");
    }
    team_member(NULL);
    for (unsigned i = 1; i < n; i++)
        pthread_join(thread[i], NULL);
    if (n > 1) pthread_barrier_destroy(&team_barrier);
}

void team_meet(void) {
    if (team_size > 1) pthread_barrier_wait(&team_barrier);
}

static struct team_time now(void) {
    return (struct team_time){.ns = clock_monotonic_ns(), .cpu_ns = cpu_ns()};
}

struct team_time team_begin(void) {
    team_meet();
    return now();
}

struct team_time team_end(struct team_time begin) {
    team_meet();
    struct team_time end = now();
    return (struct team_time){.ns = end.ns - begin.ns, .cpu_ns = end.cpu_ns - begin.cpu_ns};
}
