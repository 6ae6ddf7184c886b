/* SPDX-License-Identifier: MIT */
/* format.h: the file in which libzeropool-trace.so keeps what a program asked of its allocator, and
 * zeropool-replay reads.
 *
 * A header as large as a record, then records in the order in which they were claimed. A record whose op is
 * OP_NONE was never finished (the program was killed there) and is skipped. Numbers are in the byte order of
 * the machine.
 */
#ifndef REPLAY_FORMAT_H
#define REPLAY_FORMAT_H

#include <stdint.h>

#define TRACE_MAGIC "ZPTRACE1"

enum trace_op {
    OP_NONE,
    OP_MALLOC,        /* address, size */
    OP_CALLOC,        /* address, size */
    OP_ALIGNED,       /* address, size, align_log2 */
    OP_FREE,          /* address; written before the block is given back */
    OP_REALLOC_BEGIN, /* address of the old block; before the call */
    OP_REALLOC_END,   /* address of the new block or 0, size; after it, by the same thread */
    OP_COUNT
};

struct trace_record {
    uint64_t time_ns; /* since the trace began */
    uint64_t address;
    uint64_t size;
    uint32_t thread;
    uint8_t op;
    uint8_t align_log2;
    uint16_t unused;
};

struct trace_header {
    char magic[8];
    uint64_t least_bytes; /* smaller requests are not in the file */
    uint32_t pid;
    uint32_t record_bytes;
    char unused[8];
};

_Static_assert(sizeof(struct trace_record) == 32 && sizeof(struct trace_header) == 32, "one size for both");

#endif
