// SPDX-License-Identifier: MIT
// Writing and reading safetensors headers, with a JSON reader as small as the format allows.
//
// The reader trusts nothing: every length is checked against what is there, nesting is bounded, integers that
// overflow are errors, and each tensor's extent must match its dtype and shape and lie within the file.
#include "safetensors.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io.h"

enum { SAFETENSORS_NESTING = 16, SAFETENSORS_PREFIX = 8 };
static const uint64_t safetensors_most_header = 100u << 20; // the format's own limit

unsigned safetensors_element_bytes(const char *dtype) {
    static const struct {
        const char *name;
        unsigned bytes;
    } known[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"I16", 2}, {"U16", 2}, {"F16", 2}, {"BF16", 2},
                 {"I32", 4},  {"U32", 4}, {"F32", 4}, {"I64", 8}, {"U64", 8}, {"F64", 8}};
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, dtype) == 0) return known[i].bytes;
    return 0;
}

uint64_t safetensors_write_header(int fd, const struct safetensors_tensor *tensor, size_t count,
                                  const char *note) {
    // Generous: name, dtype, eight 20-digit extents, two offsets and punctuation stay below 384 bytes.
    size_t capacity = 512 + count * 384, used = SAFETENSORS_PREFIX;
    char *text = malloc(capacity);
    if (text == NULL) return 0;
    used += (size_t)snprintf(text + used, capacity - used,
                             "{\"__metadata__\":{\"format\":\"pt\",\"note\":\"%s\"}", note);
    for (size_t t = 0; t < count; t++) {
        used += (size_t)snprintf(text + used, capacity - used, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[",
                                 tensor[t].name, tensor[t].dtype);
        for (unsigned d = 0; d < tensor[t].rank; d++)
            used += (size_t)snprintf(text + used, capacity - used, d == 0 ? "%" PRIu64 : ",%" PRIu64,
                                     tensor[t].shape[d]);
        used +=
            (size_t)snprintf(text + used, capacity - used, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}",
                             tensor[t].begin, tensor[t].end);
    }
    text[used++] = '}';
    // Trailing spaces keep the data aligned, as the format's own writer does.
    while (used % 8 != 0)
        text[used++] = ' ';
    uint64_t length = used - SAFETENSORS_PREFIX;
    for (unsigned i = 0; i < SAFETENSORS_PREFIX; i++)
        text[i] = (char)(length >> (8 * i));
    bool written = io_write(fd, text, used);
    int saved = errno;
    free(text);
    errno = saved;
    return written ? used : 0;
}

// A cursor over the header. The first problem sticks in `error`, and every later step fails quietly.
struct reader {
    const char *at, *end;
    const char *error;
};

static bool reader_fail(struct reader *r, const char *error) {
    if (r->error == NULL) r->error = error;
    return false;
}

static void reader_skip_space(struct reader *r) {
    while (r->at < r->end && strchr(" \t\r\n", *r->at) != NULL && *r->at != '\0')
        r->at++;
}

// Consume `c` if it comes next.
static bool reader_accept(struct reader *r, char c) {
    reader_skip_space(r);
    if (r->error != NULL || r->at == r->end || *r->at != c) return false;
    r->at++;
    return true;
}

static bool reader_expect(struct reader *r, char c) {
    return reader_accept(r, c) || reader_fail(r, "header is not valid JSON");
}

// A string into `into` (size `room`), truncated if longer. \uXXXX becomes '?': no name here needs more.
static bool reader_string(struct reader *r, char *into, size_t room) {
    if (!reader_expect(r, '"')) return false;
    size_t used = 0;
    while (r->at < r->end && *r->at != '"') {
        char c = *r->at++;
        if ((unsigned char)c < 0x20) return reader_fail(r, "control character in a string");
        if (c == '\\') {
            if (r->at == r->end) break;
            c = *r->at++;
            if (c == 'u') {
                if (r->end - r->at < 4) break;
                r->at += 4;
                c = '?';
            }
        }
        if (used + 1 < room) into[used++] = c;
    }
    if (room > 0) into[used] = '\0';
    return reader_expect(r, '"');
}

static bool reader_integer(struct reader *r, uint64_t *value) {
    reader_skip_space(r);
    const char *begin = r->at;
    *value = 0;
    for (; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++) {
        if (__builtin_mul_overflow(*value, 10, value) ||
            __builtin_add_overflow(*value, (uint64_t)(*r->at - '0'), value))
            return reader_fail(r, "a number is too large");
    }
    return r->at > begin || reader_fail(r, "expected a whole number");
}

// [n, n, ...] with at most `most` members.
static bool reader_integers(struct reader *r, uint64_t *into, unsigned most, unsigned *count) {
    *count = 0;
    if (!reader_expect(r, '[')) return false;
    if (reader_accept(r, ']')) return true;
    do {
        if (*count == most) return reader_fail(r, "too many numbers in a list");
        if (!reader_integer(r, &into[(*count)++])) return false;
    } while (reader_accept(r, ','));
    return reader_expect(r, ']');
}

// Step over any value: what later versions of the format may add.
static bool reader_skip_value(struct reader *r, unsigned nesting) {
    if (nesting > SAFETENSORS_NESTING) return reader_fail(r, "header is nested too deeply");
    reader_skip_space(r);
    if (r->at == r->end) return reader_fail(r, "header ends too early");
    char first = *r->at;
    if (first == '"') return reader_string(r, NULL, 0);
    if (first != '{' && first != '[') {
        const char *begin = r->at;
        while (r->at < r->end && strchr(",]} \t\r\n", *r->at) == NULL)
            r->at++;
        return r->at > begin || reader_fail(r, "expected a value");
    }
    r->at++;
    char last = first == '{' ? '}' : ']';
    if (reader_accept(r, last)) return true;
    do {
        if (first == '{' && !(reader_string(r, NULL, 0) && reader_expect(r, ':'))) return false;
        if (!reader_skip_value(r, nesting + 1)) return false;
    } while (reader_accept(r, ','));
    return reader_expect(r, last);
}

static bool reader_metadata(struct reader *r, struct safetensors_index *index) {
    char key[SAFETENSORS_NAME];
    if (!reader_expect(r, '{')) return false;
    if (reader_accept(r, '}')) return true;
    do {
        if (!reader_string(r, key, sizeof key) || !reader_expect(r, ':')) return false;
        bool is_note = strcmp(key, "note") == 0;
        if (!(is_note ? reader_string(r, index->note, sizeof index->note) : reader_skip_value(r, 0)))
            return false;
    } while (reader_accept(r, ','));
    return reader_expect(r, '}');
}

static bool reader_tensor(struct reader *r, uint64_t data_bytes, struct safetensors_tensor *t) {
    char key[SAFETENSORS_NAME];
    uint64_t offsets[2];
    unsigned n_offsets = 0;
    bool has_shape = false;
    if (!reader_expect(r, '{')) return false;
    do {
        if (!reader_string(r, key, sizeof key) || !reader_expect(r, ':')) return false;
        bool understood;
        if (strcmp(key, "dtype") == 0)
            understood = reader_string(r, t->dtype, sizeof t->dtype);
        else if (strcmp(key, "shape") == 0)
            understood = has_shape = reader_integers(r, t->shape, SAFETENSORS_RANK, &t->rank);
        else if (strcmp(key, "data_offsets") == 0)
            understood = reader_integers(r, offsets, 2, &n_offsets);
        else
            understood = reader_skip_value(r, 0);
        if (!understood) return false;
    } while (reader_accept(r, ','));
    if (!reader_expect(r, '}')) return false;
    if (!has_shape || n_offsets != 2) return reader_fail(r, "a tensor lacks shape or data_offsets");

    t->begin = offsets[0];
    t->end = offsets[1];
    if (t->begin > t->end || t->end > data_bytes) return reader_fail(r, "a tensor lies outside the file");
    uint64_t bytes = safetensors_element_bytes(t->dtype);
    if (bytes == 0) return reader_fail(r, "a tensor has an unknown dtype");
    for (unsigned d = 0; d < t->rank; d++)
        if (__builtin_mul_overflow(bytes, t->shape[d], &bytes))
            return reader_fail(r, "a tensor's shape overflows");
    return bytes == t->end - t->begin || reader_fail(r, "a tensor's extent does not match its shape");
}

// Room for one more tensor, growing geometrically as a real loader does.
static struct safetensors_tensor *safetensors_append(struct safetensors_index *index, size_t *capacity) {
    if (index->count == *capacity) {
        size_t wanted = *capacity == 0 ? 64 : *capacity * 2;
        struct safetensors_tensor *grown = realloc(index->tensor, wanted * sizeof *grown);
        if (grown == NULL) return NULL;
        index->tensor = grown;
        *capacity = wanted;
    }
    struct safetensors_tensor *next = &index->tensor[index->count++];
    memset(next, 0, sizeof *next);
    return next;
}

static bool reader_members(struct reader *r, uint64_t data_bytes, struct safetensors_index *index) {
    size_t capacity = 0;
    do {
        char name[SAFETENSORS_NAME];
        if (!reader_string(r, name, sizeof name) || !reader_expect(r, ':')) return false;
        if (strcmp(name, "__metadata__") == 0) {
            if (!reader_metadata(r, index)) return false;
            continue;
        }
        struct safetensors_tensor *t = safetensors_append(index, &capacity);
        if (t == NULL) return reader_fail(r, "out of memory for the tensor table");
        memcpy(t->name, name, sizeof name);
        if (!reader_tensor(r, data_bytes, t)) return false;
    } while (reader_accept(r, ','));
    return reader_expect(r, '}');
}

const char *safetensors_parse(const char *json, size_t length, uint64_t data_bytes,
                              struct safetensors_index *index) {
    struct reader r = {json, json + length, NULL};
    memset(index, 0, sizeof *index);
    if (reader_expect(&r, '{') && !reader_accept(&r, '}')) reader_members(&r, data_bytes, index);
    reader_skip_space(&r);
    if (r.at != r.end) reader_fail(&r, "header has trailing bytes");
    if (r.error != NULL) safetensors_finish(index);
    return r.error;
}

const char *safetensors_read_header(int fd, struct safetensors_index *index) {
    unsigned char prefix[SAFETENSORS_PREFIX];
    struct stat status;
    if (fstat(fd, &status) != 0) return "cannot stat the file";
    if (io_read_at(fd, prefix, sizeof prefix, 0) != (ssize_t)sizeof prefix)
        return "too short for a header length";
    uint64_t length = 0, size = (uint64_t)status.st_size;
    for (unsigned i = 0; i < SAFETENSORS_PREFIX; i++)
        length |= (uint64_t)prefix[i] << (8 * i);
    if (length > safetensors_most_header) return "header length exceeds the format's 100 MB";
    if (length + SAFETENSORS_PREFIX > size) return "header is longer than the file";

    char *json = malloc(length + 1);
    if (json == NULL) return "out of memory for the header";
    const char *error = "cannot read the header";
    if (io_read_at(fd, json, length, SAFETENSORS_PREFIX) == (ssize_t)length)
        error = safetensors_parse(json, length, size - SAFETENSORS_PREFIX - length, index);
    free(json);
    index->data_start = SAFETENSORS_PREFIX + length;
    return error;
}

const struct safetensors_tensor *safetensors_find(const struct safetensors_index *index, const char *name) {
    for (size_t t = 0; t < index->count; t++)
        if (strcmp(index->tensor[t].name, name) == 0) return &index->tensor[t];
    return NULL;
}

void safetensors_finish(struct safetensors_index *index) {
    free(index->tensor);
    index->tensor = NULL;
    index->count = 0;
}
