/* Something to debug in C: nested frames, locals, globals, thread-locals, several threads. */
#include "common.h"
struct point { int x, y; double weight; const char *name; };
struct point origin = {3, -4, 2.5, "origin"};
uint64_t table[8] = {1, 1, 2, 3, 5, 8, 13, 21};
static __thread struct point here;
static _Atomic int arrived;

static uint64_t __attribute__((noinline)) spin(const struct point *p, uint64_t depth) {
    volatile uint64_t turns = 0;
    volatile double x = 1.25 * (double)depth;
    arrived++;
    while (!stopping()) { turns++; x = x * 1.0000001 + (double)p->x; }
    return turns + (uint64_t)x;
}
static uint64_t __attribute__((noinline)) descend(const struct point *p, uint64_t depth, uint64_t flags) {
    struct point local = {.x = p->x + 1, .y = p->y * 2, .weight = p->weight / 2, .name = "local"};
    char text[16] = "depth ";
    text[6] = (char)('0' + depth);
    if (depth == 0) {
        if (flags & 1) return spin(&local, depth);
        arrived++;
        while (!stopping()) { struct timespec t = {600, 0}; nanosleep(&t, NULL); }
        return (uint64_t)text[6];
    }
    return descend(&local, depth - 1, flags) + (uint64_t)local.x;
}
static void *run(void *p) {
    uint64_t number = (uint64_t)(uintptr_t)p;
    here = (struct point){(int)number, (int)number * 10, 0.5, "here"};
    return (void *)(uintptr_t)descend(&here, 2 + number, number);
}
int main(void) {
    pthread_t t[3];
    on_sigterm_stop();
    here = origin;
    for (uint64_t i = 0; i < 3; i++) NEED(pthread_create(&t[i], NULL, run, (void *)(uintptr_t)i) == 0);
    while (arrived < 3) usleep(1000);
    usleep(50000);
    ready();
    return (int)(descend(&origin, 4, 0) & 0);
}
