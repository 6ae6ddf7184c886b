/* SPDX-License-Identifier: MIT */
/* operations.c: libFuzzer target: any sequence of API calls against a shadow model that knows every buffer
 * and its contents.
 *
 * The input is a pool's configuration (four bytes) and then operations of four bytes each: what, which slot,
 * how much (two bytes). Everything is decided by the input: no background thread, no decay but by an
 * operation, threads that take turns. The pool's sources are built with -DZP_FAULT, so kernel calls fail
 * where the input says so. After such a failure requests may be refused, and nothing else may change:
 * contents, zeroes, alignment, ownership and the pool's invariants hold.
 */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/os.h"
#include "heap/decay.h"
#include "process/helper.h"
#include "pool/pool.h"
#include "support.h"
#include "zeropool.h"

#define N_SLOTS 48
#define LIVE_MAX                                                                                             \
    ((size_t)96 << 20) /* requests beyond are made small: the machine's memory is not the subject */

struct buffer {
    char *p; /* NULL: slot free */
    size_t size;
    uint64_t tag;
};

struct operation {
    uint8_t what, slot;
    uint16_t amount;
};

static struct {
    zp_pool *pool;
    struct buffer buffers[N_SLOTS];
    size_t live_bytes;
    uint64_t next_tag;
    bool faults; /* a kernel call may have failed in this run */
    size_t min_size;
} m;

#define HOLDS(condition, text)                                                                               \
    do {                                                                                                     \
        if (!(condition)) broken(text);                                                                      \
    } while (0)

_Noreturn static void broken(const char *what) {
    fprintf(stderr, "shadow model: %s\n", what);
    abort();
}

/* Sizes from one byte to 8 MiB, evenly over the powers of two. */
static size_t size_of(uint16_t amount) {
    unsigned bits = amount >> 12;
    size_t size = (((size_t)amount & 0xfff) + 1) << (bits % 12);
    return m.live_bytes + size > LIVE_MAX ? size % 65536 + 1 : size;
}

static void check_contents(const struct buffer *b) {
    HOLDS(pattern_check(b->p, b->size, b->tag) == b->size, "the contents of a buffer changed");
}

/* A buffer has come: nobody else's, where it should be, and from now on with contents. */
static void adopt(struct buffer *b, char *p, size_t size, size_t alignment) {
    HOLDS((uintptr_t)p % alignment == 0, "misaligned");
    size_t usable = zp_usable_size(m.pool, p);
    HOLDS(usable >= size, "usable size below the request");
    HOLDS(zp_owns(m.pool, p), "the pool does not know its buffer");
    HOLDS(!zp_owns(m.pool, p + 1) && zp_usable_size(m.pool, p + 64) == 0,
          "an interior pointer is taken for a buffer");
    for (unsigned i = 0; i < N_SLOTS; i++) {
        const struct buffer *other = &m.buffers[i];
        if (!other->p || other == b) continue;
        HOLDS(p + usable <= other->p || other->p + zp_usable_size(m.pool, other->p) <= p,
              "two buffers overlap");
    }
    m.live_bytes += size - (b->p ? b->size : 0);
    *b = (struct buffer){p, size, ++m.next_tag};
    pattern_fill(p, size, b->tag);
}

static void refused(size_t size) {
    bool too_small = size < m.min_size;
    HOLDS(errno == (too_small ? EINVAL : ENOMEM), "a refusal with another errno");
    HOLDS(too_small || m.faults, "a request that fits was refused");
}

static void op_get(struct buffer *b, uint16_t amount, int kind) {
    size_t size = size_of(amount), alignment = 4096;
    char *p;
    errno = 0;
    if (kind == 1) {
        p = zp_get_zeroed(m.pool, size);
        if (p) HOLDS(first_nonzero(p, size) == size, "a zeroed buffer is not zero");
    } else if (kind == 2) {
        alignment = (size_t)1 << (amount % 23);
        p = zp_get_aligned(m.pool, alignment, size);
    } else {
        p = zp_get(m.pool, size);
    }
    if (!p) {
        refused(size);
        return;
    }
    HOLDS(size >= m.min_size, "a request below the minimum was served");
    adopt(b, p, size, alignment);
}

static void op_put(struct buffer *b) {
    check_contents(b);
    m.live_bytes -= b->size;
    errno = 1234;
    zp_put(m.pool, b->p);
    HOLDS(errno == 1234, "zp_put changed errno");
    HOLDS(!zp_owns(m.pool, b->p), "a returned buffer is still the program's");
    b->p = NULL;
}

static void op_resize(struct buffer *b, uint16_t amount) {
    size_t size = size_of(amount), kept = size < b->size ? size : b->size;
    check_contents(b);
    errno = 0;
    char *p = zp_resize(m.pool, b->p, size);
    if (!p) {
        refused(size);
        check_contents(b);
        return;
    }
    HOLDS(pattern_check_front(p, kept, b->size, b->tag) == kept, "contents were lost in a resize");
    adopt(b, p, size, 4096);
}

static void check_pool(void) {
    char text[200] = "";
    if (zp_validate(m.pool, text, sizeof text)) broken(text);
    zp_stats stats;
    zp_pool_stats(m.pool, &stats);
    HOLDS(stats.bytes_live >= m.live_bytes, "less is live than the program holds");
}

static void one_operation(const struct operation *op) {
    struct buffer *b = &m.buffers[op->slot % N_SLOTS];
    struct pool *inside = (struct pool *)m.pool;
    switch (op->what % 16) {
    /* the common case: what is free is filled, what is full is emptied */
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
        if (b->p)
            op_put(b);
        else
            op_get(b, op->amount, 0);
        break;
    case 5:
    case 6:
        if (b->p)
            op_put(b);
        else
            op_get(b, op->amount, 1);
        break;
    case 7:
        if (b->p)
            op_put(b);
        else
            op_get(b, op->amount, 2);
        break;
    case 8:
    case 9:
    case 10:
        if (b->p)
            op_resize(b, op->amount);
        else
            op_get(b, op->amount, 0);
        break;
    case 11:
        zp_pool_trim(m.pool, (size_t)op->slot % 4 ? (size_t)op->amount << 8 : 0);
        break;
    case 12:
        zp_preallocate(m.pool, size_of((uint16_t)(op->amount & 0x9fff)), op->slot % 5);
        break;
    case 13:
        decay_tick(&inside->heap, inside->heap.decay_epoch_ms + op->amount);
        break;
    case 14:
        /* A kernel call or lock from now on fails, once or now and then; slot 0 ends it. */
        m.faults = true;
        if (op->slot % 64 == 1)
            os_fault_locks(op->amount % 16, op->amount);
        else if (op->slot == 0)
            os_fault_configure(-1, 0, 0, 0), os_fault_locks(0, 0);
        else
            os_fault_configure(op->amount % 16,
                               op->slot % 3   ? ENOMEM
                               : op->slot % 2 ? EAGAIN
                                              : EPERM,
                               op->slot % 4 ? 0 : op->slot, op->amount);
        break;
    default:
        os_fault_locks(0, 0); /* the check needs them */
        check_pool();
        break;
    }
}

struct turn {
    const struct operation *at, *end;
};

static void *take_turn(void *argument) {
    const struct turn *turn = argument;
    for (const struct operation *op = turn->at; op < turn->end; op++)
        one_operation(op);
    return NULL;
}

/* Some of the operations run in a thread that ends after them: its cache is left behind for the others. */
static void run(const struct operation *operations, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const struct operation *op = &operations[i];
        size_t n_turn = op->what >> 4;
        pthread_t thread;
        struct turn turn = {op + 1, op + 1 + (n_turn < n - i - 1 ? n_turn : n - i - 1)};
        if (n_turn > 12 && pthread_create(&thread, NULL, take_turn, &turn) == 0) {
            pthread_join(thread, NULL);
            i += (size_t)(turn.end - turn.at);
        } else {
            one_operation(op);
        }
    }
}

static void configure(zp_config *config, const uint8_t *bytes) {
    zp_config_preset(config, (zp_preset)(bytes[0] % 4));
    config->n_shards = bytes[0] >> 5;
    config->tcache_depth = bytes[1] % 20;
    config->max_retained_bytes = bytes[1] & 0x80 ? ((size_t)bytes[2] + 1) << 18 : 0;
    config->min_size_bytes = m.min_size = bytes[3] & 0x80 ? (size_t)bytes[3] : 0;
    config->eviction = bytes[3] & 1 ? ZP_EVICT_CLOCKPRO : ZP_EVICT_LIFO;
    config->pinned = (bytes[3] & 0x0e) == 0x0e;
    config->decay_ms = 1000;
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    helper_allow(false);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct operation operations[512];
    if (size < 8) return 0;
    memset(&m, 0, sizeof m);
    os_fault_configure(-1, 0, 0, 0);
    os_fault_locks(0, 0);
    zp_config config;
    configure(&config, data);
    m.faults = config.pinned; /* the machine's limit on locked memory may refuse */
    m.pool = zp_pool_create(&config);
    HOLDS(m.pool, "no pool");
    size_t n = (size - 4) / sizeof(struct operation);
    if (n > 512) n = 512;
    memcpy(operations, data + 4, n * sizeof(struct operation));
    run(operations, n);
    os_fault_configure(-1, 0, 0, 0);
    os_fault_locks(0, 0);
    check_pool();
    for (unsigned i = 0; i < N_SLOTS; i++)
        if (m.buffers[i].p) op_put(&m.buffers[i]);
    zp_pool_trim(m.pool, 0);
    check_pool();
    zp_stats stats;
    zp_pool_stats(m.pool, &stats);
    HOLDS(stats.bytes_live == 0 && stats.bytes_cached == 0, "buffers were lost");
    HOLDS(stats.bytes_dirty == 0, "a trim to nothing left idle memory");
    zp_pool_destroy(m.pool);
    return 0;
}
