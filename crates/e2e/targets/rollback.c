/* Work whose result depends on nothing but its own memory, registers and threads, so that it is the
 * same however often the process is taken back to an earlier moment of itself; and checks that find
 * a moment put together wrongly while it works. Without SIGTERM: it ends when its work is done.
 *
 * --threads N workers, each --steps S; --helpers 1: they make threads that end soon; --maps 1: they
 * map, unmap, move and protect memory; --pages N written by each; --pace US slept every 64 steps. */
#include "common.h"

struct worker {
    pthread_t thread;
    uint64_t number, x, step, *words;
    double vector[4];
};

static uint64_t steps, pages;
static int helpers, maps;
static long pace;
static __thread uint64_t own;

static void *help(void *p) {
    uint64_t x = (uint64_t)(uintptr_t)p;
    own = x;
    for (int i = 0; i < 2000; i++) x = mix(x + (uint64_t)i);
    if (own != (uint64_t)(uintptr_t)p) WRONG("a helper's own variable is another's");
    return (void *)(uintptr_t)x;
}

/* Memory that comes, moves and goes within one step, checked on the way. */
static uint64_t map_some(uint64_t x) {
    size_t n = 1 + x % 40;
    uint64_t *m = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(m != MAP_FAILED);
    for (size_t i = 0; i < n * PAGE / 8; i += 64) m[i] = x + i;
    size_t more = n + 1 + (x >> 8) % 20;
    m = mremap(m, n * PAGE, more * PAGE, MREMAP_MAYMOVE);
    NEED(m != MAP_FAILED);
    NEED(mprotect(m, PAGE, PROT_READ) == 0);
    uint64_t sum = 0;
    for (size_t i = 0; i < more * PAGE / 8; i += 64) {
        if (i < n * PAGE / 8 && m[i] != x + i) WRONG("mapped memory lost a word at %zu", i);
        if (i >= n * PAGE / 8 && m[i] != 0) WRONG("new memory is not zero at %zu", i);
        sum += m[i];
    }
    NEED(munmap(m, more * PAGE) == 0);
    size_t big = 1 + (x >> 16) % 300000;
    /* One that stays mapped until the next time, so that it is there at every other moment. */
    static __thread uint64_t *kept;
    static __thread size_t kept_pages;
    if (kept) {
        for (size_t i = 0; i < kept_pages * PAGE / 8; i += 64)
            if (kept[i] != kept_pages + i) WRONG("the mapping kept lost a word at %zu", i);
        NEED(munmap(kept, kept_pages * PAGE) == 0);
        kept = NULL;
    } else {
        kept_pages = n;
        kept = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        NEED(kept != MAP_FAILED);
        for (size_t i = 0; i < n * PAGE / 8; i += 64) kept[i] = n + i;
    }
    unsigned char *h = malloc(big);
    NEED(h != NULL);
    memset(h, (int)(x & 0xff), big);
    h = realloc(h, big * 2);
    NEED(h != NULL);
    for (size_t i = 0; i < big; i += 4096)
        if (h[i] != (unsigned char)x) WRONG("the heap lost a byte");
    free(h);
    return sum;
}

static void *work(void *p) {
    struct worker *w = p;
    size_t n = pages * PAGE / 8;
    uint64_t sum = 0;
    own = w->number;
    for (w->step = 0; w->step < steps; w->step++) {
        uint64_t x = w->x = mix(w->x + w->step);
        size_t at = x % n;
        sum -= w->words[at];
        w->words[at] ^= x;
        sum += w->words[at];
        for (int i = 0; i < 4; i++) w->vector[i] = w->vector[i] * 0.75 + (double)(x >> (16 * i) & 0xff);
        if (w->step % 4096 == 17) {
            uint64_t all = 0;
            for (size_t i = 0; i < n; i++) all += w->words[i];
            if (all != sum) WRONG("worker %d: its words add up to something else", (int)w->number);
        }
        if (own != w->number) WRONG("worker %d: its own variable is another's", (int)w->number);
        if (maps && w->step % 512 == 99) w->x += map_some(x);
        if (helpers && w->step % 1024 == 333) {
            pthread_t t;
            void *r;
            NEED(pthread_create(&t, NULL, help, (void *)(uintptr_t)x) == 0);
            NEED(pthread_join(t, &r) == 0);
            w->x += (uint64_t)(uintptr_t)r;
        }
        if (pace && w->step % 64 == 0) {
            struct timespec t = {0, pace * 1000};
            nanosleep(&t, NULL);
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    int threads = (int)option(argc, argv, "--threads", 1);
    steps = (uint64_t)option(argc, argv, "--steps", 200000);
    pages = (uint64_t)option(argc, argv, "--pages", 64);
    helpers = (int)option(argc, argv, "--helpers", 0);
    maps = (int)option(argc, argv, "--maps", 0);
    pace = (long)option(argc, argv, "--pace", 500);
    struct worker *w = calloc((size_t)threads, sizeof *w);
    NEED(w != NULL);
    for (int i = 0; i < threads; i++) {
        w[i].number = (uint64_t)i + 1;
        w[i].x = mix((uint64_t)i);
        w[i].words = calloc(pages, PAGE);
        NEED(w[i].words != NULL);
    }
    ready();
    if (threads == 1) {
        work(&w[0]);
    } else {
        for (int i = 0; i < threads; i++) NEED(pthread_create(&w[i].thread, NULL, work, &w[i]) == 0);
        for (int i = 0; i < threads; i++) NEED(pthread_join(w[i].thread, NULL) == 0);
    }
    uint64_t digest = 0;
    for (int i = 0; i < threads; i++) {
        digest = mix(digest ^ w[i].x);
        for (size_t k = 0; k < pages * PAGE / 8; k++) digest = mix(digest ^ w[i].words[k]);
        for (int k = 0; k < 4; k++) digest = mix(digest ^ (uint64_t)(w[i].vector[k] * 1024));
    }
    printf("ok %016llx\n", (unsigned long long)digest);
    return 0;
}
