/* SPDX-License-Identifier: MIT */
/* passive.c: looks for sanitizers, and for callers of an allocator's own interface. See passive.h.
 *
 * Not chosen: to define sallocx and its like for the pool's blocks. Programs that serve many allocators take
 * a symbol that is there for the sign that jemalloc is (folly, RocksDB), and would then call what nobody
 * defines.
 */
#include "passive.h"

#include "symbols.h"

#include <string.h>

static const char sanitizer[] = "__sanitizer_get_allocated_size";
/* Who defines one of them defines an allocator with an interface of its own. */
static const char *const interfaces[] = {"xallocx", "mi_usable_size", "tc_malloc_size"};
#define N_INTERFACES (sizeof interfaces / sizeof interfaces[0])

struct look {
    uint32_t sanitizer_hash, interface_hashes[N_INTERFACES];
    bool has_sanitizer, has_interface, imports_interface;
};

/* Of an allocator's own interface, the functions to which a program may give what malloc has returned. Each
 * name ends with a zero byte: a table of pointers would be relocated in every process. */
static bool takes_a_block(const char *name) {
    static const char names[] = "sallocx\0xallocx\0rallocx\0sdallocx\0dallocx\0"
                                "MallocExtension_GetAllocatedSize\0MallocExtension_GetOwnership\0";
    static const char beginnings[] =
        "mi_free\0mi_cfree\0mi_realloc\0mi_recalloc\0mi_rezalloc\0mi_expand\0mi_usable_size\0"
        "mi_malloc_size\0mi_malloc_usable_size\0mi_is_in_heap_region\0mi_check_owned\0mi_heap_re\0"
        "mi_new_realloc\0mi_aligned_\0tc_free\0tc_cfree\0tc_realloc\0tc_delete\0tc_malloc_size\0";
    for (const char *at = names; *at; at += strlen(at) + 1)
        if (strcmp(name, at) == 0) return true;
    for (const char *at = beginnings; *at; at += strlen(at) + 1)
        if (strncmp(name, at, strlen(at)) == 0) return true;
    return false;
}

static int look_for_definitions(struct dl_phdr_info *object, size_t size, void *result) {
    (void)size;
    struct look *look = result;
    struct symbols symbols;
    if (!symbols_of(object, &symbols)) return 0;
    if (symbols_find_hashed(&symbols, sanitizer, look->sanitizer_hash)) look->has_sanitizer = true;
    for (size_t i = 0; i < N_INTERFACES; i++)
        if (symbols_find_hashed(&symbols, interfaces[i], look->interface_hashes[i]))
            look->has_interface = true;
    return look->has_sanitizer;
}

static int look_for_imports(struct dl_phdr_info *object, size_t size, void *result) {
    (void)size;
    struct look *look = result;
    struct symbols symbols;
    look->imports_interface = symbols_of(object, &symbols) && symbols_imports_one(&symbols, takes_a_block);
    return look->imports_interface;
}

static bool look_at_objects(void) {
    struct look look = {.sanitizer_hash = symbols_hash(sanitizer)};
    for (size_t i = 0; i < N_INTERFACES; i++)
        look.interface_hashes[i] = symbols_hash(interfaces[i]);
    dl_iterate_phdr(look_for_definitions, &look);
    if (look.has_interface && !look.has_sanitizer) dl_iterate_phdr(look_for_imports, &look);
    return look.has_sanitizer || look.imports_interface;
}

bool passive_wanted(void) {
    static int known = -1; /* all writers write the same */
    int wanted = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (wanted < 0) {
        wanted = look_at_objects();
        __atomic_store_n(&known, wanted, __ATOMIC_RELAXED);
    }
    return wanted;
}

/* AddressSanitizer's runtime, which ends the program where it is not the first library, asks for options by
 * this name. It need not be the first: all calls reach it through us. A program that defines the function
 * itself must say so itself, or ASAN_OPTIONS. At the time of the call the runtime is not ready: nothing may
 * be called from here. */
const char *__asan_default_options(void);

__attribute__((visibility("default"))) const char *__asan_default_options(void) {
    return "verify_asan_link_order=0";
}
