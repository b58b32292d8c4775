/* A planted history in C (see planted.h). Every kind of place that a variable can have: a global,
 * members behind pointers that move, the heap, a thread-local, an enum, strings, a bit-field, an
 * element among busy neighbours, a mapping that comes and goes. */
#include "planted.h"

enum phase { IDLE, LOADING = 10, RUNNING, DRAINING = -3 };
struct item { long key; struct item *following; };
struct queue { size_t len; struct item *head; char rest[2 * PAGE]; };
struct flags { unsigned ready : 1, mode : 3; };
struct box { double weight; char rest[3 * PAGE]; short kind; };

int volatile count;
struct queue *volatile queue;
struct box *box;
static __thread volatile int level;
static struct { char pad[100]; volatile enum phase phase; struct flags flags; } state;
const char *volatile label;
char name[16] = "mode A of them";
volatile int64_t table[64];
volatile uint64_t rare = 1ULL << 63;
volatile float ratio = 1;
static int *volatile window;

static const char *const LABELS[] = {"alpha", "beta", "", "gamma of them", "delta"};
static const enum phase PHASES[] = {IDLE, LOADING, RUNNING, DRAINING};
static const char *const PHASE_NAMES[] = {"IDLE", "LOADING", "RUNNING", "DRAINING"};
static struct queue *queues[3];
static struct item *items[4];

/* The length of one queue, as the expression that shows it at the moment and as an address. */
static void says_len(const struct queue *q, size_t len) {
    if (q == queue) says(" queue->len=%lu", (unsigned long)len);
    if (q == queues[0]) says(" @len=%lu", (unsigned long)len);
}
static void show_queue(const struct queue *q) {
    says(" queue->len=%lu queue->head->key=%ld", (unsigned long)q->len, q->head->key);
}

static void change(void) {
    uint64_t what = below(1000), other = below(1000);
    if (what < 300) {
        CHANGE(count = count + 1, " count=%d", count + 1);
    } else if (what < 450) { /* up and down again: much of it is over before anyone looks */
        struct queue *q = queue;
        size_t len = other % 3 && q->len ? q->len - 1 : q->len + 2;
        says_len(q, len);
        CHANGE(*(volatile size_t *)&q->len = len, "%s", "");
    } else if (what < 460) { /* another queue in the same variable: old pages, new values */
        struct queue *q = queues[other % 3];
        if (q == queue) return;
        show_queue(q);
        CHANGE(queue = q, "%s", "");
    } else if (what < 480) { /* a queue that `queue` does not show, most of the time */
        struct queue *q = queues[other % 3];
        size_t len = q->len + 100;
        says_len(q, len);
        CHANGE(*(volatile size_t *)&q->len = len, "%s", "");
    } else if (what < 500) {
        struct item *head = items[other % 4];
        CHANGE(*(struct item *volatile *)&queue->head = head, " queue->head->key=%ld", head->key);
    } else if (what < 520) { /* an item, which may be the head of the queue shown */
        struct item *item = items[other % 4];
        long key = item->key + (long)(1 + other % 5) * (other % 2 ? 1 : -1);
        if (item == queue->head) says(" queue->head->key=%ld", key);
        CHANGE(*(volatile long *)&item->key = key, "%s", "");
    } else if (what < 560) {
        double weight = box->weight * 0.5 + (double)(other % 16);
        if (weight == box->weight) return;
        CHANGE(*(volatile double *)&box->weight = weight, " box->weight=%.17g", weight);
    } else if (what < 580) {
        short kind = (short)(other - 500);
        CHANGE(*(volatile short *)&box->kind = kind, " box->kind=%d", kind);
    } else if (what < 640) {
        CHANGE(level = level - 1, " level=%d", level - 1);
    } else if (what < 680) {
        CHANGE(state.phase = PHASES[other % 4], " state.phase=%s", PHASE_NAMES[other % 4]);
    } else if (what < 700) {
        unsigned mode = (unsigned)other % 8;
        /* one aligned store of the word that holds both fields */
        union { struct flags flags; unsigned word; } both = {{1, mode & 7}};
        CHANGE(__atomic_store_n((unsigned *)(void *)&state.flags, both.word, __ATOMIC_RELAXED), " state.flags.mode=%u state.flags.ready=1", mode);
    } else if (what < 730) {
        CHANGE(label = LABELS[other % 5], " label=\"%s\"", LABELS[other % 5]);
    } else if (what < 750) {
        char letter = (char)('A' + other % 26);
        char text[16];
        memcpy(text, name, sizeof text);
        text[5] = letter;
        CHANGE(*(volatile char *)&name[5] = letter, " name=\"%s\"", text);
    } else if (what < 752) {
        CHANGE(table[7] = table[7] * 3 - 1, " table[7]=%ld", (long)(table[7] * 3 - 1));
    } else if (what < 950) { /* its neighbours */
        uint64_t i = 8 + other % 56;
        CHANGE(table[i] = (int64_t)mix(other), "%s", "");
    } else if (what < 951) {
        CHANGE(rare = rare - 1, " rare=%lu", (unsigned long)(rare - 1));
    } else if (what < 970) { /* a store that changes nothing */
        CHANGE(rare = rare, "%s", "");
    } else if (what < 990) {
        float r = (float)(other % 7) / 4;
        CHANGE(ratio = r, " ratio=%g", (double)r);
    } else if (other < 500) {
        int n = (int)other - 250;
        if (planted.after % 2 == 0) { /* nothing there, then zeroes again */
            CHANGE(NEED(munmap(window, PAGE) == 0), " *window=?");
            rest(1500);
            CHANGE(NEED(mmap(window, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == window), " *window=0");
        } else { /* other memory in the same place at once */
            CHANGE(NEED(mmap(window, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == window), " *window=0");
        }
        CHANGE(*(volatile int *)window = n, " *window=%d", n);
    }
}

int main(int argc, char **argv) {
    planted_open(argc, argv);
    for (int i = 0; i < 4; i++) NEED((items[i] = calloc(1, i % 2 ? 3 * PAGE : sizeof *items[i])));
    for (int i = 0; i < 3; i++) {
        NEED((queues[i] = calloc(1, sizeof *queues[i])));
        queues[i]->head = items[i];
        queues[i]->len = (size_t)i * 10;
    }
    for (int i = 0; i < 4; i++) items[i]->key = -100 * i;
    NEED((box = calloc(1, sizeof *box)));
    void *w = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(w != MAP_FAILED);
    window = w;
    /* what is true before the first change */
    queue = queues[0];
    label = LABELS[0];
    show_queue(queue);
    CHANGE((void)0, " @len=0 count=0 box->weight=0 box->kind=0 level=0 state.phase=IDLE state.flags.mode=0 state.flags.ready=0"
           " label=\"alpha\" name=\"mode A of them\" table[7]=0 rare=%lu ratio=1 *window=0", (unsigned long)rare);
    printf("addr count %lx\naddr len %lx\naddr table7 %lx\naddr rare %lx\naddr name %lx\naddr window %lx\n",
           (unsigned long)&count, (unsigned long)&queues[0]->len, (unsigned long)&table[7], (unsigned long)&rare,
           (unsigned long)&name, (unsigned long)window);
    ready();
    while (!stopping()) {
        change();
        pace();
    }
    planted_close();
    return 0;
}
