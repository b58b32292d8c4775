// Sits in system calls that an interruption would show in: each must end as if there was none, and
// last as long as asked. Arguments: seconds; anything more if a tracer may be killed meanwhile: then
// epoll_wait, which the kernel does not restart, may say EINTR. Ends with "ok N" or "BAD ...".
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}
static double end;
static atomic_long total;
static int bytes[2], sockets[2], ticks[2];
static void bad(const char *what) { printf("BAD %s: %s\n", what, strerror(errno)); fflush(stdout); _exit(1); }

#define LOOP(name, seconds, call, good)                                                            \
    static void *name(void *x) {                                                                   \
        (void)x;                                                                                   \
        while (now() < end) {                                                                      \
            double start = now();                                                                  \
            long r = (call);                                                                       \
            if (!(good)) bad(#name);                                                               \
            if (now() - start < (seconds)-0.0011) { errno = 0; bad(#name " too short"); }          \
            total++;                                                                               \
        }                                                                                          \
        return 0;                                                                                  \
    }
static struct timespec d40 = {0, 40000000};
static int word;
LOOP(sleeper, 0.04, nanosleep(&d40, 0), r == 0)
LOOP(clocks, 0.04, clock_nanosleep(CLOCK_REALTIME, 0, &d40, 0), r == 0)
LOOP(poller, 0.04, poll(0, 0, 40), r == 0)
LOOP(ppoller, 0.04, ppoll(0, 0, &d40, 0), r == 0)
static struct timeval tv(void) { struct timeval t = {0, 40000}; return t; }
static int sel(void) { struct timeval t = tv(); return select(0, 0, 0, 0, &t); }
LOOP(selector, 0.04, sel(), r == 0)
LOOP(futexer, 0.04, syscall(SYS_futex, &word, FUTEX_WAIT, 0, &d40, 0, 0), r == -1 && errno == ETIMEDOUT)
static int one(int fd) { char c; return read(fd, &c, 1); }
LOOP(reader, 0, one(bytes[0]), r == 1)
static int some(void) { char c; return recv(sockets[0], &c, 1, 0); }
LOOP(receiver, 0, some(), r == 1)
static int ep, orphaned;
static int forever(void) {
    struct epoll_event e;
    int r = epoll_wait(ep, &e, 1, -1);
    if (r < 0 && errno == EINTR && orphaned) return 1;
    if (r == 1) one(ticks[0]);
    return r;
}
LOOP(epoller, 0, forever(), r == 1)

static void *feeder(void *x) {
    (void)x;
    while (now() < end + 0.2) {
        usleep(30000);
        if (write(bytes[1], "x", 1) != 1 || send(sockets[1], "x", 1, 0) != 1 || write(ticks[1], "x", 1) != 1) bad("feeder");
    }
    return 0;
}

int main(int argc, char **argv) {
    orphaned = argc > 2;
    end = now() + (argc > 1 ? atof(argv[1]) : 2);
    if (pipe(bytes) || pipe(ticks) || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets)) bad("setup");
    ep = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN};
    epoll_ctl(ep, EPOLL_CTL_ADD, ticks[0], &e);
    void *(*all[])(void *) = {sleeper, clocks, poller, ppoller, selector, futexer, reader, receiver, epoller, feeder};
    int n = sizeof all / sizeof *all;
    pthread_t t[16];
    printf("ready\n"); fflush(stdout);
    for (int i = 0; i < n; i++) pthread_create(&t[i], 0, all[i], 0);
    for (int i = 0; i < n; i++) pthread_join(t[i], 0);
    printf("ok %ld\n", (long)total);
    return 0;
}
