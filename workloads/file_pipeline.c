// SPDX-License-Identifier: MIT
// Workload: read files, transform them and write the results, as three stages of threads joined by bounded
// queues.
//
// What it stands for: compressors, encoders, backup and ETL jobs. Buffers of 4 KiB to 1 MiB are allocated by
// one thread and freed by the next, so an allocator whose caches are per thread sees only half of each
// block's life in each of them. Queues bound how many are live.
//
//   reader ---- chunk: malloc, read ----> transformer ---- record: malloc, free chunk ----> writer: write,
//   free
//
// Each file is cut into chunks of one size; the size moves on with every pass, so that after five passes each
// file has been cut into each size. An output file is a sequence of records: 16 bytes of header (struct
// record), then the chunk with a constant added to every word. The last writer of a file reads it back and
// checks it.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "common/io.h"
#include "common/options.h"
#include "common/pattern.h"
#include "common/queue.h"
#include "common/report.h"
#include "common/tempdir.h"

enum { MOST_THREADS = 64, MOST_FILES = 100000, INPUT = 'i', OUTPUT = 'o' };

static const size_t chunk_sizes[] = {4096, 16384, 65536, 262144, 1048576};
enum { CHUNK_SIZES = sizeof chunk_sizes / sizeof *chunk_sizes };

static const uint64_t transform_delta = 0x0123456789abcdefu;

static uint64_t files, file_bytes, passes, readers, transformers, writers, queue_depth;

static const struct options_entry own_options[] = {
    {"files", OPTIONS_COUNT, &files, "100", "500", 1, MOST_FILES, "input files, and as many output files"},
    {"file-bytes", OPTIONS_BYTES, &file_bytes, "8M", NULL, 4096, 1e12,
     "mean size of a file, times --scale; sizes vary from half to one and a half of it"},
    {"passes", OPTIONS_COUNT, &passes, "10", NULL, 1, 1e6, "times all files are processed"},
    {"readers", OPTIONS_COUNT, &readers, "1", NULL, 1, MOST_THREADS, "threads of the first stage"},
    {"transformers", OPTIONS_COUNT, &transformers, "2", NULL, 1, MOST_THREADS, "threads of the second stage"},
    {"writers", OPTIONS_COUNT, &writers, "1", NULL, 1, MOST_THREADS, "threads of the third stage"},
    {"queue", OPTIONS_COUNT, &queue_depth, "16", NULL, 1, QUEUE_MOST,
     "chunks waiting between two stages at most"},
    {NULL, OPTIONS_FLAG, NULL, NULL, NULL, 0, 0, NULL},
};

static const struct options_program program = {
    .name = "file_pipeline",
    .purpose =
        "Read, transform and write real files in three stages that hand malloc'd buffers across threads.",
    .initial_scale = "0.25",
    .scale_help = "multiplies the size of the files",
    .own = own_options,
};

// One file in one pass. Owned by the stages together; the writer that brings `remaining` to 0 finishes it.
struct job {
    unsigned number;
    int in, out;
    uint64_t bytes;
    size_t chunk; // bytes per chunk, the last one may be shorter
    atomic_uint_fast64_t remaining;
};

// What travels through the queues. Owned by the stage that holds it.
struct chunk {
    struct job *job;
    uint64_t index;
    size_t bytes;        // of the data, without a record's header
    unsigned char *data; // from reader to transformer the data, afterwards a record
};

// What starts each record of an output file.
struct record {
    uint64_t offset;
    uint64_t bytes;
};

static struct queue to_transform, to_write;
static struct meter total;            // see meter_merge
static atomic_uint_fast64_t next_job; // in one pass, the next file no reader has taken
static struct job jobs[MOST_FILES];   // jobs[i] is file i of the running pass
static uint64_t pass;                 // changes only while no stage runs
static atomic_bool inject;            // damage one chunk, to prove that it is noticed

// A file's content is one stream of its own identity.
static struct pattern content(unsigned file, uint64_t offset, uint64_t delta) {
    uint64_t base = pattern_base(rng_combine(options_common.seed, file)) + delta;
    return (struct pattern){base, offset / 8, PATTERN_FULL};
}

static uint64_t file_size(unsigned file) {
    struct rng r;
    rng_seed(&r, rng_combine(options_common.seed, file));
    uint64_t mean = (uint64_t)((double)file_bytes * options_common.scale);
    if (mean < 64) mean = 64;
    return rng_between(&r, mean / 2, mean + mean / 2) & ~(uint64_t)7;
}

static void make_inputs(void) {
    size_t piece = 1 << 20;
    unsigned char *buffer = malloc(piece);
    if (buffer == NULL) fail_memory("malloc", piece);
    tempdir_create();
    for (unsigned i = 0; i < files; i++) {
        int fd = tempdir_new_file(INPUT, i);
        uint64_t size = file_size(i);
        for (uint64_t at = 0; at < size; at += piece) {
            size_t bytes = size - at < piece ? (size_t)(size - at) : piece;
            pattern_fill(buffer, bytes, content(i, at, 0));
            if (!io_write(fd, buffer, bytes)) fail_errno("cannot write an input file");
        }
        close(fd);
        // Outputs exist before the stages start as well: see tempdir.h.
        close(tempdir_new_file(OUTPUT, i));
    }
    free(buffer);
}

// ---- Stage 1
// ---------------------------------------------------------------------------------------------------

static void read_file(struct meter *m, struct job *job) {
    job->bytes = file_size(job->number);
    job->chunk = chunk_sizes[(job->number + pass) % CHUNK_SIZES];
    job->in = tempdir_open_file(INPUT, job->number, O_RDONLY);
    job->out = tempdir_open_file(OUTPUT, job->number, O_RDWR | O_TRUNC);
    uint64_t chunks = (job->bytes + job->chunk - 1) / job->chunk;
    atomic_store(&job->remaining, chunks);
    for (uint64_t i = 0; i < chunks; i++) {
        uint64_t rest = job->bytes - i * job->chunk;
        struct chunk *c = meter_malloc(m, sizeof *c);
        *c = (struct chunk){job, i, rest < job->chunk ? (size_t)rest : job->chunk, NULL};
        c->data = meter_malloc(m, c->bytes);
        ssize_t got = io_read(job->in, c->data, c->bytes);
        if (got < 0) fail_errno("cannot read an input file");
        if ((size_t)got < c->bytes) fail_exit(FAIL_RUN, "input file %u is shorter than it was", job->number);
        queue_put(&to_transform, c);
    }
}

static void *run_reader(void *unused) {
    struct meter m;
    meter_start(&m);
    for (;;) {
        uint64_t number = atomic_fetch_add(&next_job, 1);
        if (number >= files) break;
        jobs[number].number = (unsigned)number;
        read_file(&m, &jobs[number]);
    }
    queue_done(&to_transform);
    meter_merge(&total, &m);
    return unused;
}

// ---- Stage 2
// ---------------------------------------------------------------------------------------------------

static void transform(struct meter *m, struct chunk *c) {
    uint64_t begin = clock_begin(), sum = 0, offset = c->index * c->job->chunk;
    struct record head = {offset, c->bytes};
    unsigned char *record = meter_malloc(m, sizeof head + c->bytes);
    memcpy(record, &head, sizeof head);
    pattern_shift(record + sizeof head, c->data, c->bytes, transform_delta);

    if (atomic_load_explicit(&inject, memory_order_relaxed) && atomic_exchange(&inject, false))
        pattern_damage(c->data, c->bytes);
    // After the record was written: the chunk must have survived that.
    size_t wrong = pattern_check(c->data, c->bytes, content(c->job->number, offset, 0), &sum);
    if (wrong != PATTERN_INTACT)
        fail_exit(FAIL_RUN, "corruption: chunk %llu of file %u (%zu bytes) is wrong at byte %zu",
                  (unsigned long long)c->index, c->job->number, c->bytes, wrong);
    m->checksum += rng_combine(sum, c->bytes);
    meter_free(m, c->data);
    c->data = record;
    meter_unit(m, begin);
}

static void *run_transformer(void *unused) {
    struct meter m;
    meter_start(&m);
    struct chunk *c;
    while ((c = queue_get(&to_transform)) != NULL) {
        transform(&m, c);
        queue_put(&to_write, c);
    }
    queue_done(&to_write);
    meter_merge(&total, &m);
    return unused;
}

// ---- Stage 3
// ---------------------------------------------------------------------------------------------------

static void check_record(struct meter *m, const struct job *job, const unsigned char *record, uint64_t offset,
                         size_t bytes, const char *where) {
    struct record head;
    uint64_t sum = 0;
    memcpy(&head, record, sizeof head);
    size_t wrong =
        pattern_check(record + sizeof head, bytes, content(job->number, offset, transform_delta), &sum);
    if (head.offset != offset || head.bytes != bytes)
        fail_exit(FAIL_RUN, "corruption: header of a record of file %u %s", job->number, where);
    if (wrong != PATTERN_INTACT)
        fail_exit(FAIL_RUN, "corruption: record of file %u at %llu is wrong at byte %zu %s", job->number,
                  (unsigned long long)offset, wrong, where);
    m->checksum += rng_combine(sum, bytes);
}

// Read the whole output back, one malloc'd buffer per record, and close the file.
static void finish_file(struct meter *m, struct job *job) {
    off_t at = 0;
    for (uint64_t offset = 0; offset < job->bytes; offset += job->chunk) {
        uint64_t rest = job->bytes - offset;
        size_t bytes = rest < job->chunk ? (size_t)rest : job->chunk;
        size_t length = sizeof(struct record) + bytes;
        unsigned char *record = meter_malloc(m, length);
        ssize_t got = io_read_at(job->out, record, length, at);
        if (got < 0) fail_errno("cannot read an output file");
        if ((size_t)got < length) fail_exit(FAIL_RUN, "corruption: output file %u is too short", job->number);
        check_record(m, job, record, offset, bytes, "in the file");
        meter_free(m, record);
        at += (off_t)length;
    }
    if (close(job->in) != 0 || close(job->out) != 0) fail_errno("cannot close a file");
}

static void *run_writer(void *unused) {
    struct meter m;
    meter_start(&m);
    struct chunk *c;
    while ((c = queue_get(&to_write)) != NULL) {
        struct job *job = c->job;
        // Records may arrive out of order; their place follows from their index.
        off_t at = (off_t)(c->index * (job->chunk + sizeof(struct record)));
        size_t length = sizeof(struct record) + c->bytes;
        if (!io_write_at(job->out, c->data, length, at)) fail_errno("cannot write an output file");
        check_record(&m, job, c->data, c->index * job->chunk, c->bytes, "in memory");
        meter_free(&m, c->data);
        meter_free(&m, c);
        // Releases this writer's records, acquires the others': the last one sees the file complete.
        if (atomic_fetch_sub(&job->remaining, 1) == 1) finish_file(&m, job);
    }
    meter_merge(&total, &m);
    return unused;
}

// ---- Start and end
// ---------------------------------------------------------------------------------------------

static void start_stage(pthread_t *thread, uint64_t count, void *(*run)(void *)) {
    for (uint64_t i = 0; i < count; i++) {
        errno = pthread_create(&thread[i], NULL, run, NULL);
        if (errno != 0) fail_errno("cannot start a thread");
    }
}

static void join_stage(const pthread_t *thread, uint64_t count) {
    for (uint64_t i = 0; i < count; i++)
        pthread_join(thread[i], NULL);
}

static void run_pass(void) {
    pthread_t reader[MOST_THREADS], transformer[MOST_THREADS], writer[MOST_THREADS];
    queue_init(&to_transform, (unsigned)queue_depth, (unsigned)readers);
    queue_init(&to_write, (unsigned)queue_depth, (unsigned)transformers);
    atomic_store(&next_job, 0);
    start_stage(writer, writers, run_writer);
    start_stage(transformer, transformers, run_transformer);
    start_stage(reader, readers, run_reader);
    join_stage(reader, readers);
    join_stage(transformer, transformers);
    join_stage(writer, writers);
    queue_finish(&to_transform);
    queue_finish(&to_write);
}

int main(int argc, char **argv) {
    clock_start();
    options_parse(&program, argc, argv);
    meter_start(&total);
    atomic_store(&inject, options_common.inject_corruption);
    make_inputs();

    report_begin();
    for (pass = 0; pass < passes; pass++)
        run_pass();
    int status = report_finish("chunks", &total);
    tempdir_remove();
    return status;
}
