/* Invariants across many pages that hold at every instant, and break in a copy of two instants.
 *
 * For `series` (PAGES words, one a page): the thread writes k to word 0, 1, 2, ... in order, then
 *   k+1. At any instant the words are k..k, k-1..k-1.
 * For `registers` (RING words, one a page): the thread holds k in r12 and stores it to word
 *   k mod RING. At any instant word j holds the largest value <= k of its residue, save that the
 *   word of k itself may still hold k - RING.
 * For `transfers` (per thread ACCOUNTS words, one a page, all threads in the same pages): before
 *   moving x from a to b, a journal entry {phase, a, b, x, old_a, old_b} is written, phase last;
 *   undoing the entry while phase is 1 restores the total.
 * For `pingpong` (two words): thread A sets a to n+1 once b is n, thread B sets b to n+1 once a is
 *   n+1. At any instant b <= a <= b + 1.
 * x86 stores become visible in program order, and stopped threads have drained their stores. */
#include "common.h"

#define PAGES 400
#define RING 256
#define ACCOUNTS 300
#define MOVERS 2
#define FUNDS 1000ULL
struct journal { volatile uint64_t phase, a, b, x, old_a, old_b; char pad[PAGE - 48]; };

static char *series, *ring, *accounts, *ping;
static struct journal *journal;
static volatile uint64_t *cell(char *base, uint64_t page, uint64_t word) {
    return (volatile uint64_t *)(base + page * PAGE + word * 8);
}
static char *pages(uint64_t n) {
    char *m = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(m != MAP_FAILED);
    return m;
}
#define BARRIER() __asm__ volatile("" ::: "memory")

static void *count(void *p) {
    (void)p;
    for (uint64_t k = 1; !stopping(); k++)
        for (uint64_t i = 0; i < PAGES; i++) *cell(series, i, (i * 37) % 512) = k;
    return NULL;
}

static void *in_register(void *p) {
    (void)p;
    uint64_t begin = RING;
    while (!stopping()) {
        /* one turn of the ring; r12 carries k from turn to turn and nothing else uses it here */
        uint64_t turns = 64 * RING;
        __asm__ volatile(
            "mov %[k], %%r12\n"
            "1: inc %%r12\n"
            "mov %%r12, %%rax\n"
            "and %[mask], %%rax\n"
            "shl $12, %%rax\n"
            "mov %%r12, (%[base], %%rax)\n"
            "dec %[n]\n"
            "jnz 1b\n"
            "mov %%r12, %[k]\n"
            : [k] "+m"(begin), [n] "+r"(turns)
            : [base] "r"(ring), [mask] "i"(RING - 1)
            : "rax", "r12", "memory", "cc");
    }
    return NULL;
}

static void *move_funds(void *p) {
    uint64_t t = (uint64_t)(uintptr_t)p, s = mix(t + 3), word = 8 + t * 64;
    struct journal *j = &journal[t];
    while (!stopping()) {
        uint64_t a = next(&s) % ACCOUNTS, b = next(&s) % ACCOUNTS;
        if (a == b) continue;
        uint64_t old_a = *cell(accounts, a, word), old_b = *cell(accounts, b, word);
        uint64_t x = old_a ? next(&s) % (old_a + 1) : 0;
        j->a = a; j->b = b; j->x = x; j->old_a = old_a; j->old_b = old_b;
        BARRIER();
        j->phase = 1;
        BARRIER();
        *cell(accounts, a, word) = old_a - x;
        *cell(accounts, b, word) = old_b + x;
        BARRIER();
        j->phase = 0;
    }
    uint64_t total = 0;
    for (uint64_t i = 0; i < ACCOUNTS; i++) total += *cell(accounts, i, word);
    if (total != ACCOUNTS * FUNDS) WRONG("funds of mover %d", (int)t);
    return NULL;
}

static void *player(void *p) {
    int second = p != NULL;
    volatile uint64_t *mine = cell(ping, second ? 7 : 0, 0), *other = cell(ping, second ? 0 : 7, 0);
    while (!stopping()) {
        uint64_t m = *mine, o = *other;
        if (second ? o == m + 1 : o == m) *mine = m + 1;
        else sched_yield();
        if (second ? o < m || o > m + 1 : o > m || o + 1 < m) WRONG("ping-pong");
    }
    return NULL;
}

int main(int argc, char **argv) {
    double seconds = option(argc, argv, "--seconds", 10);
    series = pages(PAGES); ring = pages(RING); accounts = pages(ACCOUNTS); ping = pages(8);
    journal = (struct journal *)pages(MOVERS);
    memset(series, 0, PAGES * PAGE);
    memset(ping, 0, 8 * PAGE);
    for (uint64_t i = 0; i < RING; i++) *cell(ring, i, 0) = i == 0 ? RING : i;
    for (uint64_t i = 0; i < ACCOUNTS; i++)
        for (uint64_t t = 0; t < MOVERS; t++) *cell(accounts, i, 8 + t * 64) = FUNDS;
    on_sigterm_stop();
    pthread_t t[4 + MOVERS];
    int n = 0;
    NEED(pthread_create(&t[n++], NULL, count, NULL) == 0);
    NEED(pthread_create(&t[n], NULL, in_register, NULL) == 0);
    pthread_setname_np(t[n++], "in-register");
    for (uint64_t i = 0; i < MOVERS; i++) NEED(pthread_create(&t[n++], NULL, move_funds, (void *)(uintptr_t)i) == 0);
    NEED(pthread_create(&t[n++], NULL, player, NULL) == 0);
    NEED(pthread_create(&t[n++], NULL, player, (void *)1) == 0);
    printf("addr series %lx\naddr ring %lx\naddr accounts %lx\naddr journal %lx\naddr ping %lx\n",
           (long)series, (long)ring, (long)accounts, (long)journal, (long)ping);
    ready();
    wait_until_done(seconds);
    for (int i = 0; i < n; i++) NEED(pthread_join(t[i], NULL) == 0);
    printf("ok\n");
    return 0;
}
