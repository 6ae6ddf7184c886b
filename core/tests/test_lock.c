/* SPDX-License-Identifier: MIT */
/* test_lock.c: how long a lock is waited for whose holder does not come back. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <unistd.h>

#include "filter.h"
#include "support.h"
#include "sync/lock.h"

TestSuite(lock, .timeout = 30);

/* Nanoseconds until it was given up; the least of some tries, since others use the machine, too. */
static uint64_t wait_ns(struct lock *lock) {
    uint64_t begin = os_clock_ns();
    cr_assert_not(lock_acquire(lock));
    return os_clock_ns() - begin;
}

static uint64_t least_wait_ns(struct lock *lock) {
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 20; i++) {
        uint64_t ns = wait_ns(lock);
        if (ns < least) least = ns;
    }
    return least;
}

Test(lock, that_was_lost_is_not_waited_for_as_long_again) {
    struct lock lock = {0};
    cr_assert(lock_acquire(&lock));
    cr_assert_geq(wait_ns(&lock), LOCK_PATIENCE_NS);
    uint64_t later = least_wait_ns(&lock);
    cr_assert_geq(later, LOCK_DOUBT_NS);
    cr_assert_lt(later, LOCK_PATIENCE_NS / 4, "%lu ns", later);
}

Test(lock, that_comes_back_is_trusted_again) {
    struct lock lock = {0};
    cr_assert(lock_acquire(&lock));
    wait_ns(&lock);
    lock_release(&lock);
    cr_assert(lock_acquire(&lock));
    cr_assert_geq(wait_ns(&lock), LOCK_PATIENCE_NS);
}

static void *holds(void *argument) {
    struct lock *lock = argument;
    usleep(5000);
    lock_release(lock);
    return NULL;
}

/* Under a filter a wait ends, too, and makes no call. AddressSanitizer's own code yields when the process
 * ends. */
Test(lock, is_waited_for_under_a_filter_without_a_call, .disabled = UNDER_ASAN) {
    struct lock lock = {0}, lost = {0};
    cr_assert(lock_acquire(&lock) && lock_acquire(&lost));
    os_clock_ns();
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, holds, &lock), 0);
    os_restricted = true;
    static const int calls[] = {SYS_sched_yield, SYS_clock_gettime};
    struct filter filter = {0};
    filter_calls(&filter, calls, FILTER_LENGTH(calls), SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_ALLOW);
    if (!filter_install(&filter)) cr_skip_test("no filters here");
    bool had_lost = lock_acquire(&lost), had = false;
    for (int i = 0; i < 1000 && !had;
         i++) /* on a busy machine the holder may need longer than anybody waits */
        had = lock_acquire(&lock);
    os_yield();
    os_restricted = false;
    pthread_join(thread, NULL);
    cr_assert(had);
    cr_assert_not(had_lost);
}
