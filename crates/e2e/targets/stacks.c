/* Stands still in places that are hard to unwind: a signal handler on its own stack that interrupted
 * inlined code, a callback out of the C library, a leaf without a frame, a system call. Optimised. */
#include "common.h"
#include <signal.h>

static volatile uint64_t turns;
static _Atomic int arrived;
static int numbers[64];

static void __attribute__((noinline)) rest(void) {
    arrived++;
    for (;;) pause();
}
static inline __attribute__((always_inline)) uint64_t blend(uint64_t x) {
    x ^= x >> 7;
    turns += x;
    return x * 31;
}
static inline __attribute__((always_inline)) uint64_t twice(uint64_t x) { return blend(blend(x) + 1); }
static uint64_t __attribute__((noinline)) spin(uint64_t x) {
    for (;;) x = twice(x);
}
static void __attribute__((noinline)) caught(int signal) {
    turns += (uint64_t)signal;
    rest();
}
static void *interrupted(void *p) {
    static char stack[65536];
    stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    NEED(sigaltstack(&other, NULL) == 0);
    return (void *)(uintptr_t)spin((uintptr_t)p);
}
static int compare(const void *a, const void *b) {
    if (*(const int *)a == 7 || *(const int *)b == 7) rest();
    return *(const int *)a - *(const int *)b;
}
static void *sorting(void *p) {
    for (int i = 0; i < 64; i++) numbers[i] = 63 - i;
    qsort(numbers, 64, sizeof *numbers, compare);
    return p;
}
static void *leaf(void *p) {
    arrived++;
    return (void *)(uintptr_t)spin((uintptr_t)p + 3);
}
int main(void) {
    struct sigaction action = {.sa_handler = caught, .sa_flags = SA_ONSTACK};
    NEED(sigaction(SIGUSR1, &action, NULL) == 0);
    pthread_t a, b, c;
    NEED(pthread_create(&a, NULL, interrupted, NULL) == 0);
    NEED(pthread_create(&b, NULL, sorting, NULL) == 0);
    NEED(pthread_create(&c, NULL, leaf, NULL) == 0);
    usleep(50000);
    NEED(pthread_kill(a, SIGUSR1) == 0);
    while (arrived < 3) usleep(1000);
    usleep(50000);
    ready();
    for (;;) pause();
}
