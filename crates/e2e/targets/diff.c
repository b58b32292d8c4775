/* Something to compare at two moments: nested variables, blocks, a mapping, a descriptor and a thread,
 * all of them a function of the number of steps taken.
 *
 *   --steps N   ends after so many (each takes 40 ms) */
#include "common.h"

enum phase { WARMING, WORKING, DRAINING };
struct item { int32_t count; char label[16]; double price; };
struct shelf {
    struct item items[4];
    struct item *best;
    unsigned flags : 3, kind : 5;
    enum phase phase;
    union { uint32_t whole; float part; } mixed;
};
static struct shelf shelf;
const char *title = "none";
int64_t untouched = 77;
/* Odd while a step is being taken. */
volatile uint64_t turns;
static struct node { struct node *next; uint64_t number; char pad[1000]; } *list;

static void *idle(void *p) {
    pthread_setname_np(pthread_self(), "late");
    while (!stopping()) usleep(5000);
    return p;
}
static void step(uint64_t n) {
    struct item *item = &shelf.items[n % 4];
    item->count = (int32_t)n;
    snprintf(item->label, sizeof item->label, "label-%d", (int)n);
    item->price = (double)n * 1.5;
    shelf.best = item;
    shelf.flags = n & 7;
    shelf.kind = n & 31;
    shelf.phase = n < 5 ? WARMING : n < 10 ? WORKING : DRAINING;
    shelf.mixed.whole = (uint32_t)n;
    title = n % 2 ? "odd" : "even";
    struct node *node = malloc(sizeof *node);
    NEED(node != NULL);
    memset(node, 0x5a, sizeof *node);
    node->number = n;
    node->next = list;
    list = node;
    if (n == 6) {
        NEED(mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
        NEED(open("/dev/zero", O_RDONLY) >= 0);
    }
    if (n == 7) {
        pthread_t t;
        NEED(pthread_create(&t, NULL, idle, NULL) == 0);
    }
}
int main(int argc, char **argv) {
    uint64_t steps = (uint64_t)option(argc, argv, "--steps", 14);
    on_sigterm_stop();
    printf("addr turns %lx\n", (long)&turns);
    printf("addr untouched %lx\n", (long)&untouched);
    ready();
    for (uint64_t n = 1; n <= steps && !stopping(); n++) {
        turns++;
        step(n);
        turns++;
        usleep(40000);
    }
    atomic_store(&stop_flag, 1);
    printf("ok %ld\n", (long)untouched);
    return 0;
}
