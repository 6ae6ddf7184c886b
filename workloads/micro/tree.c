// SPDX-License-Identifier: MIT
// A program with small allocations only: a search tree of words that grows and shrinks. The pool has nothing
// to do here and must not be felt.
#include "../common/clock.h"
#include "../common/rng.h"
#include "common/args.h"
#include "common/line.h"
#include "common/touch.h"

static uint64_t operations = 2000000, keys = 20000, seed = 1, first = 0;

static const struct args_entry table[] = {
    {"operations", ARGS_COUNT, &operations, "insertions and removals", NULL},
    {"keys", ARGS_COUNT, &keys, "different keys", NULL},
    {"seed", ARGS_COUNT, &seed, "same seed, same tree", NULL},
    {"first", ARGS_BYTES, &first, "a block of this size is taken and freed before; 0 for none", NULL},
    ARGS_END,
};

// A treap: the priority is a mix of the key, so the shape depends on the keys alone.
struct node {
    uint64_t key, priority;
    struct node *left, *right;
    char *word; // 1 to 200 bytes
};

static uint64_t count;

static struct node *make(uint64_t key) {
    struct node *n = touch_malloc(sizeof *n);
    size_t length = 1 + key % 200;
    *n = (struct node){key, rng_mix(key), NULL, NULL, touch_malloc(length)};
    memset(n->word, (int)(key & 127), length);
    count++;
    return n;
}

static void split(struct node *n, uint64_t key, struct node **less, struct node **more) {
    if (n == NULL) {
        *less = *more = NULL;
    } else if (n->key < key) {
        split(n->right, key, &n->right, more);
        *less = n;
    } else {
        split(n->left, key, less, &n->left);
        *more = n;
    }
}

static struct node *join(struct node *a, struct node *b) {
    if (a == NULL || b == NULL) return a != NULL ? a : b;
    if (a->priority > b->priority) {
        a->right = join(a->right, b);
        return a;
    }
    b->left = join(a, b->left);
    return b;
}

static void insert(struct node **at, struct node *new) {
    while (*at != NULL && (*at)->priority > new->priority)
        at = new->key < (*at)->key ? &(*at)->left : &(*at)->right;
    split(*at, new->key, &new->left, &new->right);
    *at = new;
}

// Where the key is or would be.
static struct node **find(struct node **at, uint64_t key) {
    while (*at != NULL && (*at)->key != key)
        at = key < (*at)->key ? &(*at)->left : &(*at)->right;
    return at;
}

int main(int argc, char **argv) {
    args_parse("tree", "Builds and changes a search tree of small nodes.", table, argc, argv);
    memory_start();
    if (first != 0) free(touch_malloc(first));
    struct rng rng;
    rng_seed(&rng, seed);
    struct node *root = NULL;
    uint64_t sum = 0, begin = clock_monotonic_ns();
    for (uint64_t i = 0; i < operations; i++) {
        uint64_t key = rng_mix(rng_below(&rng, keys));
        struct node **at = find(&root, key);
        struct node *found = *at;
        if (found == NULL) {
            insert(&root, make(key));
            continue;
        }
        sum += (unsigned char)found->word[0];
        *at = join(found->left, found->right);
        free(found->word);
        free(found);
        count--;
    }
    uint64_t passed = clock_monotonic_ns() - begin;
    struct line_memory memory = line_gather();
    line_begin("tree");
    line_count("operations", operations);
    line_count("nodes", count);
    line_count("checksum", sum);
    line_real("seconds", (double)passed / 1e9);
    line_memory(&memory);
    return line_end();
}
