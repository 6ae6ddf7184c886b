// SPDX-License-Identifier: MIT
// trace: a library to preload that writes large allocation calls into a file, see format.h. It serves them
// with glibc.
//
// Whatever happens, the program goes on as without it: no lock, no allocation, no descriptor that stays open,
// errno kept. Records lie in mapped pieces of the file whose disk space is reserved first, so a full disk
// ends the trace and not the program, and a program that is killed leaves what it did until then. A forked
// child does not write; a program executed anew opens a file of its own.
#include "format.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define PIECE_BYTES (4UL << 20)
#define PIECE_RECORDS (PIECE_BYTES / sizeof(struct trace_record))
#define MAX_PIECES 256 // 1 GiB

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *block);

static _Atomic(struct trace_record *) pieces[MAX_PIECES];
static atomic_uint_fast64_t next_record = 1; // slot 0 is the header
static atomic_bool active;
static size_t least_bytes = 32768;
static pid_t owner;
static uint64_t start_ns;
static char path[PATH_MAX];
static struct stat identity;
static __thread uint32_t thread_id __attribute__((tls_model("initial-exec")));

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

// The piece, mapped by whoever needs it first; NULL ends the trace.
static struct trace_record *map_piece(size_t number) {
    struct stat found;
    int file = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (file < 0) return NULL;
    void *area = MAP_FAILED;
    if (fstat(file, &found) == 0 && found.st_dev == identity.st_dev && found.st_ino == identity.st_ino &&
        posix_fallocate(file, (off_t)(number * PIECE_BYTES), PIECE_BYTES) == 0)
        area =
            mmap(NULL, PIECE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, (off_t)(number * PIECE_BYTES));
    close(file);
    if (area == MAP_FAILED) return NULL;
    madvise(area, PIECE_BYTES, MADV_DONTFORK);
    struct trace_record *before = NULL;
    if (atomic_compare_exchange_strong(&pieces[number], &before, area)) return area;
    munmap(area, PIECE_BYTES);
    return before;
}

static void record(enum trace_op op, const void *block, size_t size, size_t alignment) {
    if (!atomic_load_explicit(&active, memory_order_acquire)) return;
    int saved = errno;
    if (getpid() != owner) {
        atomic_store(&active, false); // a child: its copy of this flag
        errno = saved;
        return;
    }
    uint64_t index = atomic_fetch_add(&next_record, 1);
    size_t number = index / PIECE_RECORDS;
    struct trace_record *piece = number < MAX_PIECES ? atomic_load(&pieces[number]) : NULL;
    if (!piece && number < MAX_PIECES) piece = map_piece(number);
    if (!piece) {
        atomic_store(&active, false);
        errno = saved;
        return;
    }
    if (!thread_id) thread_id = (uint32_t)syscall(SYS_gettid);
    struct trace_record *slot = &piece[index % PIECE_RECORDS];
    slot->time_ns = now_ns() - start_ns;
    slot->address = (uint64_t)(uintptr_t)block;
    slot->size = size;
    slot->thread = thread_id;
    slot->align_log2 = alignment ? (uint8_t)__builtin_ctzl(alignment) : 0;
    atomic_signal_fence(memory_order_release);
    slot->op = (uint8_t)op;
    errno = saved;
}

__attribute__((constructor)) static void begin(void) {
    const char *wanted = getenv("ZEROPOOL_TRACE"), *least = getenv("ZEROPOOL_TRACE_MIN");
    if (!wanted || !*wanted) return;
    if (least && *least) least_bytes = strtoul(least, NULL, 10);
    int saved = errno, file = -1;
    owner = getpid();
    for (int i = 0; i < 10 && file < 0; i++) { // a process that executes another program keeps its number
        int n = snprintf(path, sizeof path, "%s.%d.%d", wanted, (int)owner, i);
        if (n < 0 || (size_t)n >= sizeof path) break;
        file = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (file < 0 && errno != EEXIST) break;
    }
    if (file >= 0) {
        bool known = fstat(file, &identity) == 0;
        close(file);
        struct trace_record *first = known ? map_piece(0) : NULL;
        if (first) {
            struct trace_header *header = (struct trace_header *)first;
            memcpy(header->magic, TRACE_MAGIC, sizeof header->magic);
            header->least_bytes = least_bytes;
            header->pid = (uint32_t)owner;
            header->record_bytes = sizeof(struct trace_record);
            start_ns = now_ns();
            atomic_store_explicit(&active, true, memory_order_release);
        }
    }
    errno = saved;
}

// What glibc itself would say; its header before the block tells. The program's malloc_usable_size may be
// another allocator's.
static size_t usable(const void *block) {
    size_t word;
    memcpy(&word, (const char *)block - sizeof word, sizeof word);
    return (word & ~(size_t)7) - ((word & 2) ? 2 * sizeof word : sizeof word);
}

EXPORT size_t malloc_usable_size(void *block) {
    return block ? usable(block) : 0;
}

EXPORT void *malloc(size_t size) {
    void *block = __libc_malloc(size);
    if (block && size >= least_bytes) record(OP_MALLOC, block, size, 0);
    return block;
}

EXPORT void *calloc(size_t n, size_t size) {
    void *block = __libc_calloc(n, size);
    if (block && n * size >= least_bytes) record(OP_CALLOC, block, n * size, 0);
    return block;
}

EXPORT void free(void *block) {
    if (!block) return;
    int saved = errno;
    if (usable(block) >= least_bytes) record(OP_FREE, block, 0, 0);
    __libc_free(block);
    errno = saved;
}

EXPORT void cfree(void *block);
EXPORT void cfree(void *block) {
    free(block);
}

EXPORT void *realloc(void *block, size_t size) {
    if (!block) return malloc(size);
    if (!size) {
        free(block);
        return NULL;
    }
    bool large = size >= least_bytes || usable(block) >= least_bytes;
    if (large) record(OP_REALLOC_BEGIN, block, 0, 0);
    void *moved = __libc_realloc(block, size);
    if (large) record(OP_REALLOC_END, moved, size, 0);
    return moved;
}

EXPORT void *reallocarray(void *block, size_t n, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(block, bytes);
}

EXPORT void *memalign(size_t alignment, size_t size) {
    void *block = __libc_memalign(alignment, size);
    if (block && size >= least_bytes) record(OP_ALIGNED, block, size, alignment);
    return block;
}

EXPORT void *aligned_alloc(size_t alignment, size_t size) {
    return memalign(alignment, size);
}
EXPORT void *valloc(size_t size) {
    return memalign((size_t)sysconf(_SC_PAGESIZE), size);
}

EXPORT void *pvalloc(size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (size > SIZE_MAX - page) {
        errno = ENOMEM;
        return NULL;
    }
    return memalign(page, (size + page - 1) & ~(page - 1));
}

EXPORT int posix_memalign(void **result, size_t alignment, size_t size) {
    if (alignment % sizeof(void *) || !alignment || (alignment & (alignment - 1))) return EINVAL;
    int saved = errno;
    void *block = memalign(alignment, size);
    errno = saved;
    if (!block) return ENOMEM;
    *result = block;
    return 0;
}
