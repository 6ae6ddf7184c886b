// SPDX-License-Identifier: MIT
// The temporary directory and its removal from signal handlers.
//
// Removal must be async-signal-safe, so it cannot list the directory. Instead names follow from a kind and a
// number, and only the number of files per kind is kept. All files are created before threads start; so no
// thread can create another one while a handler in a different thread removes them. A kill -9 leaves the
// directory.
#include "tempdir.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fail.h"

enum { TEMPDIR_KINDS = 26, TEMPDIR_NAME = 16 };

// Both written before threads start. An empty path means: no directory.
static char tempdir_path[4096];
static volatile int tempdir_fd = -1;
static volatile unsigned tempdir_files[TEMPDIR_KINDS];

static const char *tempdir_parent(void) {
    const char *parent = getenv("TMPDIR");
    return parent != NULL && *parent != '\0' ? parent : "/tmp";
}

// snprintf is not async-signal-safe.
static void tempdir_name(char name[TEMPDIR_NAME], char kind, unsigned number) {
    char digits[12];
    unsigned n = 0;
    do {
        digits[n++] = (char)('0' + number % 10);
    } while ((number /= 10) != 0);
    *name++ = kind;
    while (n > 0)
        *name++ = digits[--n];
    *name = '\0';
}

// Keeps no state of its own, so it may run in several threads at once, or interrupt itself: each run is
// complete.
void tempdir_remove(void) {
    if (tempdir_path[0] == '\0') return;
    for (unsigned k = 0; k < TEMPDIR_KINDS && tempdir_fd >= 0; k++) {
        for (unsigned i = 0; i < tempdir_files[k]; i++) {
            char name[TEMPDIR_NAME];
            tempdir_name(name, (char)('a' + k), i);
            unlinkat(tempdir_fd, name, 0);
        }
    }
    rmdir(tempdir_path);
    // The descriptor stays open: another thread may be using it, and the process is about to end.
}

// A second Ctrl-C, or timeout(1) signalling the process and then its group, may reach another thread while
// the first is still cleaning up. It must not kill the process then: that thread waits for the end instead.
static void tempdir_on_signal(int number) {
    static atomic_flag handling = ATOMIC_FLAG_INIT;
    while (atomic_flag_test_and_set(&handling))
        pause();
    fail_silence();
    tempdir_remove();
    // Die from the same signal, so that the caller sees it: it is blocked here and delivered on return.
    signal(number, SIG_DFL);
    raise(number);
}

static void tempdir_catch(void) {
    static const int numbers[] = {SIGINT,  SIGTERM, SIGHUP,  SIGQUIT, SIGABRT,
                                  SIGSEGV, SIGBUS,  SIGXFSZ, SIGXCPU};
    struct sigaction action = {.sa_handler = tempdir_on_signal}, old;
    // No handler interrupts a handler: the inner one would wait for the outer one for ever.
    sigfillset(&action.sa_mask);
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        // Leave alone what is ignored (nohup, background jobs) or caught already (sanitizers).
        if (sigaction(numbers[i], NULL, &old) != 0 || old.sa_handler != SIG_DFL) continue;
        sigaction(numbers[i], &action, NULL);
    }
}

void tempdir_create(void) {
    int length =
        snprintf(tempdir_path, sizeof tempdir_path, "%s/%s-XXXXXX", tempdir_parent(), fail_program());
    if (length >= (int)sizeof tempdir_path) fail_exit(FAIL_RUN, "the path in TMPDIR is too long");
    // Before the directory exists, so that no signal finds it unguarded. mkdtemp fills in the name in place.
    tempdir_catch();
    fail_set_cleanup(tempdir_remove);
    if (mkdtemp(tempdir_path) == NULL) fail_errno("cannot create a directory in %s", tempdir_parent());
    tempdir_fd = open(tempdir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (tempdir_fd < 0) fail_errno("cannot open %s", tempdir_path);
}

int tempdir_open_file(char kind, unsigned number, int flags) {
    char name[TEMPDIR_NAME];
    tempdir_name(name, kind, number);
    int fd = openat(tempdir_fd, name, flags | O_CLOEXEC, 0600);
    if (fd < 0) fail_errno("cannot open %s/%s", tempdir_path, name);
    return fd;
}

int tempdir_new_file(char kind, unsigned number) {
    // Counted before it exists: a signal in between only unlinks a name in vain.
    tempdir_files[kind - 'a'] = number + 1;
    return tempdir_open_file(kind, number, O_RDWR | O_CREAT | O_EXCL);
}

int tempdir_nameless_file(void) {
    int fd = open(tempdir_parent(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0) return fd;
    // Some file systems have no O_TMPFILE; unlinking at once comes close.
    char path[sizeof tempdir_path];
    int length = snprintf(path, sizeof path, "%s/%s-XXXXXX", tempdir_parent(), fail_program());
    if (length >= (int)sizeof path) fail_exit(FAIL_RUN, "the path in TMPDIR is too long");
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) fail_errno("cannot create a file in %s", tempdir_parent());
    unlink(path);
    return fd;
}
