/* A planted history: the program changes its variables one store at a time, numbers the changes,
 * and writes down what each of them made true.
 *
 * A change is: its line is made up; `planted.before` is set to its number; ONE aligned store is made
 * (or, for a change of the address space, one system call); `planted.after` is set. x86 stores
 * become visible in program order and stopped threads have drained theirs, so an instant at which
 * both counters are n shows exactly the changes up to n, and one at which before is n and after is
 * n - 1 was inside change n: its store is there or it is not. Some changes sleep on purpose on
 * either side of the store, so that such instants occur.
 *
 * The log has a line per change, `NUMBER STORING_NS STORED_NS NAME=VALUE ...`, with CLOCK_REALTIME
 * right before and right after the store, and every expression whose value the store changed. So
 * what an instant shows can be had in two ways, from its time and from the counters in its memory.
 * `planted.ring` holds checks of the lines, to tie the two together. Shared by the C and the C++
 * target. */
#ifndef PLANTED_H
#define PLANTED_H
#include "common.h"

#define RING 1024
struct planted { volatile uint64_t before, after; volatile uint64_t ring[RING]; };
static struct planted planted;
static FILE *planted_log;
static uint64_t planted_seed, planted_storing;
static char planted_line[512];
static int planted_length, planted_slow;
#define BARRIER() __asm__ volatile("" ::: "memory")

static inline uint64_t wall(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}
static inline void rest(long us) {
    struct timespec t = {0, us * 1000};
    nanosleep(&t, NULL);
}
/* A random number below n. */
static inline uint64_t below(uint64_t n) { return next(&planted_seed) % n; }

static inline void __attribute__((format(printf, 1, 2))) says(const char *format, ...) {
    size_t room = sizeof planted_line - (size_t)planted_length;
    va_list v;
    va_start(v, format);
    int n = vsnprintf(planted_line + planted_length, room, format, v);
    va_end(v);
    NEED(n >= 0 && (size_t)n < room);
    planted_length += n;
}
static inline void begin_change(void) {
    uint64_t n = planted.after + 1;
    planted_slow = (int)below(64);
    planted.ring[n % RING] = n << 32 | (uint64_t)planted_length;
    BARRIER();
    planted.before = n;
    BARRIER();
    if (planted_slow == 0) rest(300);
    planted_storing = wall();
    BARRIER();
}
static inline void end_change(void) {
    BARRIER();
    uint64_t stored = wall();
    if (planted_slow == 1) rest(300);
    planted.after = planted.before;
    BARRIER();
    fprintf(planted_log, "%lu %lu %lu%s\n", (unsigned long)planted.after, (unsigned long)planted_storing,
            (unsigned long)stored, planted_line);
    planted_length = 0;
}
/* CHANGE(STORE, ...): the store, and says(...) before it. */
#define CHANGE(store, ...) do { says(__VA_ARGS__); begin_change(); store; end_change(); } while (0)

/* Between two changes: mostly a short sleep, at times none, seldom a long one. */
static inline void pace(void) {
    uint64_t r = below(100);
    if (r < 30) return;
    if (r < 97) rest((long)below(60));
    else rest(3000);
}

static inline void planted_open(int argc, char **argv) {
    const char *path = NULL;
    for (int i = 1; i + 1 < argc; i++) if (strcmp(argv[i], "--log") == 0) path = argv[i + 1];
    NEED(path && (planted_log = fopen(path, "w")));
    NEED(setvbuf(planted_log, NULL, _IOFBF, 1 << 16) == 0);
    planted_seed = mix((uint64_t)option(argc, argv, "--seed", 1));
    on_sigterm_stop();
    printf("addr planted %lx\n", (unsigned long)(uintptr_t)&planted);
}
static inline void planted_close(void) {
    NEED(fclose(planted_log) == 0);
    printf("ok changes %lu\n", (unsigned long)planted.after);
}
#endif
