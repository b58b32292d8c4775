/* Something to debug through time: a value that changes seldom on a page that changes always, named
 * threads, a thread-local each, a function with a known argument, one that runs for long.
 *
 *   --seconds N */
#include "common.h"

struct account { volatile int64_t balance; volatile uint64_t turns; const char *name; };
struct account account = {100, 0, "first"};
volatile int quiet = 7;
static __thread volatile int own;
static volatile int started;

static int64_t __attribute__((noinline)) settle(struct account *a, int64_t amount) {
    volatile int64_t was = a->balance;
    a->balance = was + amount;
    return was;
}
static void __attribute__((noinline)) polish(uint64_t until) {
    /* Most of it is its own work, not that of the clock. */
    while (now_ns() < until)
        for (int i = 0; i < 1000; i++) account.turns++;
}
static void *work(void *p) {
    own = (int)(uintptr_t)p * 11;
    pthread_setname_np(pthread_self(), (uintptr_t)p == 1 ? "clerk <1>" : "porter");
    started++;
    while (!stopping()) usleep(2000);
    return NULL;
}
int main(int argc, char **argv) {
    double seconds = option(argc, argv, "--seconds", 3);
    uint64_t seed = 42, end = now_ns() + (uint64_t)(seconds * 1e9), due = 0;
    pthread_t t[2];
    on_sigterm_stop();
    own = 5;
    for (uintptr_t i = 0; i < 2; i++) NEED(pthread_create(&t[i], NULL, work, (void *)(i + 1)) == 0);
    while (started < 2) usleep(500);
    printf("addr balance %lx\n", (long)&account.balance);
    ready();
    while (!stopping() && now_ns() < end) {
        account.turns++;
        if (now_ns() > due) {
            settle(&account, (int64_t)(next(&seed) % 9) - 4);
            due = now_ns() + 70000000ULL;
        }
        polish(now_ns() + 500000);
        usleep(500);
    }
    atomic_store(&stop_flag, 1);
    for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
    printf("ok\n");
    return 0;
}
