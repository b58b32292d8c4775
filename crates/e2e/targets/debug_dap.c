/* Something to step through by its lines: a worker asks for checkpoints while the main thread waits on
 * one line, then on the next, and ends in a null pointer. Comments in capitals are looked for by
 * tests. */
#include "common.h"
#include <stillframe/points.h>

struct item { int id; struct item *next; };
struct box { int numbers[300]; struct item *first; const char *label; double weight; };
struct item third = {3, NULL}, second = {2, &third};
struct box box = {.first = &second, .label = "a box", .weight = 2.5};
int counter;
static _Atomic int stage = 1, seen;

static void __attribute__((noinline)) note(const char *name) {
    still_checkpoint(name); /* NOTE */
}
static void __attribute__((noinline)) change(int to) {
    int before = counter;
    counter = to;
    note("changed"); /* CHANGED */
    box.numbers[7] = before;
}
static void *worker(void *arg) {
    int local = (int)(intptr_t)arg;
    if (!still_wait_recording(20000)) WRONG("nobody records");
    while (seen < 1) usleep(100);
    for (int i = 0; i < 3; i++) {
        local += i;
        note("waiting"); /* LOOP */
    }
    change(7);
    note("later");
    stage = 2;
    while (seen < 2) usleep(100);
    note("second");
    change(local);
    note("third");
    stage = 3;
    return NULL;
}
static int __attribute__((noinline)) fall(struct item *from) {
    return from->next->id; /* FALL */
}
int main(void) {
    pthread_t thread;
    for (int i = 0; i < 300; i++) box.numbers[i] = i * i;
    NEED(pthread_create(&thread, NULL, worker, (void *)(intptr_t)40) == 0);
    seen = 1; while (stage == 1) { } /* FIRST */
    seen = 2; while (stage == 2) { } /* SECOND */
    NEED(pthread_join(thread, NULL) == 0);
    return fall(&third);
}
