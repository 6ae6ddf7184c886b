// SPDX-License-Identifier: MIT
// The safetensors file layout: 8 bytes little-endian header length, JSON header, tensor data.
//
// The header maps names to {"dtype", "shape", "data_offsets": [begin, end]}, offsets counted from the end of
// the header, plus an optional "__metadata__" map of strings. One deliberate liberty: the files written here
// may let several tensors point to the same data region, so that a model of many layers fits on a small disk.
// Strict readers of the format reject such overlaps; without sharing the files are strictly valid.
#ifndef WORKLOADS_SAFETENSORS_H
#define WORKLOADS_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SAFETENSORS_NAME = 80, SAFETENSORS_RANK = 8, SAFETENSORS_NOTE = 160 };

struct safetensors_tensor {
    char name[SAFETENSORS_NAME];
    char dtype[8]; // "U8", "F16", "F32", ...
    unsigned rank;
    uint64_t shape[SAFETENSORS_RANK];
    uint64_t begin, end; // bytes, relative to safetensors_index.data_start
};

struct safetensors_index {
    struct safetensors_tensor *tensor; // malloc'd; release with safetensors_finish
    size_t count;
    uint64_t data_start;         // file offset of the data
    char note[SAFETENSORS_NOTE]; // __metadata__'s entry "note", empty if there is none
};

// Bytes per element, 0 for an unknown dtype.
unsigned safetensors_element_bytes(const char *dtype);

// Write length and header at the file's current position. Returns the file offset where data starts, 0 with
// errno set on failure. `note` and names must be plain ASCII without quotes and backslashes.
uint64_t safetensors_write_header(int fd, const struct safetensors_tensor *tensor, size_t count,
                                  const char *note);

// Read and validate the header from offset 0. Returns NULL, or what is wrong (a constant string; nothing to
// release).
const char *safetensors_read_header(int fd, struct safetensors_index *index);

// Parse a header held in memory; data_bytes is how much data follows it. As above; for tests and read_header.
const char *safetensors_parse(const char *json, size_t length, uint64_t data_bytes,
                              struct safetensors_index *index);

// NULL if there is none of that name.
const struct safetensors_tensor *safetensors_find(const struct safetensors_index *index, const char *name);

void safetensors_finish(struct safetensors_index *index);

#endif
