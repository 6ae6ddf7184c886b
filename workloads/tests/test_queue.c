// SPDX-License-Identifier: MIT
// Unit test: the bounded queue loses nothing, keeps order, and ends when its producers do.
#include "../common/queue.h"

#include <stdatomic.h>
#include <stdint.h>

#include "check.h"

enum { PRODUCERS = 3, CONSUMERS = 3, ITEMS = 5000 };

static struct queue q;
static atomic_ulong sum;
static atomic_uint received;

static void *produce(void *from) {
    for (uintptr_t i = 0; i < ITEMS; i++)
        queue_put(&q, (void *)((uintptr_t)from * ITEMS + i + 1));
    queue_done(&q);
    return NULL;
}

static void *consume(void *unused) {
    void *item;
    while ((item = queue_get(&q)) != NULL) {
        atomic_fetch_add(&sum, (unsigned long)(uintptr_t)item);
        atomic_fetch_add(&received, 1);
    }
    return unused;
}

static void test_order(void) {
    queue_init(&q, 4, 1);
    for (uintptr_t round = 0; round < 3; round++) {
        for (uintptr_t i = 1; i <= 4; i++)
            queue_put(&q, (void *)i);
        for (uintptr_t i = 1; i <= 4; i++)
            CHECK(queue_get(&q) == (void *)i);
    }
    queue_put(&q, (void *)9);
    queue_done(&q);
    CHECK(queue_get(&q) == (void *)9); // what was put before the end still comes
    CHECK(queue_get(&q) == NULL);
    CHECK(queue_get(&q) == NULL);
    queue_finish(&q);
}

static void test_threads(unsigned capacity) {
    pthread_t producer[PRODUCERS], consumer[CONSUMERS];
    atomic_store(&sum, 0);
    atomic_store(&received, 0);
    queue_init(&q, capacity, PRODUCERS);
    for (unsigned i = 0; i < CONSUMERS; i++)
        pthread_create(&consumer[i], NULL, consume, NULL);
    for (unsigned i = 0; i < PRODUCERS; i++)
        pthread_create(&producer[i], NULL, produce, (void *)(uintptr_t)i);
    for (unsigned i = 0; i < PRODUCERS; i++)
        pthread_join(producer[i], NULL);
    for (unsigned i = 0; i < CONSUMERS; i++)
        pthread_join(consumer[i], NULL);
    unsigned long n = PRODUCERS * ITEMS;
    CHECK(atomic_load(&received) == n);
    CHECK(atomic_load(&sum) == n * (n + 1) / 2);
    queue_finish(&q);
}

int main(void) {
    test_order();
    test_threads(1);
    test_threads(7);
    test_threads(QUEUE_MOST);
    return CHECK_RESULT();
}
