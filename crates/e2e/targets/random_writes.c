/* T threads write random 8-byte values all over N MiB.
 *
 *   --mib N --threads T --seconds S --thp 0|1
 *   --spin K   K rounds of arithmetic after each write: paces the writes in a closed loop, so that
 *              writes per second measure how much the program is slowed down
 *   SIGUSR1 begins the measurement, and the seconds, anew; --unmarked S: the limit until then
 *   --calibrate W   prints the K that gives W writes per second over all threads, and ends
 *
 * Each thread owns the words of its index modulo T and keeps the sum they must have: any lost,
 * repeated or foreign write is seen at the end. */
#include "common.h"

static uint64_t *words;
static uint64_t count, threads, spin;
struct worker { uint64_t index; volatile uint64_t writes; uint64_t sum, seed; pthread_t thread; } __attribute__((aligned(64)));

static inline uint64_t work(uint64_t x, uint64_t rounds) {
    for (uint64_t i = 0; i < rounds; i++) x = mix(x + i);
    __asm__ volatile("" : "+r"(x));
    return x;
}

static void *run(void *p) {
    struct worker *w = p;
    uint64_t s = w->seed, sum = 0, n = 0, mine = count / threads;
    while (!stopping()) {
        uint64_t i = (next(&s) % mine) * threads + w->index, v = next(&s);
        sum += v - words[i];
        words[i] = v;
        w->writes = ++n;
        if (spin) s ^= work(s, spin) & 1;
    }
    w->sum = sum;
    return NULL;
}

static atomic_int anew;
static void on_usr1(int sig) { (void)sig; atomic_store(&anew, 1); }
static uint64_t so_far(const struct worker *w) {
    uint64_t n = 0;
    for (uint64_t t = 0; t < threads; t++) n += w[t].writes;
    return n;
}

int main(int argc, char **argv) {
    uint64_t mib = (uint64_t)option(argc, argv, "--mib", 64);
    double seconds = option(argc, argv, "--seconds", 10), limit = option(argc, argv, "--unmarked", seconds);
    threads = (uint64_t)option(argc, argv, "--threads", 2);
    spin = (uint64_t)option(argc, argv, "--spin", 0);
    double rate = option(argc, argv, "--calibrate", 0);
    if (rate > 0) {
        uint64_t best = ~0ULL, x = 1;
        for (int k = 0; k < 7; k++) {
            uint64_t t = now_ns();
            x = work(x, 2000000);
            t = now_ns() - t;
            if (t < best) best = t;
        }
        printf("%llu\n", (unsigned long long)((double)threads * 1e9 / rate / ((double)best / 2e6)));
        return x == 42;
    }
    uint64_t bytes = mib << 20, align = 2 << 20;
    char *raw = mmap(NULL, bytes + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(raw != MAP_FAILED);
    words = (uint64_t *)(((uintptr_t)raw + align - 1) & ~(align - 1));
    NEED(madvise(words, bytes, option(argc, argv, "--thp", 0) ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) == 0);
    count = bytes / 8;
    count -= count % threads;
    for (uint64_t i = 0; i < count; i++) words[i] = mix(i);
    uint64_t *start = calloc(threads, 8);
    struct worker *w = aligned_alloc(64, threads * sizeof *w);
    NEED(start && w);
    for (uint64_t i = 0; i < count; i++) start[i % threads] += words[i];
    on_sigterm_stop();
    signal(SIGUSR1, on_usr1);
    for (uint64_t t = 0; t < threads; t++) {
        w[t] = (struct worker){.index = t, .seed = mix(t + 77)};
        NEED(pthread_create(&w[t].thread, NULL, run, &w[t]) == 0);
    }
    uint64_t begun = now_ns(), before = 0;
    ready();
    while (!stopping() && (double)(now_ns() - begun) < limit * 1e9) {
        struct timespec pause = {0, 20000000};
        nanosleep(&pause, NULL);
        if (atomic_exchange(&anew, 0)) { before = so_far(w); begun = now_ns(); limit = seconds; }
    }
    double took = (double)(now_ns() - begun) / 1e9;
    uint64_t writes = so_far(w) - before;
    atomic_store(&stop_flag, 1);
    for (uint64_t t = 0; t < threads; t++) NEED(pthread_join(w[t].thread, NULL) == 0);
    for (uint64_t t = 0; t < threads; t++) {
        uint64_t sum = 0;
        for (uint64_t i = t; i < count; i += threads) sum += words[i];
        if (sum - start[t] != w[t].sum) WRONG("the sum of thread %d", (int)t);
    }
    printf("ok writes %llu seconds %.6f per_second %.1f\n", (unsigned long long)writes, took, (double)writes / took);
    return 0;
}
