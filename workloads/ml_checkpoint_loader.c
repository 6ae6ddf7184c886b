// SPDX-License-Identifier: MIT
// Workload: load a large language model's checkpoint, layer after layer, epoch after epoch.
//
// What it stands for: inference servers and training jobs that read tensors of 1 to 256 MiB into fresh
// buffers, hand them on and free them. One thread; the same sizes come back in every layer; what is measured
// is whether the allocator keeps them warm (page faults) without hoarding more than the layers that are live.
//
// The checkpoint is a real safetensors file, written first (before the clock starts) and parsed again in
// every epoch. To bound disk space its layers share `--distinct-layers` data regions: layer i has that of i
// modulo N. A tensor's content follows from its place in the file, so what read(2) delivered is checked in
// full on arrival, and once per page again before the buffer is freed, in case another owner wrote into it
// while it was live.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/io.h"
#include "common/options.h"
#include "common/pattern.h"
#include "common/report.h"
#include "common/safetensors.h"
#include "common/tempdir.h"

enum {
    METADATA_BLOCKS = 10,
    METADATA_BYTES = 4096, // not scaled: bookkeeping does not shrink with the model
    ATTENTION_TENSORS = 4,
    FEED_FORWARD_TENSORS = 2,
    NORM_TENSORS = 2,
    LAYER_TENSORS = METADATA_BLOCKS + ATTENTION_TENSORS + FEED_FORWARD_TENSORS + NORM_TENSORS,
    SHARED_TENSORS = 3, // two embeddings and the output head
    MOST_WINDOW = 64,
};

static const uint64_t mib = 1u << 20;

static uint64_t epochs, layers, distinct_layers, window;
static const char *checkpoint_path;

static const struct options_entry own_options[] = {
    {"epochs", OPTIONS_COUNT, &epochs, "2", "10", 1, 1e6, "times the whole model is loaded"},
    {"layers", OPTIONS_COUNT, &layers, "48", NULL, 1, 4096, "transformer layers of the model"},
    {"distinct-layers", OPTIONS_COUNT, &distinct_layers, "2", NULL, 1, 4096,
     "layers with data of their own in the file; the others share it"},
    {"window", OPTIONS_COUNT, &window, "2", NULL, 1, MOST_WINDOW,
     "layers live together; 1 frees a layer before the next is read"},
    {"checkpoint", OPTIONS_TEXT, &checkpoint_path, NULL, NULL, 0, 0,
     "keep the checkpoint in this file, and use it if it exists (default: a nameless temporary file)"},
    {NULL, OPTIONS_FLAG, NULL, NULL, NULL, 0, 0, NULL},
};

static const struct options_program program = {
    .name = "ml_checkpoint_loader",
    .purpose = "Generate a safetensors checkpoint and load it tensor by tensor with malloc, read and free.",
    .initial_scale = "0.125",
    .scale_help = "multiplies the sizes of tensors, not their number",
    .own = own_options,
};

// ---- The model: names, sizes and places of all tensors
// -------------------------------------------------------

static uint64_t scaled(uint64_t full_bytes) {
    uint64_t bytes = (uint64_t)((double)full_bytes * options_common.scale) & ~(uint64_t)4095;
    return bytes > 4096 ? bytes : 4096;
}

// A matrix of 16-bit floats, a vector of 32-bit floats, or a blob.
static struct safetensors_tensor make_tensor(const char *dtype, uint64_t bytes) {
    struct safetensors_tensor t = {.rank = 1, .end = bytes};
    snprintf(t.dtype, sizeof t.dtype, "%s", dtype);
    t.shape[0] = bytes / safetensors_element_bytes(dtype);
    if (strcmp(dtype, "F16") == 0) {
        t.rank = 2;
        t.shape[1] = 2048; // scaled() rounds to 4096 bytes, so rows come out whole
        t.shape[0] /= t.shape[1];
    }
    return t;
}

// The tensors of one layer, in the order in which they are stored and loaded; offsets relative to the layer.
static uint64_t make_layer(struct safetensors_tensor out[LAYER_TENSORS], unsigned layer) {
    static const char *const attention[] = {"q_proj", "k_proj", "v_proj", "o_proj"};
    static const char *const feed_forward[] = {"up_proj", "down_proj"};
    static const char *const norm[] = {"input_norm", "post_norm"};
    uint64_t at = 0;
    for (unsigned i = 0; i < LAYER_TENSORS; i++) {
        unsigned k = i;
        const char *group = "self_attn", *leaf;
        char number[16];
        if (k < METADATA_BLOCKS) {
            out[i] = make_tensor("U8", METADATA_BYTES);
            snprintf(number, sizeof number, "%u", k);
            group = "meta";
            leaf = number;
        } else if ((k -= METADATA_BLOCKS) < ATTENTION_TENSORS) {
            out[i] = make_tensor("F16", scaled(64 * mib));
            leaf = attention[k];
        } else if ((k -= ATTENTION_TENSORS) < FEED_FORWARD_TENSORS) {
            out[i] = make_tensor("F16", scaled(256 * mib));
            group = "mlp";
            leaf = feed_forward[k];
        } else {
            out[i] = make_tensor("F32", scaled(1 * mib));
            group = "norm";
            leaf = norm[k - FEED_FORWARD_TENSORS];
        }
        snprintf(out[i].name, sizeof out[i].name, "model.layers.%u.%s.%s.weight", layer, group, leaf);
        out[i].begin += at;
        out[i].end += at;
        at = out[i].end;
    }
    return at;
}

static const char *const shared_names[SHARED_TENSORS] = {"model.embed_tokens.weight",
                                                         "model.embed_positions.weight", "lm_head.weight"};
static const uint64_t shared_mib[SHARED_TENSORS] = {128, 64, 128};

// All tensors of the file: the shared ones first, then the layers. Returns the bytes of data behind them.
static uint64_t make_model(struct safetensors_tensor *out) {
    uint64_t at = 0;
    for (unsigned i = 0; i < SHARED_TENSORS; i++) {
        out[i] = make_tensor("F16", scaled(shared_mib[i] * mib));
        snprintf(out[i].name, sizeof out[i].name, "%s", shared_names[i]);
        out[i].begin += at;
        out[i].end += at;
        at = out[i].end;
    }
    uint64_t layer_bytes = 0;
    for (unsigned layer = 0; layer < layers; layer++) {
        struct safetensors_tensor *tensor = out + SHARED_TENSORS + (size_t)layer * LAYER_TENSORS;
        layer_bytes = make_layer(tensor, layer);
        for (unsigned i = 0; i < LAYER_TENSORS; i++) {
            tensor[i].begin += at + layer % distinct_layers * layer_bytes;
            tensor[i].end += at + layer % distinct_layers * layer_bytes;
        }
    }
    return at + (layers < distinct_layers ? layers : distinct_layers) * layer_bytes;
}

// ---- The checkpoint file
// ---------------------------------------------------------------------------------------

// The data is one stream: a tensor's pattern follows from its offset, whichever layer asks for it.
static struct pattern pattern_at(uint64_t data_offset, size_t stride) {
    return (struct pattern){pattern_base(options_common.seed), data_offset / 8, stride};
}

// Written to __metadata__; a kept file of other parameters would otherwise show up as corruption.
static void describe(char note[SAFETENSORS_NOTE]) {
    snprintf(note, SAFETENSORS_NOTE, "seed=%llu scale=%.9g layers=%llu distinct=%llu",
             (unsigned long long)options_common.seed, options_common.scale, (unsigned long long)layers,
             (unsigned long long)distinct_layers);
}

static void generate(int fd) {
    size_t count = SHARED_TENSORS + (size_t)layers * LAYER_TENSORS;
    struct safetensors_tensor *model = calloc(count, sizeof *model);
    if (model == NULL) fail_memory("calloc", count * sizeof *model);
    uint64_t data_bytes = make_model(model);
    char note[SAFETENSORS_NOTE];
    describe(note);
    if (safetensors_write_header(fd, model, count, note) == 0) fail_errno("cannot write the checkpoint");
    free(model);

    size_t piece = mib;
    unsigned char *buffer = malloc(piece);
    if (buffer == NULL) fail_memory("malloc", piece);
    for (uint64_t at = 0; at < data_bytes; at += piece) {
        size_t bytes = data_bytes - at < piece ? (size_t)(data_bytes - at) : piece;
        pattern_fill(buffer, bytes, pattern_at(at, PATTERN_FULL));
        if (!io_write(fd, buffer, bytes)) fail_errno("cannot write the checkpoint");
    }
    free(buffer);
}

// A kept checkpoint appears under its name only when it is complete.
static int open_checkpoint(void) {
    if (checkpoint_path == NULL) {
        int fd = tempdir_nameless_file();
        generate(fd);
        return fd;
    }
    int fd = open(checkpoint_path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) return fd;
    if (errno != ENOENT) fail_errno("cannot open %s", checkpoint_path);
    char partial[4096];
    if (snprintf(partial, sizeof partial, "%s.partial", checkpoint_path) >= (int)sizeof partial)
        fail_exit(FAIL_RUN, "the path of --checkpoint is too long");
    fd = open(partial, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) fail_errno("cannot create %s", partial);
    generate(fd);
    if (rename(partial, checkpoint_path) != 0) fail_errno("cannot rename %s", partial);
    return fd;
}

// ---- Loading
// -----------------------------------------------------------------------------------------------

// One loaded tensor. `data` is NULL while nothing is loaded.
struct buffer {
    unsigned char *data;
    size_t bytes;
    uint64_t offset; // of its data in the stream
};

struct loader {
    int fd;
    struct safetensors_index index;
    struct buffer shared[SHARED_TENSORS];
    struct buffer layer[MOST_WINDOW][LAYER_TENSORS];
    bool inject; // damage one live tensor, to prove that it is noticed
    struct meter meter;
};

static void check(const struct buffer *b, size_t stride, const char *when, uint64_t *sum) {
    size_t wrong = pattern_check(b->data, b->bytes, pattern_at(b->offset, stride), sum);
    if (wrong != PATTERN_INTACT)
        fail_exit(FAIL_RUN, "corruption: tensor of %zu bytes is wrong at byte %zu %s", b->bytes, wrong, when);
}

static void load(struct loader *l, const struct safetensors_tensor *t, struct buffer *into) {
    uint64_t begin = clock_begin(), sum = 0;
    into->bytes = (size_t)(t->end - t->begin);
    into->offset = t->begin;
    into->data = meter_malloc(&l->meter, into->bytes);
    if (lseek(l->fd, (off_t)(l->index.data_start + t->begin), SEEK_SET) < 0)
        fail_errno("cannot seek in the checkpoint");
    ssize_t got = io_read(l->fd, into->data, into->bytes);
    if (got < 0) fail_errno("cannot read the checkpoint");
    if ((size_t)got < into->bytes) fail_exit(FAIL_RUN, "the checkpoint ends within tensor %s", t->name);
    check(into, PATTERN_FULL, "after reading", &sum);
    l->meter.checksum += rng_combine(sum, into->bytes);
    meter_unit(&l->meter, begin);
}

static void release(struct loader *l, struct buffer *b) {
    if (b->data == NULL) return;
    if (l->inject && b->bytes > METADATA_BYTES) {
        pattern_damage(b->data, b->bytes);
        l->inject = false;
    }
    check(b, PATTERN_PAGE, "before freeing it", NULL);
    meter_free(&l->meter, b->data);
    b->data = NULL;
}

static void load_named(struct loader *l, const char *name, struct buffer *into) {
    const struct safetensors_tensor *t = safetensors_find(&l->index, name);
    if (t == NULL) fail_exit(FAIL_RUN, "the checkpoint has no tensor %s", name);
    load(l, t, into);
}

static void load_layer(struct loader *l, unsigned layer) {
    struct buffer *slot = l->layer[layer % window];
    struct safetensors_tensor wanted[LAYER_TENSORS];
    make_layer(wanted, layer);
    for (unsigned i = 0; i < LAYER_TENSORS; i++)
        release(l, &slot[i]);
    for (unsigned i = 0; i < LAYER_TENSORS; i++)
        load_named(l, wanted[i].name, &slot[i]);
}

static void load_epoch(struct loader *l) {
    const char *error = safetensors_read_header(l->fd, &l->index);
    if (error != NULL) fail_exit(FAIL_RUN, "bad checkpoint: %s", error);
    char note[SAFETENSORS_NOTE];
    describe(note);
    if (strcmp(note, l->index.note) != 0)
        fail_exit(FAIL_RUN, "the checkpoint holds '%s', wanted '%s': remove it or choose another name",
                  l->index.note, note);

    // Embeddings stay for the whole epoch, layers pass by, the output head comes last.
    load_named(l, shared_names[0], &l->shared[0]);
    load_named(l, shared_names[1], &l->shared[1]);
    for (unsigned layer = 0; layer < layers; layer++)
        load_layer(l, layer);
    load_named(l, shared_names[2], &l->shared[2]);

    for (unsigned w = 0; w < window; w++)
        for (unsigned i = 0; i < LAYER_TENSORS; i++)
            release(l, &l->layer[w][i]);
    for (unsigned i = 0; i < SHARED_TENSORS; i++)
        release(l, &l->shared[i]);
    safetensors_finish(&l->index);
}

int main(int argc, char **argv) {
    clock_start();
    options_parse(&program, argc, argv);
    static struct loader loader;
    meter_start(&loader.meter);
    loader.inject = options_common.inject_corruption;
    loader.fd = open_checkpoint();

    report_begin();
    for (uint64_t epoch = 0; epoch < epochs; epoch++)
        load_epoch(&loader);
    return report_finish("tensors", &loader.meter);
}
