/* What all targets share: a generator, a clock, a stop flag, and a way to fail.
 *
 * A target checks itself. It prints `ready PID` when its steady state is reached, then works until
 * its time is over or SIGTERM arrives, and ends with `ok ...` and status 0, or with `wrong: ...`
 * and status 1. `addr NAME HEX` lines tell an outside checker where to look. */
#ifndef COMMON_H
#define COMMON_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#ifdef __cplusplus
#include <atomic>
using std::atomic_int;
using std::atomic_load_explicit;
using std::atomic_store;
using std::memory_order_relaxed;
#else
#include <stdatomic.h>
#endif

#define PAGE 4096UL

static atomic_int stop_flag;

static inline int stopping(void) { return atomic_load_explicit(&stop_flag, memory_order_relaxed); }
static void on_term(int sig) { (void)sig; atomic_store(&stop_flag, 1); }

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

static inline uint64_t mix(uint64_t x) { /* splitmix64 */
    x += 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

static inline uint64_t next(uint64_t *s) { /* xorshift64* */
    uint64_t x = *s;
    x ^= x >> 12; x ^= x << 25; x ^= x >> 27;
    *s = x;
    return x * 0x2545f4914f6cdd1dULL;
}

static inline void __attribute__((noreturn, format(printf, 1, 2))) wrong(const char *format, ...) {
    char b[512];
    va_list v;
    va_start(v, format);
    int n = snprintf(b, sizeof b - 1, "wrong: ");
    n += vsnprintf(b + n, sizeof b - 1 - (size_t)n, format, v);
    va_end(v);
    if (n > (int)sizeof b - 2) n = sizeof b - 2;
    b[n] = '\n';
    (void)!write(1, b, (size_t)n + 1);
    _exit(1);
}
#define WRONG wrong
#define NEED(c) do { if (!(c)) WRONG("%s:%d: %s: %s", __FILE__, __LINE__, #c, strerror(errno)); } while (0)

static inline void ready(void) {
    printf("ready %d\n", (int)getpid());
    fflush(stdout);
}

static inline void on_sigterm_stop(void) {
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_handler = on_term;
    a.sa_flags = SA_RESTART;
    NEED(sigaction(SIGTERM, &a, NULL) == 0);
}

/* Sleeps in short pieces until the time is over or we are told to stop. */
static inline void wait_until_done(double seconds) {
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
    while (!stopping() && now_ns() < end) {
        struct timespec t = {0, 20000000};
        nanosleep(&t, NULL);
    }
    atomic_store(&stop_flag, 1);
}

/* The value after `--name`, or the default. */
static inline double option(int argc, char **argv, const char *name, double otherwise) {
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0) return atof(argv[i + 1]);
    return otherwise;
}
#endif
