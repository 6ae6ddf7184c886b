/* SPDX-License-Identifier: MIT */
/* test_self.c: memory of this process that may be missing, and memory that children do not get. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/os.h"

/* Three pages: one that can be read, one that cannot, and a hole. */
static char *three_pages(void) {
    char *pages = mmap(NULL, 3 * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(pages != MAP_FAILED);
    memset(pages, 7, PAGE_BYTES);
    cr_assert_eq(mprotect(pages + PAGE_BYTES, PAGE_BYTES, PROT_NONE), 0);
    cr_assert_eq(munmap(pages + 2 * PAGE_BYTES, PAGE_BYTES), 0);
    errno = 77;
    return pages;
}

Test(self, reading_does_not_fault) {
    char *pages = three_pages(), copy[16] = {0};
    cr_assert(os_read_memory(pages + PAGE_BYTES - 16, copy, 16));
    cr_assert_eq(copy[15], 7);
    cr_assert_not(os_read_memory(pages + PAGE_BYTES - 8, copy, 16));
    cr_assert_not(os_read_memory(pages + 2 * PAGE_BYTES, copy, 16));
    cr_assert_not(os_read_memory(NULL, copy, 16));
    os_restricted = true;
    cr_assert_not(os_read_memory(pages, copy, 16));
    cr_assert_eq(errno, 77);
}

Test(self, readable) {
    char *pages = three_pages();
    cr_assert(os_is_readable(pages + 5, 1));
    cr_assert_not(os_is_readable(pages, 2));
    cr_assert_not(os_is_readable(pages, 3));
    size_t many = 100 * PAGE_BYTES;
    char *block = mmap(NULL, many, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(os_is_readable(block, 100));
    cr_assert_eq(mprotect(block + 99 * PAGE_BYTES, PAGE_BYTES, PROT_NONE), 0);
    cr_assert_not(os_is_readable(block, 100));
    /* Under a filter only holes are noticed. */
    os_restricted = true;
    cr_assert(os_is_readable(block, 100));
    cr_assert_not(os_is_readable(pages, 3));
    cr_assert_eq(errno, 77);
}

Test(self, children_get_zeros) {
    void *memory = NULL;
    int error = os_map_unshared(4 * PAGE_BYTES, &memory), status = 0;
    if (error == -EINVAL) cr_skip_test("a kernel before 4.14");
    cr_assert_eq(error, 0);
    memset(memory, 1, 4 * PAGE_BYTES);
    pid_t child = fork();
    if (child == 0) _exit(*(char *)memory + ((char *)memory)[4 * PAGE_BYTES - 1]);
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    cr_assert_eq(*(char *)memory, 1);
}

Test(self, dropped_page) {
    char *pages = three_pages();
    cr_assert(os_drop_page(pages));
    cr_assert_eq(os_resident_pages(pages, 1), 0);
    cr_assert_eq(pages[5], 0);
    cr_assert_not(os_drop_page(pages + 2 * PAGE_BYTES));
    cr_assert_eq(errno, 77);
}
