/* SPDX-License-Identifier: MIT */
/* soak_worker.c: what scripts/soak runs: rounds of malloc and free that know what they should find, in a
 * program that knows of no pool.
 *
 * A round has its own number of threads and mix of sizes. Its threads allocate in all ways there are, hand
 * blocks to each other, reallocate, end early; one forks children that check what they have inherited and
 * allocate themselves; one trims. Each block holds its size, a seed and words derived from it in every page
 * and at its end. After a round all is freed and trimmed: the line it prints tells resident memory and
 * mappings at that quiet point.
 *
 * usage: soak_worker SECONDS SEED THREADS_MAX
 */
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define N_SLOTS 64
#define N_HELD 10
#define THREADS_MAX 64
#define ROUND_MS 1200
#define STRIDE 4096

struct header {
    uint64_t size, seed, check;
};

struct mix {
    const char *name;
    size_t usual, top; /* nine of ten up to usual, the others up to top */
};
static const struct mix mixes[] = {
    {"small", 2 * KIB, 64 * KIB},
    {"medium", 128 * KIB, 1 * MIB},
    {"large", 2 * MIB, 24 * MIB},
    {"all", 40 * KIB, 8 * MIB},
};

static _Atomic(struct header *) slots[N_SLOTS];
static const struct mix *mix;
static _Atomic bool stop;
static _Atomic uint64_t n_operations, n_mismatches, n_forks, n_failed;
static _Atomic size_t live_bytes;
#define LIVE_MAX (384 * MIB)

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* --- contents --- */

static uint64_t word(uint64_t seed, size_t at) {
    return (seed ^ at) * 0x9e3779b97f4a7c15u + at;
}

static void fill(struct header *h, size_t size, uint64_t seed) {
    *h = (struct header){size, seed, word(seed, size)};
    for (size_t at = STRIDE; at + 8 <= size; at += STRIDE)
        memcpy((char *)h + at, &(uint64_t){word(seed, at)}, 8);
    if (size >= sizeof *h + 8) memcpy((char *)h + size - 8, &(uint64_t){word(seed, 1)}, 8);
}

static void mismatch(const char *what, const void *p) {
    atomic_fetch_add(&n_mismatches, 1);
    fprintf(stderr, "soak_worker: %s (%p, process %d)\n", what, p, (int)getpid());
}

/* The first n bytes of what was filled; the words at the end only where they are among them. */
static bool intact(const struct header *h, size_t n) {
    if (h->check != word(h->seed, h->size)) {
        mismatch("the header of a block changed", h);
        return false;
    }
    uint64_t found;
    for (size_t at = STRIDE; at + 8 <= n; at += STRIDE) {
        if (at + 16 > h->size) break; /* under the word at the end */
        memcpy(&found, (const char *)h + at, 8);
        if (found == word(h->seed, at)) continue;
        mismatch("a page of a block changed", (const char *)h + at);
        return false;
    }
    if (n == h->size && n >= sizeof *h + 8) {
        memcpy(&found, (const char *)h + n - 8, 8);
        if (found == word(h->seed, 1)) return true;
        mismatch("the end of a block changed", h);
        return false;
    }
    return true;
}

static size_t random_size(uint64_t *rng) {
    size_t top = next_random(rng) % 10 ? mix->usual : mix->top;
    if (atomic_load_explicit(&live_bytes, memory_order_relaxed) > LIVE_MAX) top = 64 * KIB;
    return sizeof(struct header) + next_random(rng) % top;
}

static struct header *obtain(uint64_t *rng) {
    size_t size = random_size(rng), alignment = (size_t)16 << next_random(rng) % 12;
    void *p = NULL;
    switch (next_random(rng) % 8) {
    case 0:
    case 1:
        p = calloc(1, size);
        for (size_t at = 0; p && at + 8 <= size; at += 512) {
            uint64_t found;
            memcpy(&found, (char *)p + at, 8);
            if (found) {
                mismatch("calloc gave memory that is not zero", (char *)p + at);
                break;
            }
        }
        break;
    case 2:
        if (posix_memalign(&p, alignment, size)) p = NULL;
        if ((uintptr_t)p % alignment) mismatch("misaligned", p);
        break;
    default:
        p = malloc(size);
    }
    if (!p) {
        atomic_fetch_add(&n_failed, 1);
        return NULL;
    }
    if (malloc_usable_size(p) < size) mismatch("usable size below the request", p);
    fill(p, size, next_random(rng));
    atomic_fetch_add_explicit(&live_bytes, size, memory_order_relaxed);
    return p;
}

static void give_back(struct header *h) {
    if (!h) return;
    intact(h, h->size);
    atomic_fetch_sub_explicit(&live_bytes, h->size, memory_order_relaxed);
    free(h);
}

static struct header *resize(struct header *h, uint64_t *rng) {
    size_t before = h->size, size = random_size(rng);
    intact(h, before);
    struct header *p = realloc(h, size);
    if (!p) {
        atomic_fetch_add(&n_failed, 1);
        return h;
    }
    intact(p, before < size ? before : size);
    fill(p, size, next_random(rng));
    atomic_fetch_add_explicit(&live_bytes, size - before, memory_order_relaxed);
    return p;
}

/* --- threads --- */

static void *worker(void *argument) {
    uint64_t rng = (uintptr_t)argument | 1, n = 0, life = 200 + next_random(&rng) % 4000;
    struct header *held[N_HELD] = {NULL};
    for (; n < life && !atomic_load_explicit(&stop, memory_order_relaxed); n++) {
        struct header **h = &held[next_random(&rng) % N_HELD];
        unsigned dice = next_random(&rng) % 100;
        if (!*h) {
            *h = obtain(&rng);
        } else if (dice < 55) {
            give_back(*h);
            *h = NULL;
        } else if (dice < 80) {
            /* acq_rel: whoever takes the block must see what was written to it. */
            *h = atomic_exchange_explicit(&slots[next_random(&rng) % N_SLOTS], *h, memory_order_acq_rel);
        } else {
            *h = resize(*h, &rng);
        }
    }
    for (unsigned i = 0; i < N_HELD; i++)
        give_back(held[i]);
    atomic_fetch_add(&n_operations, n);
    return NULL;
}

static void *worker_chain(void *argument) {
    uint64_t rng = (uintptr_t)argument | 1;
    while (!atomic_load(&stop)) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, worker, (void *)(uintptr_t)(next_random(&rng) >> 8))) break;
        pthread_join(thread, NULL);
    }
    return NULL;
}

/* In the child: what was inherited is whole, and allocation goes on. */
static int in_child(struct header **own, unsigned n, uint64_t *rng) {
    uint64_t before = atomic_load(&n_mismatches);
    for (unsigned i = 0; i < n; i++)
        if (own[i]) intact(own[i], own[i]->size);
    for (unsigned i = 0; i < 40; i++) {
        struct header **h = &own[next_random(rng) % n];
        give_back(*h);
        *h = obtain(rng);
    }
    for (unsigned i = 0; i < n; i++)
        give_back(own[i]);
    return atomic_load(&n_mismatches) != before;
}

static void *forker(void *argument) {
    uint64_t rng = (uintptr_t)argument | 1;
    struct header *own[6];
    while (!atomic_load(&stop)) {
        for (unsigned i = 0; i < 6; i++)
            own[i] = obtain(&rng);
        pid_t child = fork();
        if (child == 0) {
            alarm(60); /* a child that hangs is a failure, and no reason to wait for ever */
            _exit(in_child(own, 6, &rng));
        }
        int status = 0;
        if (child > 0 && (waitpid(child, &status, 0) != child || status != 0))
            mismatch("a forked child failed", NULL);
        atomic_fetch_add(&n_forks, child > 0);
        for (unsigned i = 0; i < 6; i++)
            give_back(own[i]);
        usleep((useconds_t)(20000 + next_random(&rng) % 60000));
    }
    return NULL;
}

static void *trimmer(void *argument) {
    uint64_t rng = (uintptr_t)argument | 1;
    while (!atomic_load(&stop)) {
        malloc_trim(next_random(&rng) % 3 ? 0 : 8 * MIB);
        usleep((useconds_t)(next_random(&rng) % 150000));
    }
    return NULL;
}

/* --- rounds --- */

static size_t resident_kib(void) {
    size_t size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%zu %zu", &size, &resident) != 2) resident = 0;
    if (file) fclose(file);
    return resident * 4;
}

static size_t n_mappings(void) {
    size_t n = 0;
    FILE *file = fopen("/proc/self/maps", "r");
    for (int c; file && (c = getc(file)) != EOF;)
        n += c == '\n';
    if (file) fclose(file);
    return n;
}

static void one_round(unsigned number, unsigned n_threads, uint64_t until_ms, uint64_t *rng) {
    pthread_t threads[THREADS_MAX + 2];
    unsigned n_started = 0;
    atomic_store(&stop, false);
    for (; n_started < n_threads + 2; n_started++) {
        void *(*entry)(void *) = n_started < n_threads    ? worker_chain
                                 : n_started == n_threads ? forker
                                                          : trimmer;
        if (pthread_create(&threads[n_started], NULL, entry, (void *)(uintptr_t)(next_random(rng) >> 8)))
            break;
    }
    while (now_ms() < until_ms)
        usleep(20000);
    atomic_store(&stop, true);
    while (n_started)
        pthread_join(threads[--n_started], NULL);
    for (unsigned i = 0; i < N_SLOTS; i++)
        give_back(atomic_exchange(&slots[i], NULL));
    malloc_trim(0);
    printf("round %u threads %u mix %s operations %lu forks %lu failed %lu mismatches %lu rss_kib %zu "
           "mappings %zu\n",
           number, n_threads, mix->name, (unsigned long)atomic_load(&n_operations),
           (unsigned long)atomic_load(&n_forks), (unsigned long)atomic_load(&n_failed),
           (unsigned long)atomic_load(&n_mismatches), resident_kib(), n_mappings());
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: soak_worker SECONDS SEED THREADS_MAX\n");
        return 2;
    }
    uint64_t end = now_ms() + strtoull(argv[1], NULL, 10) * 1000;
    uint64_t rng = strtoull(argv[2], NULL, 10) * 0x9e3779b97f4a7c15u | 1;
    unsigned most = (unsigned)strtoul(argv[3], NULL, 10);
    if (most < 1 || most > THREADS_MAX) most = THREADS_MAX;
    for (unsigned number = 1; now_ms() < end; number++) {
        uint64_t until = now_ms() + ROUND_MS;
        mix = &mixes[next_random(&rng) % 4];
        one_round(number, 1 + (unsigned)(next_random(&rng) % most), until < end ? until : end, &rng);
    }
    return atomic_load(&n_mismatches) ? 1 : 0;
}
