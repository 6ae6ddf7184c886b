/* SPDX-License-Identifier: MIT */
/* hardened_load.c: the default library's way into the hardened mode: it loads the library that has it. See
 * hardened.h. */
#include "hardened.h"

#include "sync/fatal.h"
#include "os/os.h"
#include "bypass.h"
#include "shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#define HARDENED_NAME "libzeropool-hardened.so"

OS_SEALED static __typeof__(&zeropool_hardened_attach) attach;
static struct hardened_range range; /* empty until the mode runs */
static size_t threshold, most;

/* The library beside our own file. A search might find another version, or another library. */
static void *find(void) {
    static char path[PATH_MAX] RARELY_USED;
    Dl_info own;
    if (!dladdr((void *)hardened_start, &own) || !own.dli_fname) return NULL;
    const char *name = strrchr(own.dli_fname, '/');
    size_t folder = name ? (size_t)(name + 1 - own.dli_fname) : 0;
    if (folder + sizeof HARDENED_NAME > sizeof path) return NULL;
    memcpy(path, own.dli_fname, folder);
    memcpy(path + folder, HARDENED_NAME, sizeof HARDENED_NAME);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    return library ? dlsym(library, HARDENED_ATTACH) : NULL;
}

static bool enter(void *function, const struct next_allocator *behind) {
    struct next_allocator trial = *behind;
    __typeof__(attach) found = NULL;
    *(void **)&found = function;
    if (!found || !found(&trial, sizeof trial, threshold, most, &range) || !os_unseal()) return false;
    attach = found;
    os_seal();
    return true;
}

static bool load(const struct next_allocator *behind) {
    static bool failed;
    int saved = errno;
    /* dlopen allocates. A large request from there enters this function too, and has done everything when we
     * go on. */
    void *function = failed ? NULL : find();
    if (!attach && !failed) {
        failed = !enter(function, behind);
        if (failed) {
            dlerror(); /* clears our error from the program's view */
            warn_parts("ZEROPOOL_HARDENED: ", HARDENED_NAME,
                       " beside the preload library cannot be used; the mode is off", NULL);
        }
    }
    errno = saved;
    return !failed;
}

bool hardened_start(const struct next_allocator *behind, size_t threshold_bytes, size_t max_bytes) {
    threshold = threshold_bytes;
    most = max_bytes;
    return attach || load(behind);
}

bool hardened_runs(void) {
    return attach != NULL;
}

bool hardened_owns(const void *p) {
    return hardened_range_owns(&range, p);
}

void hardened_wrap(struct next_allocator *found) {
    attach(found, sizeof *found, threshold, most, &range);
}

bool bypass_owns(const void *p) {
    return shim_owns(p) || hardened_owns(p);
}
