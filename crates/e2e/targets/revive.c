// Computes something that takes a while and checks itself at every step: restored at any moment, it
// must come to the same result. revive ROUNDS THREADS [signals]. Ends with "ok DIGEST", or "BAD ...".
// Nothing in the result depends on time or on numbers of processes and threads.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#define WORDS (128 * 1024)
typedef struct node { struct node *next; uint64_t value; char text[40]; } node;
typedef struct {
    uint64_t x, sum, digest;
    uint64_t *words;
    node *list;
    int length;
    double lanes[8];
} state;

static __thread uint64_t own = 0x5eed;
static pthread_barrier_t barrier;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t under_lock;
static atomic_long alarms;
static char *guarded;
static int threads;

static void bad(const char *what, uint64_t a, uint64_t b) {
    printf("BAD %s %llx %llx\n", what, (unsigned long long)a, (unsigned long long)b);
    fflush(stdout);
    _exit(1);
}
static uint64_t next(state *s) {
    s->x ^= s->x << 13; s->x ^= s->x >> 7; s->x ^= s->x << 17;
    return s->x;
}
static uint64_t deep(state *s, int depth) {
    volatile uint64_t here[16];
    uint64_t before = s->x;
    for (int i = 0; i < 16; i++) here[i] = before * (i + 1) + depth;
    uint64_t below = depth ? deep(s, depth - 1) : next(s);
    for (int i = 0; i < 16; i++)
        if (here[i] != before * (i + 1) + depth) bad("stack", here[i], depth);
    return below + here[3];
}
static void check(state *s) {
    uint64_t sum = 0;
    for (int i = 0; i < WORDS; i++) sum += s->words[i];
    if (sum != s->sum) bad("words", sum, s->sum);
    int n = 0;
    for (node *p = s->list; p; p = p->next, n++) {
        char text[40];
        snprintf(text, sizeof text, "node %llu", (unsigned long long)p->value);
        if (strcmp(text, p->text)) bad("list", p->value, n);
    }
    if (n != s->length) bad("length", n, s->length);
    if (own != s->digest) bad("thread's own", own, s->digest);
}
static void turn(state *s) {
    for (int i = 0; i < 3000; i++) {
        uint64_t v = next(s);
        uint64_t *w = &s->words[v % WORDS];
        s->sum += v - *w;
        *w = v;
        s->lanes[v & 7] = s->lanes[v & 7] * 0.999 + (double)(v >> 40);
    }
    uint64_t v = next(s);
    if (v % 3 && s->length < 500) {
        node *n = malloc(sizeof *n + v % 4000);
        n->next = s->list; n->value = v;
        snprintf(n->text, sizeof n->text, "node %llu", (unsigned long long)v);
        s->list = n; s->length++;
    } else if (s->list) {
        node *n = s->list;
        s->list = n->next; s->length--;
        free(n);
    }
    if (v % 50 == 1) {
        // A mapping that comes and goes, and one of its pages is protected.
        size_t size = 4096 * (2 + v % 30);
        char *m = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(m, (int)(v & 0xff), size);
        mprotect(m, 4096, PROT_READ);
        for (size_t i = 0; i < size; i += 997) if (m[i] != (char)(v & 0xff)) bad("mapping", i, v);
        munmap(m, size);
    }
    s->digest = s->digest * 31 + deep(s, v % 60) + s->sum;
    for (int i = 0; i < 8; i++) s->digest ^= (uint64_t)s->lanes[i];
    own = s->digest;
}
static state *fresh(uint64_t seed) {
    state *s = calloc(1, sizeof *s);
    s->x = seed * 0x9e3779b97f4a7c15u | 1;
    s->words = calloc(WORDS, 8);
    own = s->digest;
    return s;
}
static int rounds;
static void *work(void *seed) {
    state *s = fresh((uintptr_t)seed);
    for (int i = 0; i < rounds; i++) {
        turn(s);
        check(s);
        if (threads > 1) {
            pthread_mutex_lock(&lock);
            under_lock++;
            pthread_mutex_unlock(&lock);
            if (i % 16 == 0) pthread_barrier_wait(&barrier);
        }
    }
    return (void *)(uintptr_t)s->digest;
}
static void on_alarm(int n) { (void)n; int e = errno; alarms++; errno = e; }

int main(int argc, char **argv) {
    rounds = argc > 1 ? atoi(argv[1]) : 1000;
    threads = argc > 2 ? atoi(argv[2]) : 1;
    int signals = argc > 3 && !strcmp(argv[3], "signals");
    guarded = mmap(0, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    printf("ready %d\n", getpid());
    fflush(stdout);
    if (signals) {
        struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
        sigaction(SIGALRM, &sa, 0);
        struct itimerval t = {{0, 3000}, {0, 3000}};
        setitimer(ITIMER_REAL, &t, 0);
    }
    uint64_t digest = 0;
    if (threads > 1) {
        pthread_t t[64];
        pthread_barrier_init(&barrier, 0, threads);
        for (int i = 0; i < threads; i++) pthread_create(&t[i], 0, work, (void *)(uintptr_t)(i + 1));
        for (int i = 0; i < threads; i++) {
            void *r;
            pthread_join(t[i], &r);
            digest = digest * 31 + (uintptr_t)r;
        }
        if (under_lock != (uint64_t)rounds * threads) bad("lock", under_lock, rounds);
    } else {
        digest = (uintptr_t)work((void *)1);
    }
    printf("ok %llx\n", (unsigned long long)digest);
    return 0;
}
