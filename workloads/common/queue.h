// SPDX-License-Identifier: MIT
// Bounded queue of pointers between threads: the hand-over that turns a local free into a cross-thread one.
//
// | operation  | who            | blocks while              |
// | ---------- | -------------- | ------------------------- |
// | queue_put  | any producer   | full                      |
// | queue_get  | any consumer   | empty and producers remain |
// | queue_done | each producer, once, after its last put | never |
//
// One mutex, acquired by each operation, released before it returns: contents written before queue_put are
// visible after the matching queue_get.
#ifndef WORKLOADS_QUEUE_H
#define WORKLOADS_QUEUE_H

#include <pthread.h>

enum { QUEUE_MOST = 4096 };

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t not_empty, not_full;
    unsigned capacity, count, head, producers;
    void *item[QUEUE_MOST];
};

// 1 <= capacity <= QUEUE_MOST; `producers` threads will call queue_done.
void queue_init(struct queue *q, unsigned capacity, unsigned producers);
void queue_finish(struct queue *q);

void queue_put(struct queue *q, void *item);

// NULL when the queue is empty and every producer is done.
void *queue_get(struct queue *q);
void queue_done(struct queue *q);

#endif
