/* SPDX-License-Identifier: MIT */
/* plugin.c: an extension that takes, changes and returns blocks with whatever allocator the loader bound it
 * to. */
#include <malloc.h>
#include <stdlib.h>

void *plugin_get(size_t size);
void plugin_free(void *p);
void *plugin_resize(void *p, size_t size);
size_t plugin_usable(void *p);
int *plugin_own(void);

void *plugin_get(size_t size) {
    return malloc(size);
}
void plugin_free(void *p) {
    free(p);
}
void *plugin_resize(void *p, size_t size) {
    return realloc(p, size);
}
size_t plugin_usable(void *p) {
    return malloc_usable_size(p);
}

/* The host has one of the same name: opened with RTLD_DEEPBIND, the extension must find this one. */
int whose_answer(void);
int whose_answer(void) {
    return 2;
}
int plugin_answer(void);
int plugin_answer(void) {
    return whose_answer();
}

/* Thread-local storage, so that a thread with hundreds of such libraries has a large dynamic part. */
static _Thread_local int words[64];
int *plugin_own(void) {
    return words;
}
