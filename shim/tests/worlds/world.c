/* SPDX-License-Identifier: MIT */
/* world.c: a host in worlds with more than one allocator, loader namespace or environment.    usage: world
 *     CASE [PATH]
 * An ordinary program: it prints the same at every run, and knows nothing of the pool. */
#include <dirent.h>
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static const char *path;

static struct {
    void *(*get)(size_t);
    void (*free)(void *);
    void *(*resize)(void *, size_t);
    size_t (*usable)(void *);
    int (*answer)(void);
} plugin;

int whose_answer(void);
int whose_answer(void) {
    return 1;
}

static void *symbol_of(void *handle, const char *name) {
    void *symbol = handle ? dlsym(handle, name) : NULL;
    if (!symbol) {
        printf("%s: %s\n", name, dlerror());
        exit(1);
    }
    return symbol;
}

static void load(void *handle) {
    *(void **)&plugin.get = symbol_of(handle, "plugin_get");
    *(void **)&plugin.free = symbol_of(handle, "plugin_free");
    *(void **)&plugin.resize = symbol_of(handle, "plugin_resize");
    *(void **)&plugin.usable = symbol_of(handle, "plugin_usable");
    *(void **)&plugin.answer = symbol_of(handle, "plugin_answer");
}

static const size_t sizes[] = {24, 5000, 40000, 300000, 1 << 20, 5 << 20, 40 << 20};
#define N_SIZES (sizeof sizes / sizeof sizes[0])

static char *filled(char *p, size_t n) {
    memset(p, 'a' + (int)(n % 23), n);
    return p;
}

/* Of what filled(p, n) wrote, are the first n_left bytes there? */
static void look_at_front(const char *what, const char *p, size_t n_left, size_t n) {
    if (p && p[0] == 'a' + (int)(n % 23) && p[n_left - 1] == p[0]) return;
    printf("%s: %zu bytes lost\n", what, n);
    exit(1);
}

static void look(const char *what, const char *p, size_t n) {
    look_at_front(what, p, n, n);
}

/* Big blocks less often: each is new memory under the C library alone, and where page faults are slow they
 * would be all the test does. */
#define N_ROUNDS 20
static int takes_part(size_t n, int round) {
    return n < 2 * MIB || round % 7 == 0;
}

/* Blocks cross the border in both directions, and are resized on the other side. */
static void cross(void) {
    for (int round = 0; round < N_ROUNDS; round++)
        for (size_t i = 0; i < N_SIZES; i++) {
            size_t n = sizes[i];
            if (!takes_part(n, round)) continue;
            plugin.free(filled(malloc(n), n));
            free(filled(plugin.get(n), n));
            char *p = plugin.resize(filled(malloc(n), n), 2 * n);
            look("grown there", p, n);
            free(p);
            p = plugin.resize(filled(calloc(1, n), n), 24);
            look_at_front("shrunk there", p, 24, n);
            plugin.free(p);
            p = realloc(filled(plugin.get(n), n), 3 * n);
            plugin.free(p);
            p = malloc(n);
            if (plugin.usable(p) < n || plugin.usable(p) != malloc_usable_size(p))
                printf("usable size of %zu differs\n", n);
            plugin.free(p);
            void *aligned = NULL;
            if (posix_memalign(&aligned, 4096, n) == 0) plugin.free(aligned);
        }
    printf("crossed, the answer is %d\n", plugin.answer());
}

static void deepbind(void) {
    load(dlopen(path, RTLD_NOW | RTLD_DEEPBIND));
    cross();
}

static void deepbind_lazy(void) {
    load(dlopen(path, RTLD_LAZY | RTLD_DEEPBIND));
    cross();
}

static void plain(void) {
    load(dlopen(path, RTLD_NOW));
    cross();
}

/* What a foreign function interface does: the C library by name, its functions by handle. */
static void by_handle(void) {
    void *libc = dlopen("libc.so.6", RTLD_NOW);
    void (*release)(void *);
    void *(*resize)(void *, size_t);
    *(void **)&release = symbol_of(libc, "free");
    *(void **)&resize = symbol_of(libc, "realloc");
    for (size_t i = 0; i < N_SIZES; i++) {
        release(filled(malloc(sizes[i]), sizes[i]));
        release(resize(filled(malloc(sizes[i]), sizes[i]), sizes[i] * 2));
        release(resize(NULL, sizes[i]));
    }
    puts("by handle");
}

/* A namespace of its own has its own C library; each side frees what is its own. */
static void namespace(void) {
    void *handle = dlmopen(LM_ID_NEWLM, path, RTLD_NOW);
    if (!handle) {
        puts("no namespace");
        return;
    }
    load(handle);
    for (int round = 0; round < N_ROUNDS; round++)
        for (size_t i = 0; i < N_SIZES; i++) {
            if (!takes_part(sizes[i], round)) continue;
            char *ours = filled(malloc(sizes[i]), sizes[i]), *theirs = filled(plugin.get(sizes[i]), sizes[i]);
            theirs = plugin.resize(theirs, sizes[i] * 2);
            look("ours", ours, sizes[i]);
            plugin.free(theirs);
            free(ours);
        }
    puts("namespaces");
}

static int *(*own_words[300])(void);
static int n_libraries;

static void *with_all_words(void *ignored) {
    char *p = filled(malloc(3 * MIB), 3 * MIB);
    for (int i = 0; i < n_libraries; i++) {
        own_words[i]()[63] = i;
        free(malloc(40000 + (size_t)i * 1000));
    }
    for (int i = 0; i < n_libraries; i++)
        if (own_words[i]()[63] != i) puts("thread-local words mixed up");
    look("beside the words", p, 3 * MIB);
    free(p);
    return ignored;
}

/* path is a folder full of copies of the plugin. */
static void many_libraries(void) {
    pthread_t threads[8];
    DIR *folder = opendir(path);
    struct dirent *entry;
    while (folder && (entry = readdir(folder)) && n_libraries < 300) {
        char file[4096];
        if (entry->d_name[0] == '.') continue;
        snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        *(void **)&own_words[n_libraries++] = symbol_of(dlopen(file, RTLD_NOW | RTLD_LOCAL), "plugin_own");
    }
    if (folder) closedir(folder);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 8; i++)
            pthread_create(&threads[i], NULL, with_all_words, NULL);
        for (int i = 0; i < 8; i++)
            pthread_join(threads[i], NULL);
    }
    printf("%d libraries\n", n_libraries);
}

static void work(void) {
    char *kept[40];
    for (int i = 0; i < 40; i++)
        kept[i] = filled(malloc(30000 * (size_t)(i + 1)), 30000 * (size_t)(i + 1));
    for (int i = 0; i < 40; i += 2)
        kept[i] = realloc(kept[i], 60000 * (size_t)(i + 1));
    for (int i = 1; i < 40; i += 2)
        look("kept", kept[i], 30000 * (size_t)(i + 1));
    for (int i = 0; i < 40; i++)
        free(kept[i]);
    free(filled(malloc(50 * MIB), 50 * MIB));
    puts("worked");
}

static void no_stderr(void) {
    free(filled(malloc(MIB), MIB));
    fclose(stderr);
    work();
}

/* nginx overwrites it, others clear it; children then start without. */
static void no_environment(void) {
    for (char **variable = environ; *variable; variable++)
        memset(*variable, 0, strlen(*variable));
    work();
    clearenv();
    work();
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", "world", "work", (char *)NULL);
        _exit(127);
    }
    int status = -1;
    waitpid(child, &status, 0);
    printf("child %d\n", status);
}

/* path is a program; the library's variables are inherited by what it cannot be loaded into. */
static void run_child(void) {
    work();
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        execl(path, path, (char *)NULL);
        _exit(127);
    }
    int status = -1;
    waitpid(child, &status, 0);
    printf("child %d\n", status);
    work();
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(void);
    } cases[] = {
        {"deepbind", deepbind},   {"deepbind-lazy", deepbind_lazy}, {"plain", plain},
        {"by-handle", by_handle}, {"namespace", namespace},         {"libraries", many_libraries},
        {"work", work},           {"no-stderr", no_stderr},         {"no-environment", no_environment},
        {"child", run_child},
    };
    path = argc > 2 ? argv[2] : NULL;
    for (size_t i = 0; argc > 1 && i < sizeof cases / sizeof cases[0]; i++)
        if (strcmp(cases[i].name, argv[1]) == 0) {
            cases[i].run();
            return 0;
        }
    fprintf(stderr, "usage: world CASE [PATH]\n");
    return 2;
}
