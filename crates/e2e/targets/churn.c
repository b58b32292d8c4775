/* Changes its address space all the time, and knows what every page must hold.
 *
 *   --seconds S --workers W --slots N
 *
 * Workers map, unmap, grow, move, replace, split, merge, protect, drop. The main thread starts and
 * ends threads, grows and shrinks the heap, and recurses deeply. Every page of a slot has a
 * version; version 0 means zeros, any other determines all its bytes, wherever it has moved. */
#include "common.h"
#include <malloc.h>

#define MAX_PAGES 64
/* `whole`: one mapping still. Since Linux 6.17 mremap may move half of several and then give up. */
struct slot { char *at; uint32_t pages; int whole; uint64_t seed; uint64_t version[MAX_PAGES]; };
static _Atomic uint64_t refused;
struct worker { pthread_t thread; uint64_t s; uint64_t ops; int slots; };

static void fill(struct slot *t, uint32_t p, uint64_t version) {
    uint64_t *w = (uint64_t *)(t->at + p * PAGE), key = mix(t->seed ^ version);
    for (int i = 0; i < 512; i++) w[i] = key + (uint64_t)i * 0x100000001b3ULL;
    t->version[p] = version;
}
static int holds(const struct slot *t, uint32_t p, uint64_t version) {
    const uint64_t *w = (const uint64_t *)(t->at + p * PAGE);
    uint64_t key = mix(t->seed ^ version);
    for (int i = 0; i < 512; i++)
        if (w[i] != (version ? key + (uint64_t)i * 0x100000001b3ULL : 0)) return 0;
    return 1;
}
static void check(const struct slot *t, const char *when) {
    for (uint32_t p = 0; p < t->pages; p++)
        if (!holds(t, p, t->version[p])) WRONG("page %u of %p after %s", p, (void *)t->at, when);
}
static void *map(char *at, uint32_t pages, int flags) {
    char *m = mmap(at, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    NEED(m != MAP_FAILED);
    return m;
}

static void step(struct slot *t, uint64_t *s) {
    uint64_t r = next(s);
    if (!t->at) {
        t->pages = 1 + (uint32_t)(r >> 8) % (MAX_PAGES / 2);
        t->seed = next(s);
        t->at = map(NULL, t->pages, 0);
        t->whole = 1;
        memset(t->version, 0, sizeof t->version);
        for (uint32_t p = 0; p < t->pages; p++) if (next(s) & 1) fill(t, p, next(s) | 1);
        return;
    }
    uint32_t from = (uint32_t)(r >> 8) % t->pages, n = 1 + (uint32_t)(r >> 24) % (t->pages - from);
    char *part = t->at + from * PAGE;
    switch (r % 13) {
    case 0:
        check(t, "unmap");
        NEED(munmap(t->at, t->pages * PAGE) == 0);
        t->at = NULL;
        return;
    case 1: { /* grow, moving if it must */
        uint32_t more = 1 + (uint32_t)(r >> 40) % 16;
        if (t->pages + more > MAX_PAGES) return;
        char *m = mremap(t->at, t->pages * PAGE, (t->pages + more) * PAGE, MREMAP_MAYMOVE);
        if (m == MAP_FAILED && errno == EFAULT) { refused++; return; } /* pieces that did not merge */
        NEED(m != MAP_FAILED);
        t->at = m;
        t->whole = 0;
        for (uint32_t p = t->pages; p < t->pages + more; p++) t->version[p] = 0;
        t->pages += more;
        check(t, "mremap grow");
        fill(t, t->pages - 1, r | 1);
        return;
    }
    case 2: { /* move to a place of our choice, in one piece or page by page */
        char *place = map(NULL, t->pages, 0);
        uint32_t step = t->whole ? t->pages : 1;
        for (uint32_t p = 0; p < t->pages; p += step)
            NEED(mremap(t->at + p * PAGE, step * PAGE, step * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
                        place + p * PAGE) == place + p * PAGE);
        t->at = place;
        t->whole = step > 1;
        check(t, "mremap move");
        fill(t, from, r | 1);
        return;
    }
    case 3: /* replace with identical attributes */
        NEED(map(t->at, t->pages, MAP_FIXED) == t->at);
        t->whole = 1;
        memset(t->version, 0, sizeof t->version);
        check(t, "replacement");
        if (r & 0x8000) fill(t, from, r | 1);
        return;
    case 4: /* split and merge */
        t->whole = 0;
        NEED(mprotect(part, n * PAGE, PROT_READ) == 0);
        check(t, "mprotect read-only");
        NEED(mprotect(part, n * PAGE, PROT_READ | PROT_WRITE) == 0);
        fill(t, from, r | 1);
        return;
    case 5:
        NEED(madvise(part, n * PAGE, MADV_DONTNEED) == 0);
        for (uint32_t p = from; p < from + n; p++) t->version[p] = 0;
        check(t, "MADV_DONTNEED");
        if (r & 0x8000) fill(t, from, r | 1);
        return;
    case 6: /* pages keep their bytes or become zeros, and we look only afterwards */
        NEED(madvise(part, n * PAGE, MADV_FREE) == 0);
        if (r & 0x8000) sched_yield();
        for (uint32_t p = from; p < from + n; p++) {
            if (!holds(t, p, t->version[p]) && !holds(t, p, 0)) WRONG("page after MADV_FREE");
            fill(t, p, next(s) | 1);
        }
        return;
    case 7: /* out of reach and back, content kept */
        t->whole = 0;
        NEED(mprotect(part, n * PAGE, PROT_NONE) == 0);
        if (r & 0x8000) sched_yield();
        NEED(mprotect(part, n * PAGE, PROT_READ | PROT_WRITE) == 0);
        check(t, "PROT_NONE");
        return;
    case 8: /* shrink from the end */
        if (from == 0) return;
        NEED(munmap(part, (t->pages - from) * PAGE) == 0);
        t->pages = from;
        check(t, "shrinking");
        return;
    case 9: /* a hole, filled again */
        t->whole = 0;
        NEED(munmap(part, n * PAGE) == 0);
        if (mmap(part, n * PAGE, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != part) {
            /* another thread was given the hole: what is left in front of it is our slot */
            NEED(errno == EEXIST);
            if (from + n < t->pages)
                NEED(munmap(part + n * PAGE, (t->pages - from - n) * PAGE) == 0);
            t->pages = from;
            if (from == 0) t->at = NULL;
            return;
        }
        for (uint32_t p = from; p < from + n; p++) t->version[p] = 0;
        check(t, "hole filled");
        fill(t, from, r | 1);
        return;
    default:
        for (uint32_t p = from; p < from + n; p++) fill(t, p, next(s) | 1);
        check(t, "writing");
    }
}

static void *run(void *p) {
    struct worker *w = p;
    struct slot *slots = map(NULL, 64, 0);
    if ((size_t)w->slots * sizeof *slots > 64 * PAGE) w->slots = (int)(64 * PAGE / sizeof *slots);
    while (!stopping()) {
        step(&slots[next(&w->s) % (uint64_t)w->slots], &w->s);
        w->ops++;
    }
    for (int i = 0; i < w->slots; i++) if (slots[i].at) check(&slots[i], "the end");
    return NULL;
}

static __thread uint64_t mine[64];
static void *brief(void *p) {
    uint64_t k = (uint64_t)(uintptr_t)p;
    for (int i = 0; i < 64; i++) mine[i] = mix(k + (uint64_t)i);
    if (k & 1) sched_yield();
    for (int i = 0; i < 64; i++) if (mine[i] != mix(k + (uint64_t)i)) WRONG("a thread-local value");
    return (void *)(uintptr_t)mix(k);
}

static uint64_t __attribute__((noinline)) deep(int depth, uint64_t key) {
    volatile uint64_t frame[256];
    for (int i = 0; i < 256; i++) frame[i] = key + (uint64_t)i;
    uint64_t below = depth ? deep(depth - 1, mix(key)) : 0;
    for (int i = 0; i < 256; i++) if (frame[i] != key + (uint64_t)i) WRONG("a stack frame at depth %d", depth);
    return below + frame[depth & 255];
}

int main(int argc, char **argv) {
    double seconds = option(argc, argv, "--seconds", 10);
    int workers = (int)option(argc, argv, "--workers", 2), slots = (int)option(argc, argv, "--slots", 40);
    mallopt(M_TRIM_THRESHOLD, 1 << 30); /* the break is moved by us alone, between our two calls */
    on_sigterm_stop();
    struct worker *w = calloc((size_t)workers, sizeof *w);
    NEED(w);
    for (int i = 0; i < workers; i++) {
        w[i] = (struct worker){.s = mix((uint64_t)i + 5), .slots = slots};
        NEED(pthread_create(&w[i].thread, NULL, run, &w[i]) == 0);
    }
    ready();
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9), s = 99, rounds = 0, threads = 0;
    while (!stopping() && now_ns() < end) {
        pthread_t brood[6];
        for (uint64_t i = 0; i < 6; i++)
            NEED(pthread_create(&brood[i], NULL, brief, (void *)(uintptr_t)(rounds * 6 + i)) == 0);
        for (uint64_t i = 0; i < 6; i++) {
            void *r;
            NEED(pthread_join(brood[i], &r) == 0);
            if ((uint64_t)(uintptr_t)r != mix(rounds * 6 + i)) WRONG("a thread's result");
            threads++;
        }
        long grow = (long)(1 + next(&s) % 64) * (long)PAGE;
        uint64_t *heap = sbrk(grow);
        NEED(heap != (void *)-1);
        for (long i = 0; i < grow / 8; i++) {
            if (heap[i] != 0) WRONG("grown heap is not zero");
            heap[i] = mix(rounds + (uint64_t)i);
        }
        uint64_t a = deep(20 + (int)(next(&s) % 600), rounds);
        (void)a;
        for (long i = 0; i < grow / 8; i++) if (heap[i] != mix(rounds + (uint64_t)i)) WRONG("the heap");
        NEED(sbrk(-grow) != (void *)-1);
        if (rounds % 8 == 0) { struct timespec t = {0, 1000000}; nanosleep(&t, NULL); }
        rounds++;
    }
    atomic_store(&stop_flag, 1);
    uint64_t ops = 0;
    for (int i = 0; i < workers; i++) { NEED(pthread_join(w[i].thread, NULL) == 0); ops += w[i].ops; }
    printf("ok ops %llu refused %llu rounds %llu threads %llu\n", (unsigned long long)ops, (unsigned long long)refused, (unsigned long long)rounds, (unsigned long long)threads);
    return 0;
}
