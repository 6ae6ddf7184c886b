/* SPDX-License-Identifier: MIT */
/* report_live.c: makes, fills and removes the shared page. See report_live.h.
 *
 * What runs in the background thread makes system calls directly or through wrappers that need no more than
 * errno. After the page is made it makes none but the clock's, which is no system call: there may be a
 * seccomp filter by then.
 */
#include "report_live.h"

#include "os/os.h"
#include "process/helper.h"
#include "observe/stats.h"
#include "report.h"
#include "report_json.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FILE_BYTES (32 * KIB)
_Static_assert(sizeof(struct live_page) + REPORT_BYTES <= FILE_BYTES, "the text fits behind the header");

static char folder[200] RARELY_USED;
static char path[264] RARELY_USED;
static struct live_page *page;
static uint32_t *same_process; /* reads 0 in a forked child */
static int parent_pid, pid;

static void append_decimal(char *text, uint64_t value) {
    char digits[24];
    strcat(text, format_decimal(digits, value));
}

/* 0 where it cannot be told. */
static uint64_t start_ticks(void) {
    char text[1024];
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return 0;
    text[n] = '\0';
    char *at = strrchr(text, ')'); /* the name may hold anything */
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    uint64_t ticks = 0;
    for (; at && at[1] >= '0' && at[1] <= '9'; at++)
        ticks = ticks * 10 + (uint64_t)(at[1] - '0');
    return ticks;
}

/* Make the file and map it. The mapping does not reach forked children, which make their own. */
static bool make_page(void) {
    page = NULL;
    pid = getpid();
    parent_pid = getppid();
    strcpy(path, folder);
    strcat(path, "/zeropool-live.");
    append_decimal(path, (uint64_t)pid);
    strcat(path, ".");
    append_decimal(path, os_clock_ns()); /* exec keeps the process id */
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return false;
    void *mapped = MAP_FAILED;
    /* posix_fallocate: a full file system must fail here and not with SIGBUS at the first write. */
    if (posix_fallocate(fd, 0, FILE_BYTES) == 0)
        mapped = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped == MAP_FAILED || madvise(mapped, FILE_BYTES, MADV_DONTFORK) != 0) {
        unlink(path);
        return false;
    }
    struct live_page *made = mapped;
    made->pid = (uint32_t)pid;
    made->uid = (uint32_t)geteuid();
    made->start_ticks = start_ticks();
    /* Last: readers take a file without it for an unfinished one. */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    memcpy(made->magic, LIVE_MAGIC, sizeof made->magic);
    page = made;
    return true;
}

static void fill_page(void) {
    struct report_process process = {
        .pid = pid,
        .parent_pid = parent_pid,
        .command = report_command,
        .wall_ns = os_clock_ns() - report_started_ns,
    };
    uint64_t sequence = page->sequence;
    __atomic_store_n(&page->sequence, sequence + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    page->length = report_json(page->text, REPORT_BYTES, &process);
    page->updated_ns = os_clock_ns();
    __atomic_store_n(&page->sequence, sequence + 2, __ATOMIC_RELEASE);
}

/* In the background thread, several times a second. */
static void visit(void) {
    if (__atomic_load_n(same_process, __ATOMIC_RELAXED) == 0) {
        __atomic_store_n(same_process, 1, __ATOMIC_RELAXED);
        report_started_ns = os_clock_ns();
        make_page();
    }
    if (page) fill_page();
}

static void choose_folder(char *const *environment) {
    const char *runtime = options_lookup(environment, "XDG_RUNTIME_DIR");
    bool usable =
        runtime && runtime[0] == '/' && strlen(runtime) < sizeof folder && access(runtime, W_OK) == 0;
    strcpy(folder, usable ? runtime : "/dev/shm");
}

static void remove_file(void) {
    if (!page || !same_process || __atomic_load_n(same_process, __ATOMIC_RELAXED) == 0) return;
    int saved = errno;
    unlink(path);
    errno = saved;
}

void report_live_start(char *const *environment) {
    int saved = errno;
    same_process = os_fork_word();
    if (!same_process) return;
    __atomic_store_n(same_process, 1, __ATOMIC_RELAXED);
    choose_folder(environment);
    if (!make_page()) {
        warn_parts("ZEROPOOL_LIVE: cannot make ", path, ": ", strerrordesc_np(errno));
    } else {
        stats_wanted = true;
        fill_page();
        if (!helper_start_for_good(visit, LIVE_EVERY_MS)) {
            warn_parts("ZEROPOOL_LIVE: no background thread in this program, so nothing to show", NULL, NULL,
                       NULL);
            remove_file();
        }
    }
    errno = saved;
}

__attribute__((destructor)) static void stop(void) {
    remove_file();
}
