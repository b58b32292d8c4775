/* A queue with a defect, for those who look back: each turn asks for a checkpoint, so that what a
 * recording must show is known.
 *
 * Turns 1 to 20 put three jobs in and take one out. Then one is taken out at each turn, 41 times,
 * though only 40 are left: queue.len goes from 0 to -1 and the program dies of SIGSEGV right after.
 * --wait 1 waits for SIGTERM instead of dying. */
#include "common.h"
#include <stillframe/points.h>

struct job { struct job *next; uint64_t number; };
struct queue { struct job *head; long len; long most; };
enum phase { FILLING, DRAINING };

struct queue queue;
enum phase phase;
uint64_t turn;
static int patient;

static void put(struct queue *q, uint64_t number) {
    struct job *job = malloc(sizeof *job);
    NEED(job);
    job->number = number;
    job->next = q->head;
    q->head = job;
    q->len++;
    if (q->len > q->most) q->most = q->len;
}

static uint64_t __attribute__((noinline)) take(struct queue *q) {
    struct job *job = q->head;
    q->len--;
    if (!job && patient) return 0;
    if (!job) still_checkpoint("too many");
    uint64_t number = job->number;
    q->head = job->next;
    free(job);
    return number;
}

static void __attribute__((noinline)) step(uint64_t now) {
    turn = now;
    phase = now <= 20 ? FILLING : DRAINING;
    if (phase == FILLING)
        for (uint64_t i = 0; i < 3; i++) put(&queue, 3 * now + i);
    take(&queue);
    still_checkpoint("turn");
}

static void *idle(void *p) {
    while (!stopping()) usleep(10000);
    return p;
}

int main(int argc, char **argv) {
    pthread_t thread;
    patient = (int)option(argc, argv, "--wait", 0);
    on_sigterm_stop();
    NEED(pthread_create(&thread, NULL, idle, NULL) == 0);
    NEED(pthread_setname_np(thread, "idle") == 0);
    printf("addr turn %lx\naddr queue %lx\n", (long)&turn, (long)&queue);
    still_wait_recording(30000);
    ready();
    for (uint64_t now = 1; now <= 61; now++) step(now);
    while (!stopping()) usleep(10000);
    pthread_join(thread, NULL);
    puts("ok");
    return 0;
}
