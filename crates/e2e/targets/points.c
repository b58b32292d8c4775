/* Asks for checkpoints and says which it got: --rounds N (0: until SIGTERM), --threads N, and
 * --blocked 1 (SIGURG blocked), --handler 1 (SIGURG handled), --alone 1 (does not wait for a
 * recorder). Each thread writes a number into a cell of its own before it asks. */
#include "common.h"
#include <stillframe/points.h>

static volatile uint64_t cells[8][512] __attribute__((aligned(4096)));
static atomic_int urgent;
static int rounds, blocked, handler;
static void on_urg(int s) { (void)s; atomic_fetch_add(&urgent, 1); }

static void *work(void *arg) {
    long me = (long)arg;
    int64_t last = -1, answered = 0, unanswered = 0;
    char name[40];
    sigset_t before, after, pending;
    sigemptyset(&before);
    if (blocked) sigaddset(&before, SIGURG);
    NEED(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    for (uint64_t i = 1; rounds ? i <= (uint64_t)rounds : !stopping(); i++) {
        cells[me][0] = i;
        snprintf(name, sizeof name, "t%ld", me);
        still_point(name);
        snprintf(name, sizeof name, "t%ld.%llu", me, (unsigned long long)i);
        errno = 77;
        int64_t n = still_checkpoint(name);
        if (errno != 77) WRONG("errno is %d", errno);
        if (cells[me][0] != i) WRONG("the cell has changed");
        if (n < 0) {
            unanswered++;
        } else {
            if (rounds && n <= last) WRONG("%lld after %lld", (long long)n, (long long)last);
            last = n;
            answered++;
        }
        if (rounds) {
            flockfile(stdout);
            printf("point %ld %llu %lld\n", me, (unsigned long long)i, (long long)n);
            fflush(stdout);
            funlockfile(stdout);
        } else if (i % 16 == 0) {
            usleep(200);
        }
        NEED(pthread_sigmask(SIG_SETMASK, NULL, &after) == 0);
        if (memcmp(&before, &after, 8)) WRONG("the mask has changed");
        NEED(sigpending(&pending) == 0);
        if (sigismember(&pending, SIGURG)) WRONG("a signal was left behind");
    }
    flockfile(stdout);
    printf("thread %ld answered %lld unanswered %lld\n", me, (long long)answered, (long long)unanswered);
    funlockfile(stdout);
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t threads[8];
    long n = (long)option(argc, argv, "--threads", 1);
    rounds = (int)option(argc, argv, "--rounds", 0);
    blocked = (int)option(argc, argv, "--blocked", 0);
    handler = (int)option(argc, argv, "--handler", 0);
    NEED(n >= 1 && n <= 8);
    on_sigterm_stop();
    if (handler) signal(SIGURG, on_urg);
    printf("addr cells %lx\n", (unsigned long)cells);
    ready();
    int waited = option(argc, argv, "--alone", 0) > 0 ? still_wait_recording(0)
                                                       : still_wait_recording(30000);
    printf("recording %d %d\n", waited, still_recording());
    fflush(stdout);
    for (long i = 0; i < n; i++) NEED(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
    for (long i = 0; i < n; i++) NEED(pthread_join(threads[i], NULL) == 0);
    printf("ok urgent %d\n", atomic_load(&urgent));
    return 0;
}
