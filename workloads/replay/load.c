// SPDX-License-Identifier: MIT
// load: resolves addresses to slots in the order of the file, so that a replay needs no addresses.
//
// Frees of blocks that were allocated before the trace began, or below its limit, are left out. A block whose
// address comes again without a free (its free was lost) stays live until the end.
#include "load.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_THREADS 4096

struct live {
    uint64_t address; // 0: never used
    uint32_t slot;    // 0: not live now
    uint64_t size;
};

struct map {
    struct live *entries;
    size_t mask;
};

void *load_table(size_t bytes) {
    void *area =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return area == MAP_FAILED ? NULL : area;
}

static struct live *find(struct map *map, uint64_t address) {
    size_t at = (size_t)((address >> 4) * 0x9e3779b97f4a7c15ULL >> 20) & map->mask;
    while (map->entries[at].address && map->entries[at].address != address)
        at = (at + 1) & map->mask;
    map->entries[at].address = address;
    return &map->entries[at];
}

static struct load_thread *thread_of(struct load *load, uint32_t id) {
    for (size_t i = 0; i < load->n_threads; i++)
        if (load->threads[i].id == id) return &load->threads[i];
    if (load->n_threads == MAX_THREADS) return NULL;
    load->threads[load->n_threads].id = id;
    return &load->threads[load->n_threads++];
}

static struct load_call *append(struct load *load, struct load_thread *thread,
                                const struct trace_record *record) {
    size_t index = ++load->n_calls;
    if (thread->last)
        load->calls[thread->last].next_of_thread = index;
    else
        thread->first = index;
    thread->last = index;
    struct load_call *call = &load->calls[index];
    call->op = record->op;
    call->size = record->size;
    call->align_log2 = record->align_log2;
    return call;
}

static void begin_block(struct load *load, struct map *map, struct load_call *call, uint64_t address) {
    struct live *live = find(map, address);
    call->slot = (uint32_t)++load->n_slots;
    live->slot = call->slot;
    live->size = call->size;
    load->bytes += call->size;
}

static void resolve(struct load *load, struct map *map, uint64_t *pending_size, struct load_thread *thread,
                    const struct trace_record *record) {
    if (record->op == OP_FREE || record->op == OP_REALLOC_BEGIN) {
        struct live *live = find(map, record->address);
        uint32_t slot = live->slot;
        if (record->op == OP_FREE) {
            if (slot) append(load, thread, record)->old_slot = slot;
        } else {
            thread->pending_slot = slot;
            pending_size[thread - load->threads] = live->size;
        }
        live->slot = 0;
        return;
    }
    if (!record->address) return; // a realloc that failed; its block is given up
    struct load_call *call = append(load, thread, record);
    if (record->op == OP_REALLOC_END) {
        call->old_slot = thread->pending_slot;
        call->old_size = pending_size[thread - load->threads];
        thread->pending_slot = 0;
    }
    begin_block(load, map, call, record->address);
}

static const char *read_records(struct load *load, const struct trace_record *records, size_t n) {
    struct map map = {.mask = 1023};
    while (map.mask < 2 * n)
        map.mask = 2 * map.mask + 1;
    map.entries = load_table((map.mask + 1) * sizeof *map.entries);
    load->calls = load_table((n + 1) * sizeof *load->calls);
    load->threads = load_table(MAX_THREADS * sizeof *load->threads);
    uint64_t *pending_size = load_table(MAX_THREADS * sizeof *pending_size);
    if (!map.entries || !load->calls || !load->threads || !pending_size)
        return "too large for this machine's memory";
    for (size_t i = 1; i < n; i++) {
        if (records[i].op == OP_NONE) continue;
        if (records[i].op >= OP_COUNT || records[i].align_log2 > 40 || records[i].size >> 46)
            return "damaged";
        struct load_thread *thread = thread_of(load, records[i].thread);
        if (!thread) return "more than 4096 threads";
        resolve(load, &map, pending_size, thread, &records[i]);
    }
    munmap(map.entries, (map.mask + 1) * sizeof *map.entries);
    munmap(pending_size, MAX_THREADS * sizeof *pending_size);
    return NULL;
}

const char *load_file(struct load *load, const char *path) {
    memset(load, 0, sizeof *load);
    struct stat found;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return "cannot be opened";
    if (fstat(file, &found) || !S_ISREG(found.st_mode) ||
        (size_t)found.st_size < sizeof(struct trace_header)) {
        close(file);
        return "no trace of zeropool";
    }
    size_t bytes = (size_t)found.st_size;
    const void *data = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, file, 0);
    close(file);
    if (data == MAP_FAILED) return "cannot be read";
    const struct trace_header *header = data;
    const char *problem = "no trace of zeropool";
    if (!memcmp(header->magic, TRACE_MAGIC, sizeof header->magic) &&
        header->record_bytes == sizeof(struct trace_record))
        problem = read_records(load, data, bytes / sizeof(struct trace_record));
    munmap((void *)(uintptr_t)data, bytes);
    return problem;
}
