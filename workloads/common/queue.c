// SPDX-License-Identifier: MIT
// Bounded queue: a ring under one mutex with two condition variables.
#include "queue.h"

void queue_init(struct queue *q, unsigned capacity, unsigned producers) {
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->not_empty, NULL);
    pthread_cond_init(&q->not_full, NULL);
    q->capacity = capacity;
    q->producers = producers;
    q->count = q->head = 0;
}

void queue_finish(struct queue *q) {
    pthread_cond_destroy(&q->not_full);
    pthread_cond_destroy(&q->not_empty);
    pthread_mutex_destroy(&q->lock);
}

void queue_put(struct queue *q, void *item) {
    pthread_mutex_lock(&q->lock);
    while (q->count == q->capacity)
        pthread_cond_wait(&q->not_full, &q->lock);
    q->item[(q->head + q->count++) % q->capacity] = item;
    pthread_mutex_unlock(&q->lock);
    pthread_cond_signal(&q->not_empty);
}

void *queue_get(struct queue *q) {
    void *item = NULL;
    pthread_mutex_lock(&q->lock);
    while (q->count == 0 && q->producers > 0)
        pthread_cond_wait(&q->not_empty, &q->lock);
    if (q->count > 0) {
        item = q->item[q->head];
        q->head = (q->head + 1) % q->capacity;
        q->count--;
    }
    pthread_mutex_unlock(&q->lock);
    if (item != NULL) pthread_cond_signal(&q->not_full);
    return item;
}

void queue_done(struct queue *q) {
    pthread_mutex_lock(&q->lock);
    q->producers--;
    pthread_mutex_unlock(&q->lock);
    // Every waiting consumer has to learn that nothing more will come.
    pthread_cond_broadcast(&q->not_empty);
}
