/* SPDX-License-Identifier: MIT */
/* policy.c: LIFO and CLOCK-Pro eviction. See policy.h. */
#include "cache/policy.h"

#include "base/time.h"

#include <string.h>

void policy_init(struct policy *policy, enum eviction kind, struct policy_marks *marks) {
    memset(policy, 0, sizeof *policy);
    policy->kind = kind;
    if (kind == EVICT_CLOCKPRO) {
        memset(marks, 0, sizeof *marks);
        policy->marks = marks;
    }
    age_list_init(&policy->hot);
    age_list_init(&policy->cold);
}

static void link_hot(struct policy *policy, struct extent *extent) {
    extent->flags |= EXTENT_HOT;
    age_push_newest(&policy->hot, extent);
    policy->hot_bytes += extent_bytes(extent);
}

static void link_cold(struct policy *policy, struct extent *extent) {
    extent->flags &= (uint16_t)~EXTENT_HOT;
    age_push_newest(&policy->cold, extent);
    policy->cold_bytes += extent_bytes(extent);
}

static void unlink_any(struct policy *policy, struct extent *extent) {
    age_remove(extent);
    if (extent->flags & EXTENT_HOT)
        policy->hot_bytes -= extent_bytes(extent);
    else
        policy->cold_bytes -= extent_bytes(extent);
}

/* Hot blocks may fill what the cold target leaves; the hot hand demotes the rest. */
static void balance(struct policy *policy, size_t limit_bytes) {
    size_t hot_limit = limit_bytes - min_size(limit_bytes, policy->cold_target_bytes);
    struct extent *extent;
    while (policy->hot_bytes > hot_limit && (extent = age_oldest(&policy->hot))) {
        unlink_any(policy, extent);
        if (extent->policy & POLICY_REFERENCED) {
            extent->policy &= (uint8_t)~POLICY_REFERENCED;
            link_hot(policy, extent);
        } else {
            extent->policy = 0;
            link_cold(policy, extent);
        }
    }
}

void policy_insert(struct policy *policy, struct extent *extent, size_t limit_bytes) {
    if (policy->kind == EVICT_LIFO) {
        link_cold(policy, extent);
        return;
    }
    bool promised = policy->marks->n_hot_promised[extent->cls] > 0;
    bool reused_in_test = (extent->policy & (POLICY_REUSED | POLICY_TEST)) == (POLICY_REUSED | POLICY_TEST);
    if (extent->flags & EXTENT_HOT) {
        extent->policy = (extent->policy & POLICY_REUSED) ? POLICY_REFERENCED : 0;
        link_hot(policy, extent);
    } else if (reused_in_test || promised) {
        if (!reused_in_test) policy->marks->n_hot_promised[extent->cls]--;
        extent->policy = 0;
        link_hot(policy, extent);
    } else {
        extent->policy = POLICY_TEST;
        link_cold(policy, extent);
    }
    balance(policy, limit_bytes);
}

void policy_remove(struct policy *policy, struct extent *extent, bool reused) {
    unlink_any(policy, extent);
    if (reused)
        extent->policy |= POLICY_REUSED;
    else
        extent->policy = 0;
}

void policy_miss(struct policy *policy, unsigned cls, size_t limit_bytes) {
    if (policy->kind == EVICT_LIFO || policy->marks->n_marks[cls] == 0) return;
    for (unsigned i = 0; i < POLICY_HISTORY; i++) {
        if (policy->marks->history[i] != cls) continue;
        policy->marks->history[i] = 0;
        break;
    }
    policy->marks->n_marks[cls]--;
    if (policy->marks->n_hot_promised[cls] < 255) policy->marks->n_hot_promised[cls]++;
    size_t bytes = class_pages(cls) << PAGE_SHIFT;
    policy->cold_target_bytes = min_size(policy->cold_target_bytes + bytes, limit_bytes);
}

struct extent *policy_victim(struct policy *policy, size_t limit_bytes) {
    if (policy->kind == EVICT_CLOCKPRO) balance(policy, limit_bytes);
    struct extent *extent = age_oldest(&policy->cold);
    return extent ? extent : age_oldest(&policy->hot);
}

static void mark(struct policy *policy, unsigned cls) {
    unsigned expired = policy->marks->history[policy->marks->history_at];
    if (expired) {
        policy->marks->n_marks[expired]--;
        size_t bytes = class_pages(expired) << PAGE_SHIFT;
        policy->cold_target_bytes -= min_size(policy->cold_target_bytes, bytes);
    }
    policy->marks->history[policy->marks->history_at] = (uint16_t)cls;
    policy->marks->history_at = (policy->marks->history_at + 1) % POLICY_HISTORY;
    policy->marks->n_marks[cls]++;
}

void policy_evict(struct policy *policy, struct extent *extent, size_t limit_bytes) {
    (void)limit_bytes;
    unlink_any(policy, extent);
    if (policy->kind == EVICT_CLOCKPRO && (extent->policy & POLICY_TEST)) mark(policy, extent->cls);
    extent->policy = 0;
    extent->flags &= (uint16_t)~EXTENT_HOT;
}

struct extent *policy_oldest(struct policy *policy, uint32_t now_ms) {
    struct extent *cold = age_oldest(&policy->cold), *hot = age_oldest(&policy->hot);
    if (!cold || !hot) return cold ? cold : hot;
    return time_passed_ms(now_ms, cold->last_use_ms) >= time_passed_ms(now_ms, hot->last_use_ms) ? cold : hot;
}
