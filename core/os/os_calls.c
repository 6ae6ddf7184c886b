/* SPDX-License-Identifier: MIT */
/* os_calls.c: the C library's functions. Alone in its object: the preload library is linked without it and defines its own table. */
#include "os/os.h"

#include <sys/mman.h>

struct os_calls os_calls = {mmap, munmap, mremap, madvise, mprotect, pkey_mprotect, mlock};
