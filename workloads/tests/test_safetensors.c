// SPDX-License-Identifier: MIT
// Unit test: safetensors headers survive a round trip, and malformed ones are refused with a reason.
#include "../common/safetensors.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common/io.h"
#include "../common/tempdir.h"
#include "check.h"

static void test_round_trip(void) {
    struct safetensors_tensor out[100] = {0};
    for (unsigned i = 0; i < 100; i++) {
        snprintf(out[i].name, sizeof out[i].name, "layer.%u.weight", i);
        strcpy(out[i].dtype, i % 2 == 0 ? "F16" : "F32");
        out[i].rank = i % 2 == 0 ? 2 : 1;
        out[i].shape[0] = 4;
        out[i].shape[1] = i % 2 == 0 ? 8 : 0;
        out[i].begin = i % 10 * 64; // shared regions
        out[i].end = out[i].begin + (i % 2 == 0 ? 64 : 16);
    }
    int fd = tempdir_nameless_file();
    uint64_t start = safetensors_write_header(fd, out, 100, "seed=1 x=2");
    CHECK(start > 8 && start % 8 == 0);
    char data[640] = {0};
    CHECK(io_write(fd, data, sizeof data));

    struct safetensors_index in;
    const char *error = safetensors_read_header(fd, &in);
    CHECK(error == NULL);
    if (error != NULL) return;
    CHECK(in.count == 100 && in.data_start == start);
    CHECK(strcmp(in.note, "seed=1 x=2") == 0);
    for (unsigned i = 0; i < 100; i++) {
        const struct safetensors_tensor *t = safetensors_find(&in, out[i].name);
        CHECK(t != NULL && t->begin == out[i].begin && t->end == out[i].end && t->rank == out[i].rank);
        CHECK(t != NULL && strcmp(t->dtype, out[i].dtype) == 0 && t->shape[0] == 4);
    }
    CHECK(safetensors_find(&in, "layer.100.weight") == NULL);
    safetensors_finish(&in);

    // The same file, cut short in the data, in the header, in the length.
    const off_t cuts[] = {(off_t)start + 100, (off_t)start - 1, 5, 0};
    for (unsigned i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        CHECK(ftruncate(fd, cuts[i]) == 0);
        CHECK(safetensors_read_header(fd, &in) != NULL);
    }
    memset(data, 0xff, 8); // a header of 2^64 - 1 bytes
    CHECK(io_write_at(fd, data, 64, 0));
    CHECK(safetensors_read_header(fd, &in) != NULL);
    close(fd);
}

static const char *parse(const char *json, uint64_t data_bytes) {
    // A copy of exactly its length: AddressSanitizer sees every byte read beyond it.
    size_t length = strlen(json);
    char *exact = malloc(length > 0 ? length : 1);
    memcpy(exact, json, length);
    struct safetensors_index index;
    const char *error = safetensors_parse(exact, length, data_bytes, &index);
    if (error == NULL) safetensors_finish(&index);
    free(exact);
    return error;
}

static void test_accepted(void) {
    static const char *const good[] = {
        "{}",
        " { } \n",
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"shape\":[],\"extra\":[1,{\"b\":[null,true,-1.5e3]}],\"data_offsets\":[4,8],\"dtype\":"
        "\"F32\"}}  ",
        "{\"__metadata__\":{\"format\":\"pt\",\"other\":{\"x\":\"\\u0041\\\"\"}},"
        "\"a\\\"b\":{\"dtype\":\"BF16\",\"shape\":[2,2],\"data_offsets\":[0,8]}}",
        "{\"__metadata__\":{}}",
        "{\"empty\":{\"dtype\":\"F64\",\"shape\":[0,5],\"data_offsets\":[8,8]}}",
    };
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++) {
        const char *error = parse(good[i], 8);
        if (error != NULL) fprintf(stderr, "%s: %s\n", good[i], error);
        CHECK(error == NULL);
    }
}

static void test_refused(void) {
    static const char *const bad[] = {
        "",
        "[",
        "{",
        "}",
        "null",
        "{}{}",
        "{\"a\"}",
        "{\"a\":1}",
        "{\"a\":{}}",
        "{\"a\":{\"dtype\":\"U8\"}}",
        "{\"\\",
        "{\"\\u00",
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}",
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},}",
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0]}}",
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4,4]}}",
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,0]}}",
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[9],\"data_offsets\":[0,9]}}",
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"Q8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"shape\":[4],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[-4],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[99999999999999999999],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"F64\",\"shape\":[4294967296,4294967296,4],\"data_offsets\":[0,0]}}",
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}",
        ("{\"a\":{\"x\":[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]],"
         "\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}"),
        "{\"__metadata__\":[]}",
        "{\"a\nb\":{}}",
    };
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *error = parse(bad[i], 8);
        if (error == NULL) fprintf(stderr, "accepted: %s\n", bad[i]);
        CHECK(error != NULL);
    }
}

// Every prefix of a valid header is refused, and every single-byte change is survived.
static void test_mutations(void) {
    const char *good =
        "{\"__metadata__\":{\"note\":\"n\"},\"a\":{\"dtype\":\"U8\",\"shape\":[2,2],\"data_offsets\":[0,4]}}";
    char copy[256];
    size_t length = strlen(good);
    CHECK(parse(good, 8) == NULL);
    for (size_t cut = 0; cut < length; cut++) {
        memcpy(copy, good, cut);
        copy[cut] = '\0';
        CHECK(parse(copy, 8) != NULL);
    }
    for (size_t at = 0; at < length; at++) {
        for (unsigned c = 1; c < 256; c++) {
            memcpy(copy, good, length + 1);
            copy[at] = (char)c;
            (void)parse(copy, 8);
        }
    }
}

int main(void) {
    test_round_trip();
    test_accepted();
    test_refused();
    test_mutations();
    return CHECK_RESULT();
}
