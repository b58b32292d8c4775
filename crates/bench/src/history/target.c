/* What `still bench history` records: a process of many MiB of which little is written, with
 * variables whose history is known, and threads some frames deep.
 *
 *   target MIB SECONDS CHANGES
 *
 * It says `ready PID` once all its memory has been written, begins at SIGUSR1 (the recorder first has to
 * store all that), and runs until SIGTERM. `alone.value`, on
 * a page of its own, and `shared.among`, on a page that is written all the time, change CHANGES times
 * each, spread over the first SECONDS; `hot` and the queue change all the time. At its end it prints
 * `ok ALONE AMONG HOT`. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
struct item { long key; double weight; struct item *next; };
struct queue { volatile long len; struct item *head; const char *name; };

struct { volatile long value; char rest[PAGE - 8]; } __attribute__((aligned(4096))) alone;
struct { volatile long among; volatile long busy[64]; } __attribute__((aligned(4096))) shared;
volatile long hot;
struct queue *queue;
static volatile sig_atomic_t stop, go;

static void on_term(int sig) { (void)sig; stop = 1; }
static void on_go(int sig) { (void)sig; go = 1; }
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
static void rest(long us) {
    struct timespec t = {0, us * 1000};
    nanosleep(&t, NULL);
}

static long __attribute__((noinline)) descend(long depth, long number) {
    volatile long local = depth * 100 + number;
    if (depth > 0) return descend(depth - 1, number) + local;
    while (!stop) rest(20000);
    return local;
}
static void *worker(void *p) { return (void *)descend(12, (long)p); }

static void __attribute__((noinline)) work(char *memory, uint64_t pages, double seconds, long changes) {
    uint64_t random = 0x9e3779b97f4a7c15ULL;
    double begun = now(), changed = begun;
    for (long turn = 0; !stop; turn++) {
        double share = (now() - begun) / seconds;
        if (share > 1) share = 1; /* all has happened; the recorder may not be there yet */
        /* the middle of each of CHANGES equal parts */
        long due = (long)(share * (double)changes + 0.5);
        /* one at a time and apart, so that no two are between the same checkpoints */
        if (due > alone.value && now() - changed > seconds / (double)changes / 2) {
            alone.value++, shared.among++;
            changed = now();
        }
        shared.busy[turn % 64] = turn;
        hot = turn;
        queue->len = turn % 1000;
        queue->head->key = turn;
        for (int i = 0; i < 2; i++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            *(volatile uint64_t *)(memory + random % pages * PAGE + 8) = random;
        }
        rest(150);
    }
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    uint64_t pages = strtoull(argv[1], NULL, 10) << 8;
    double seconds = atof(argv[2]);
    long changes = atol(argv[3]);
    char *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) { perror("mmap"); return 1; }
    madvise(memory, pages * PAGE, MADV_NOHUGEPAGE);
    for (uint64_t i = 0; i < pages; i++) { /* no two alike, and something to compress */
        uint64_t *word = (uint64_t *)(memory + i * PAGE);
        for (int j = 0; j < 128; j++) word[j * 4] = (i * 0x9e3779b97f4a7c15ULL) ^ ((uint64_t)j << 32);
    }
    struct item *item = calloc(1, sizeof *item);
    queue = calloc(1, sizeof *queue);
    if (!item || !queue) return 1;
    *item = (struct item){0, 1.5, item};
    *queue = (struct queue){0, item, "the queue"};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_term;
    sigaction(SIGTERM, &action, NULL);
    action.sa_handler = on_go;
    sigaction(SIGUSR1, &action, NULL);
    pthread_t threads[3];
    for (long i = 0; i < 3; i++)
        if (pthread_create(&threads[i], NULL, worker, (void *)i) != 0) return 1;
    printf("addr alone %lx\naddr among %lx\naddr hot %lx\n", (unsigned long)&alone.value,
           (unsigned long)&shared.among, (unsigned long)&hot);
    printf("ready %d\n", (int)getpid());
    fflush(stdout);
    while (!go && !stop) rest(1000);
    work(memory, pages, seconds, changes);
    stop = 1;
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    printf("ok %ld %ld %ld\n", alone.value, shared.among, hot);
    return 0;
}
