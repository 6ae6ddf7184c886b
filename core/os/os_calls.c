/* SPDX-License-Identifier: MIT */
/* os_calls.c: the C library's functions, and the start-up of this folder. Alone in its object: the preload
 * library is linked without it, defines its own table and has its own start-up. */
#include "os/os.h"

#include <sys/mman.h>

OS_SEALED struct os_calls os_calls = {mmap, munmap, mremap, madvise, mprotect, pkey_mprotect, mlock};

__attribute__((constructor)) static void prepare(void) {
    if (!os_unseal()) return;
    os_clock_prepare();
    os_seal();
}
