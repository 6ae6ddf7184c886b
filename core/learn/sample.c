/* SPDX-License-Identifier: MIT */
/* sample.c: see sample.h. */
#include "learn/sample.h"

#include "os/os.h"

/* Of so many pages no more than so few may hold nothing; if none of the first ones does, they are enough. */
#define CONTENT_PAGES 8
#define CONTENT_ZERO_MOST 2
#define CONTENT_ENOUGH 2

char *sample_page(void *address, size_t n_pages, unsigned i, unsigned n, uint32_t random) {
    size_t begin = i * n_pages / n, part = max_size(n_pages / n, 1), at = (random + i) * 2654435761u >> 8;
    return (char *)address + ((begin + at % part) << PAGE_SHIFT);
}

int sample_resident(void *address, size_t n_pages, int wanted, uint32_t random) {
    int n_missing = 0;
    for (unsigned i = 0; i < SAMPLE_PAGES && n_missing <= SAMPLE_PAGES - wanted; i++) {
        unsigned part = (i + random) % SAMPLE_PAGES;
        int n = os_resident_pages(sample_page(address, n_pages, part, SAMPLE_PAGES, random), 1);
        if (n < 0) return n;
        n_missing += !n;
    }
    return n_missing <= SAMPLE_PAGES - wanted;
}

int sample_one_resident(void *address, size_t n_pages, uint32_t random) {
    return os_resident_pages(sample_page(address, n_pages, 0, 1, random), 1);
}

static bool holds_something(const char *page) {
    const uint64_t *word = (const uint64_t *)(const void *)page;
    for (size_t i = 0; i < PAGE_BYTES / sizeof *word; i += 4)
        if (word[i] | word[i + 1] | word[i + 2] | word[i + 3]) return true;
    return false;
}

bool sample_is_written(void *address, size_t n_pages, uint32_t random) {
    int n_zero = 0;
    for (unsigned i = 0; i < CONTENT_PAGES && n_zero <= CONTENT_ZERO_MOST; i++) {
        if (i == CONTENT_ENOUGH && n_zero == 0) return true;
        unsigned part = (i + random) % CONTENT_PAGES;
        n_zero += !holds_something(sample_page(address, n_pages, part, CONTENT_PAGES, random));
    }
    return n_zero <= CONTENT_ZERO_MOST;
}

int sample_peek_written(void *address, size_t n_pages, uint32_t random) {
    void *pages[OS_PEEK_PAGES];
    for (unsigned i = 0; i < OS_PEEK_PAGES; i++)
        pages[i] = sample_page(address, n_pages, i, OS_PEEK_PAGES, random);
    return os_peek_pages(pages);
}
