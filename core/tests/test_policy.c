/* SPDX-License-Identifier: MIT */
/* test_policy.c: LIFO and CLOCK-Pro on extents that exist as descriptors only. */
#include <criterion/criterion.h>
#include <string.h>

#include "cache/policy.h"

#define LIMIT (64 * PAGE_BYTES)

static struct policy policy;
static struct policy_marks marks;
static struct extent extents[64];

static struct extent *make(unsigned i, uint32_t n_pages, uint32_t used_at) {
    struct extent *e = &extents[i];
    memset(e, 0, sizeof *e);
    e->n_pages = e->used_pages = n_pages;
    e->cls = (uint16_t)class_floor(n_pages);
    e->last_use_ms = used_at;
    e->state = EXTENT_CACHED;
    return e;
}

static bool is_hot(const struct extent *e) {
    return e->flags & EXTENT_HOT;
}

Test(policy, empty) {
    for (int kind = EVICT_LIFO; kind <= EVICT_CLOCKPRO; kind++) {
        policy_init(&policy, (enum eviction)kind, &marks);
        cr_assert_null(policy_victim(&policy, LIMIT));
        cr_assert_null(policy_oldest(&policy, 10));
        policy_miss(&policy, 5, LIMIT);
    }
}

Test(policy, lifo_gives_up_what_is_idle_longest) {
    policy_init(&policy, EVICT_LIFO, &marks);
    for (unsigned i = 0; i < 8; i++)
        policy_insert(&policy, make(i, 4, i), LIMIT);
    cr_assert_eq(policy.cold_bytes, 32 * PAGE_BYTES);
    policy_remove(&policy, &extents[0], true); /* reused and returned: youngest now */
    policy_insert(&policy, &extents[0], LIMIT);
    for (unsigned i = 1; i < 8; i++) {
        struct extent *victim = policy_victim(&policy, LIMIT);
        cr_assert_eq(victim, &extents[i], "victim %u", i);
        policy_evict(&policy, victim, LIMIT);
    }
    cr_assert_eq(policy_victim(&policy, LIMIT), &extents[0]);
    cr_assert_eq(policy.cold_bytes, 4 * PAGE_BYTES);
    policy_evict(&policy, &extents[0], LIMIT);
    cr_assert_eq(policy.cold_bytes + policy.hot_bytes, 0);
}

Test(policy, clockpro_makes_a_block_reused_in_its_test_period_hot) {
    policy_init(&policy, EVICT_CLOCKPRO, &marks);
    struct extent *a = make(0, 4, 0), *b = make(1, 4, 1);
    policy_insert(&policy, a, LIMIT);
    policy_insert(&policy, b, LIMIT);
    cr_assert_not(is_hot(a));
    policy_remove(&policy, a, true);
    policy_insert(&policy, a, LIMIT);
    cr_assert(is_hot(a));
    cr_assert_eq(policy.hot_bytes, 4 * PAGE_BYTES);
    /* The hot one was there first, and yet the cold one goes. */
    cr_assert_eq(policy_victim(&policy, LIMIT), b);
}

Test(policy, clockpro_does_not_promote_what_left_for_another_reason) {
    policy_init(&policy, EVICT_CLOCKPRO, &marks);
    struct extent *a = make(0, 4, 0);
    policy_insert(&policy, a, LIMIT);
    policy_remove(&policy, a, false); /* flushed to the heap */
    policy_insert(&policy, a, LIMIT);
    cr_assert_not(is_hot(a));
}

Test(policy, clockpro_remembers_classes_it_evicted_too_early) {
    policy_init(&policy, EVICT_CLOCKPRO, &marks);
    struct extent *a = make(0, 4, 0), *other = make(1, 8, 0);
    policy_insert(&policy, a, LIMIT);
    policy_evict(&policy, policy_victim(&policy, LIMIT), LIMIT);
    cr_assert_eq(marks.n_marks[4], 1);
    size_t target = policy.cold_target_bytes;
    policy_miss(&policy, 8, LIMIT);
    cr_assert_eq(policy.cold_target_bytes, target, "a class without a mark teaches nothing");
    policy_miss(&policy, 4, LIMIT);
    cr_assert_eq(policy.cold_target_bytes, target + 4 * PAGE_BYTES, "the cold share grows by the block");
    cr_assert_eq(marks.n_marks[4], 0);
    policy_insert(&policy, other, LIMIT);
    cr_assert_not(is_hot(other));
    policy_insert(&policy, a, LIMIT);
    cr_assert(is_hot(a), "the block that replaces it is hot");
    struct extent *second = make(2, 4, 0);
    policy_insert(&policy, second, LIMIT);
    cr_assert_not(is_hot(second), "one miss promotes one block");
}

Test(policy, clockpro_cold_target_never_exceeds_the_limit_and_shrinks_when_marks_expire) {
    policy_init(&policy, EVICT_CLOCKPRO, &marks);
    for (unsigned i = 0; i < 100; i++) {
        policy_insert(&policy, make(0, 4, 0), LIMIT);
        policy_evict(&policy, &extents[0], LIMIT);
        policy_miss(&policy, 4, LIMIT);
        extents[0].flags = 0;
        memset(marks.n_hot_promised, 0, sizeof marks.n_hot_promised);
        cr_assert_leq(policy.cold_target_bytes, LIMIT);
    }
    cr_assert_eq(policy.cold_target_bytes, LIMIT);
    /* A ring full of marks nobody asks for, and one more round. */
    for (unsigned i = 0; i < 2 * POLICY_HISTORY; i++) {
        policy_insert(&policy, make(1, 2, 0), LIMIT);
        policy_evict(&policy, &extents[1], LIMIT);
    }
    cr_assert_eq(policy.cold_target_bytes, 0, "unused marks take the cold share back");
    cr_assert_eq(marks.n_marks[2], POLICY_HISTORY, "the history is bounded");
}

Test(policy, clockpro_hot_hand_gives_a_second_chance) {
    policy_init(&policy, EVICT_CLOCKPRO, &marks);
    struct extent *a = make(0, 32, 0), *b = make(1, 32, 0), *c = make(2, 32, 0);
    struct extent *all[] = {a, b, c};
    for (int i = 0; i < 2; i++) { /* a and b become hot and fill the limit */
        policy_insert(&policy, all[i], LIMIT);
        policy_remove(&policy, all[i], true);
        policy_insert(&policy, all[i], LIMIT);
        cr_assert(is_hot(all[i]));
    }
    policy_remove(&policy, a, true); /* a is reused once more: referenced */
    policy_insert(&policy, a, LIMIT);
    policy_insert(&policy, c, LIMIT);
    policy_remove(&policy, c, true);
    policy_insert(&policy, c, LIMIT); /* three hot blocks are too many: the hand must pass a and demote b */
    cr_assert(is_hot(a), "referenced since the hand last passed");
    cr_assert_not(is_hot(b));
    cr_assert_eq(policy_victim(&policy, LIMIT), b);
    cr_assert_eq(policy.hot_bytes, 64 * PAGE_BYTES);
    cr_assert_eq(policy.cold_bytes, 32 * PAGE_BYTES);
}

Test(policy, clockpro_resists_a_scan_where_lifo_does_not) {
    /* A working set of 8 blocks in use all the time, and a scan of 200 blocks used once. Which loses
     * fewer? */
    size_t evicted_from_set[2] = {0, 0};
    for (int kind = EVICT_LIFO; kind <= EVICT_CLOCKPRO; kind++) {
        policy_init(&policy, (enum eviction)kind, &marks);
        bool resident[8] = {false};
        size_t bytes = 0;
        for (unsigned round = 0; round < 200; round++) {
            if (round % 4 == 0) /* the working set is touched every fourth round */
                for (unsigned i = 0; i < 8; i++) {
                    if (resident[i]) {
                        policy_remove(&policy, &extents[i], true);
                    } else {
                        policy_miss(&policy, 6, LIMIT);
                        evicted_from_set[kind] += round > 40;
                        make(i, 6, round);
                        bytes += 6 * PAGE_BYTES;
                        resident[i] = true;
                    }
                    policy_insert(&policy, &extents[i], LIMIT);
                }
            for (unsigned s = 0; s < 4; s++) { /* once-used blocks of another class */
                struct extent *scan = make(8 + (round * 4 + s) % 56, 8, round);
                policy_insert(&policy, scan, LIMIT);
                bytes += 8 * PAGE_BYTES;
                while (bytes > LIMIT) {
                    struct extent *victim = policy_victim(&policy, LIMIT);
                    cr_assert(victim);
                    policy_evict(&policy, victim, LIMIT);
                    bytes -= extent_bytes(victim);
                    if (victim < &extents[8]) resident[victim - extents] = false;
                }
            }
        }
    }
    cr_assert_gt(evicted_from_set[EVICT_LIFO], 0);
    cr_assert_lt(evicted_from_set[EVICT_CLOCKPRO] * 4, evicted_from_set[EVICT_LIFO], "clockpro %zu, lifo %zu",
                 evicted_from_set[EVICT_CLOCKPRO], evicted_from_set[EVICT_LIFO]);
}

Test(policy, oldest_looks_at_hot_and_cold_and_survives_the_wrap_of_the_clock) {
    policy_init(&policy, EVICT_CLOCKPRO, &marks);
    struct extent *hot = make(0, 4, UINT32_MAX - 5), *cold = make(1, 4, 3);
    policy_insert(&policy, hot, LIMIT);
    policy_remove(&policy, hot, true);
    policy_insert(&policy, hot, LIMIT);
    policy_insert(&policy, cold, LIMIT);
    cr_assert(is_hot(hot));
    cr_assert_eq(policy_oldest(&policy, 10), hot, "before the wrap is older than after it");
    policy_remove(&policy, hot, false);
    cr_assert_eq(policy_oldest(&policy, 10), cold);
}
