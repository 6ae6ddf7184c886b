// SPDX-License-Identifier: MIT
// Makes sure that the machine really has the memory that the next program will touch.
//
// In a virtual machine with free page reporting or a balloon, memory that nobody uses for two seconds goes
// back to the host; touching it again then costs 5 to 10 us for each 4 KiB instead of 0.2 to 1.5, and
// whichever allocator comes next after a pause pays for it. Touched here and freed at exit, it is what the
// kernel hands out next.
#include <sys/mman.h>

#include "../common/clock.h"
#include "common/args.h"
#include "common/line.h"
#include "common/touch.h"

static uint64_t bytes = 1 << 30;

static const struct args_entry table[] = {
    {"bytes", ARGS_BYTES, &bytes, "how much to touch", NULL},
    ARGS_END,
};

int main(int argc, char **argv) {
    args_parse("settle", "Touches memory, so that the machine has it ready.", table, argc, argv);
    if (bytes == 0) args_refuse("--bytes: at least 1");
    uint64_t begin = clock_monotonic_ns();
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) fail_errno("mmap");
    madvise(p, bytes, MADV_HUGEPAGE); // faster where it works, and the same where it does not
    touch_pages(p, bytes);
    line_begin("settle");
    line_real("seconds", (double)(clock_monotonic_ns() - begin) / 1e9);
    return line_end();
}
