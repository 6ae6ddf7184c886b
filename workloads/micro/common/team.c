// SPDX-License-Identifier: MIT
// Threads and their barrier.
#include "team.h"

#include <errno.h>
#include <stdint.h>

#include "../../common/fail.h"

static pthread_barrier_t team_barrier;
static unsigned team_size;
static void (*team_work)(unsigned index);

static void *team_member(void *index) {
    team_work((unsigned)(uintptr_t)index);
    return NULL;
}

void team_run(unsigned n, void (*work)(unsigned index)) {
    if (n < 1 || n > TEAM_MOST) fail_exit(FAIL_USAGE, "--threads: 1 to %d", TEAM_MOST);
    pthread_t thread[TEAM_MOST];
    team_size = n;
    team_work = work;
    if (n > 1) pthread_barrier_init(&team_barrier, NULL, n);
    for (unsigned i = 1; i < n; i++) {
        errno = pthread_create(&thread[i], NULL, team_member, (void *)(uintptr_t)i);
        if (errno != 0) fail_errno("cannot start a thread");
    }
    work(0);
    for (unsigned i = 1; i < n; i++)
        pthread_join(thread[i], NULL);
    if (n > 1) pthread_barrier_destroy(&team_barrier);
}

void team_meet(void) {
    if (team_size > 1) pthread_barrier_wait(&team_barrier);
}
