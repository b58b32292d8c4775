/* Waits, signals and timers, with checks that nothing is seen of an observer.
 *
 *   --seconds S --fragile 0..4
 *
 * Each waiting thread blocks all signals, so that no call of its may end early: not with EINTR and
 * not before its time. With --fragile 1 to 4 the call is one of those that Linux itself ends with EINTR
 * after any stop (signal(7)): epoll_wait, sigtimedwait, a timed receive, a semaphore operation.
 * With 0 they are those that Linux restarts. Queued signals arrive each once and in order. */
#include "common.h"
#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/time.h>

static uint64_t waits;
static void bounds(const char *what, uint64_t begun, double ms) {
    double took = (double)(now_ns() - begun) / 1e6;
    if (took < ms - 1.5) WRONG("%s took %.3f ms instead of %.3f", what, took, ms);
    if (took > ms + 8000) WRONG("%s took %.3f ms instead of %.3f", what, took, ms);
    __atomic_fetch_add(&waits, 1, __ATOMIC_RELAXED);
}
#define EXPECT(call, result, error) do { errno = 0; long r_ = (long)(call); int e_ = errno; \
    if (r_ != (result) || (r_ < 0 && e_ != (error))) \
        WRONG("%s: %ld (%s)", #call, r_, r_ < 0 ? strerror(e_) : "no error"); } while (0)

static void *sleeps(void *p) {
    (void)p;
    while (!stopping()) {
        uint64_t t = now_ns();
        struct timespec d = {0, 37000000};
        EXPECT(nanosleep(&d, NULL), 0, 0);
        bounds("nanosleep", t, 37);
        t = now_ns();
        EXPECT(clock_nanosleep(CLOCK_MONOTONIC, 0, &d, NULL), 0, 0);
        bounds("clock_nanosleep", t, 37);
    }
    return NULL;
}
/* Threads that have opened what they use: a checker of descriptors looks once all have. */
static atomic_int opened;

static void *polls(void *p) {
    (void)p;
    int fds[2];
    NEED(pipe(fds) == 0);
    opened++;
    while (!stopping()) {
        struct pollfd f = {.fd = fds[0], .events = POLLIN};
        uint64_t t = now_ns();
        EXPECT(poll(&f, 1, 41), 0, 0);
        bounds("poll", t, 41);
        t = now_ns();
        struct timeval v = {0, 23000};
        fd_set set;
        FD_ZERO(&set);
        FD_SET(fds[0], &set);
        EXPECT(select(fds[0] + 1, &set, NULL, NULL, &v), 0, 0);
        bounds("select", t, 23);
    }
    return NULL;
}
static void *futexes(void *p) {
    (void)p;
    int word = 7;
    while (!stopping()) {
        uint64_t t = now_ns();
        struct timespec d = {0, 29000000};
        EXPECT(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 7, &d, NULL, 0), -1, ETIMEDOUT);
        bounds("futex", t, 29);
    }
    return NULL;
}
static int pipe_fds[2];
static void *reads(void *p) {
    (void)p;
    for (uint64_t n = 0;; n++) {
        uint64_t v;
        EXPECT(read(pipe_fds[0], &v, sizeof v), (long)sizeof v, 0);
        if (v == ~0ULL) return NULL;
        if (v != n) WRONG("the pipe gave %llu instead of %llu", (unsigned long long)v, (unsigned long long)n);
        __atomic_fetch_add(&waits, 1, __ATOMIC_RELAXED);
    }
}
static void *writes(void *p) {
    (void)p;
    for (uint64_t n = 0; !stopping(); n++) {
        EXPECT(write(pipe_fds[1], &n, sizeof n), (long)sizeof n, 0);
        struct timespec d = {0, 3000000};
        nanosleep(&d, NULL);
    }
    uint64_t end = ~0ULL;
    EXPECT(write(pipe_fds[1], &end, sizeof end), (long)sizeof end, 0);
    return NULL;
}

static void *epolls(void *p) {
    (void)p;
    int e = epoll_create1(0), fds[2];
    struct epoll_event v = {.events = EPOLLIN};
    NEED(e >= 0 && pipe(fds) == 0 && epoll_ctl(e, EPOLL_CTL_ADD, fds[0], &v) == 0);
    opened++;
    while (!stopping()) {
        uint64_t t = now_ns();
        EXPECT(epoll_wait(e, &v, 1, 33), 0, 0);
        bounds("epoll_wait", t, 33);
    }
    return NULL;
}
static void *sigtimed(void *p) {
    (void)p;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    while (!stopping()) {
        uint64_t t = now_ns();
        struct timespec d = {0, 31000000};
        EXPECT(sigtimedwait(&set, NULL, &d), -1, EAGAIN);
        bounds("sigtimedwait", t, 31);
    }
    return NULL;
}
static void *receives(void *p) {
    (void)p;
    int fds[2];
    struct timeval v = {0, 43000};
    char c;
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    NEED(setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &v, sizeof v) == 0);
    opened++;
    while (!stopping()) {
        uint64_t t = now_ns();
        EXPECT(recv(fds[0], &c, 1, 0), -1, EAGAIN);
        bounds("recv", t, 43);
    }
    return NULL;
}
static void *semaphores(void *p) {
    (void)p;
    int id = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
    NEED(id >= 0);
    while (!stopping()) {
        uint64_t t = now_ns();
        struct timespec d = {0, 27000000};
        struct sembuf b = {0, -1, 0};
        errno = 0;
        int r = semtimedop(id, &b, 1, &d), e = errno;
        if (r != -1 || e != EAGAIN) { semctl(id, 0, IPC_RMID); WRONG("semtimedop: %d (%s)", r, strerror(e)); }
        bounds("semtimedop", t, 27);
    }
    semctl(id, 0, IPC_RMID);
    return NULL;
}

static volatile uint64_t queued_seen, alarms, own;
static pthread_t busy_thread;
static void on_queued(int s, siginfo_t *i, void *u) {
    (void)s; (void)u;
    uint64_t v = (uint64_t)(uintptr_t)i->si_value.sival_ptr;
    if (v != queued_seen) WRONG("queued signal %llu came instead of %llu", (unsigned long long)v, (unsigned long long)queued_seen);
    if (i->si_pid != getpid()) WRONG("si_pid is %d", (int)i->si_pid);
    queued_seen = v + 1;
}
static void on_alarm(int s, siginfo_t *i, void *u) {
    (void)s; (void)u;
    if (i->si_code != SI_TIMER) WRONG("si_code of a timer is %d", i->si_code);
    alarms++;
}
static void on_own(int s) { (void)s; own++; }

static void *busy(void *p) { /* the only thread that takes signals, besides SIGTERM in main */
    (void)p;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1);
    sigaddset(&set, SIGRTMIN + 2);
    sigaddset(&set, SIGUSR1);
    NEED(pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0);
    uint64_t x = 1, rounds = 0;
    double f = 1.0;
    while (!stopping()) {
        uint64_t before = own;
        raise(SIGUSR1); /* handled before raise returns */
        if (own != before + 1) WRONG("raise returned before its handler ran");
        for (int i = 0; i < 20000; i++) { x = mix(x); f = f * 1.0000001 + 0.5; }
        if (++rounds % 500 == 0) f = 1.0;
    }
    return (void *)(uintptr_t)(x + (uint64_t)f);
}

int main(int argc, char **argv) {
    double seconds = option(argc, argv, "--seconds", 10);
    int fragile = (int)option(argc, argv, "--fragile", 0), n = 0;
    sigset_t all, term;
    sigfillset(&all);
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    on_sigterm_stop();
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_flags = SA_SIGINFO | SA_RESTART;
    a.sa_sigaction = on_queued;
    NEED(sigaction(SIGRTMIN + 1, &a, NULL) == 0);
    a.sa_sigaction = on_alarm;
    NEED(sigaction(SIGRTMIN + 2, &a, NULL) == 0);
    a.sa_flags = SA_RESTART;
    a.sa_handler = on_own;
    NEED(sigaction(SIGUSR1, &a, NULL) == 0);
    NEED(pthread_sigmask(SIG_BLOCK, &all, NULL) == 0);
    NEED(pipe(pipe_fds) == 0);
    pthread_t t[8];
    void *(*steady[])(void *) = {sleeps, polls, futexes, reads, writes};
    void *(*brittle[])(void *) = {epolls, sigtimed, receives, semaphores};
    for (int i = 0; i < (fragile ? 1 : 5); i++)
        NEED(pthread_create(&t[n++], NULL, fragile ? brittle[fragile - 1] : steady[i], NULL) == 0);
    NEED(pthread_create(&busy_thread, NULL, busy, NULL) == 0);
    while (opened < (!fragile || fragile == 1 || fragile == 3)) sched_yield();
    struct sigevent ev;
    memset(&ev, 0, sizeof ev);
    ev.sigev_notify = SIGEV_SIGNAL;
    ev.sigev_signo = SIGRTMIN + 2;
    timer_t timer;
    NEED(timer_create(CLOCK_MONOTONIC, &ev, &timer) == 0);
    struct itimerspec its = {{0, 5000000}, {0, 5000000}};
    NEED(timer_settime(timer, 0, &its, NULL) == 0);
    NEED(pthread_sigmask(SIG_UNBLOCK, &term, NULL) == 0);
    ready();
    uint64_t sent = 0, end = now_ns() + (uint64_t)(seconds * 1e9);
    while (!stopping() && now_ns() < end) {
        union sigval v = {.sival_ptr = (void *)(uintptr_t)sent};
        if (sent - queued_seen < 50) {
            NEED(pthread_sigqueue(busy_thread, SIGRTMIN + 1, v) == 0);
            sent++;
        }
        struct timespec d = {0, 2000000};
        nanosleep(&d, NULL);
    }
    for (int i = 0; i < 5000 && queued_seen != sent; i++) usleep(1000);
    if (queued_seen != sent) WRONG("%llu of %llu queued signals came", (unsigned long long)queued_seen, (unsigned long long)sent);
    if (alarms == 0) WRONG("the timer never fired");
    atomic_store(&stop_flag, 1);
    for (int i = 0; i < n; i++) NEED(pthread_join(t[i], NULL) == 0);
    NEED(pthread_join(busy_thread, NULL) == 0);
    printf("ok waits %llu queued %llu alarms %llu\n", (unsigned long long)waits, (unsigned long long)sent, (unsigned long long)alarms);
    return 0;
}
