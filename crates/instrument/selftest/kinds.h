/* What the C and the C++ matrix share: a kind of store is a function that writes into an arena or a
 * named object. Each is run twice: once kept, to see that it writes at all, and once rolled back, to
 * see that everything is as before. */
#include <stillframe/inproc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARENA 8192
static unsigned char *arena; /* of the heap, aligned to 64 */
struct watched {
    void *at;
    size_t bytes;
};
static struct watched watched[64];
static int watching;

typedef void kind_function(unsigned char *p);
static int run_and_undo(void *f) {
    (*(kind_function **)f)(arena + 1024);
    return 1;
}
static void capture(unsigned char *to) {
    memcpy(to, arena, ARENA);
    size_t at = ARENA;
    for (int i = 0; i < watching; i++) {
        memcpy(to + at, watched[i].at, watched[i].bytes);
        at += watched[i].bytes;
    }
}
static size_t total(void) {
    size_t bytes = ARENA;
    for (int i = 0; i < watching; i++) bytes += watched[i].bytes;
    return bytes;
}
static void watch(void *at, size_t bytes) {
    watched[watching].at = at;
    watched[watching++].bytes = bytes;
}
static void restore(const unsigned char *from) {
    memcpy(arena, from, ARENA);
    size_t at = ARENA;
    for (int i = 0; i < watching; i++) {
        memcpy(watched[i].at, from + at, watched[i].bytes);
        at += watched[i].bytes;
    }
}
/* Each in a process of its own: what is missed may crash it. */
static int alone(void) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) return 1;
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}
static void kind(const char *name, kind_function *function) {
    int child = alone();
    if (child <= 0) {
        if (child < 0) printf("%s\tmissed\n", name);
        return;
    }
    static unsigned char *before, *after;
    if (!before) {
        before = (unsigned char *)malloc(65536);
        after = (unsigned char *)malloc(65536);
    }
    kind_function *volatile f = function;
    kind_function *g = f;
    capture(before);
    f(arena + 1024);
    capture(after);
    int writes = memcmp(before, after, total()) != 0;
    restore(before);
    int ended = still_try(run_and_undo, &g);
    capture(after);
    int same = memcmp(before, after, total()) == 0;
    if (ended != STILL_ROLLED_BACK) {
        printf("%s\trefused\n", name);
    } else if (!writes) {
        printf("%s\tidle\n", name);
    } else {
        printf("%s\t%s\n", name, same ? "seen" : "missed");
    }
    fflush(stdout);
    _exit(0);
}
static void begin(void) {
    arena = (unsigned char *)aligned_alloc(64, ARENA);
    unsigned x = 1;
    for (int i = 0; i < ARENA; i++) arena[i] = (unsigned char)((x = x * 1103515245u + 12345u) >> 23);
}
#define K(name, ...) \
    __attribute__((noinline)) static void k_##name(unsigned char *p) { \
        (void)p; \
        __VA_ARGS__ \
    }
#define RUN(name) kind(#name, k_##name)
