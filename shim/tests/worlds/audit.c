/* SPDX-License-Identifier: MIT */
/* audit.c: an auditing library (LD_AUDIT), in a loader namespace of its own: it sees every binding and
 * allocates meanwhile. */
#include <link.h>
#include <stdlib.h>

unsigned la_version(unsigned version) {
    return version;
}

unsigned la_objopen(struct link_map *map, Lmid_t id, uintptr_t *cookie) {
    (void)map;
    (void)id;
    (void)cookie;
    free(malloc(100000));
    return LA_FLG_BINDTO | LA_FLG_BINDFROM;
}

uintptr_t la_symbind64(Elf64_Sym *symbol, unsigned index, uintptr_t *from, uintptr_t *to, unsigned *flags,
                       const char *name) {
    (void)index;
    (void)from;
    (void)to;
    (void)flags;
    (void)name;
    void *volatile p = malloc(50000);
    free(p);
    return symbol->st_value;
}
