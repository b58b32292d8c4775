// Short scenes, by name. Each ends with "ok ..." unless it is about ending otherwise.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
extern char **environ;
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}
static void bad(const char *what) { printf("BAD %s: %s\n", what, strerror(errno)); fflush(stdout); _exit(1); }
static void ready(void) { printf("ready\n"); fflush(stdout); }
static atomic_long count, sum;
static volatile sig_atomic_t flag;
static void *add(void *x) { count++; return x; }
static void *forever(void *x) { for (;;) pause(); return x; }
static void *spin(void *x) { while (!flag) count++; return x; }
static void on_rt(int s, siginfo_t *i, void *c) { (void)s; (void)c; count++; sum += i->si_value.sival_int; if (i->si_code != SI_QUEUE) flag = 2; }
static void on_flag(int s) { (void)s; flag = 1; }
static void threads(int n, void *(*f)(void *)) {
    pthread_t t;
    for (int i = 0; i < n; i++) if (pthread_create(&t, 0, f, 0)) bad("pthread_create");
}
static void *later_exec(void *x) { char *a[] = {"scenes", "ok", 0}; usleep(100000); execv("/proc/self/exe", a); bad("execv"); return x; }
static void *later_exit(void *x) { usleep(200000); printf("ok\n"); fflush(stdout); return x; }
static void *later_group(void *x) { usleep(200000); exit(7); return x; }
static int other(void *x) { (void)x; usleep(1000); _exit(3); }

int main(int argc, char **argv) {
    const char *scene = argc > 1 ? argv[1] : "";
    int n = argc > 2 ? atoi(argv[2]) : 1;
    if (!strcmp(scene, "ok")) { printf("ok\n"); return 0; }
    if (!strcmp(scene, "churn")) { // threads come and go for n tenths of a second
        double end = now() + n / 10.0;
        ready();
        long made = 0;
        while (now() < end) {
            pthread_t t[8];
            for (int i = 0; i < 8; i++, made++) if (pthread_create(&t[i], 0, add, 0)) bad("create");
            for (int i = 0; i < 8; i++) pthread_join(t[i], 0);
        }
        if (made != count) bad("lost threads");
        printf("ok %ld\n", made);
    } else if (!strcmp(scene, "queue")) { // n queued signals with values, none lost
        struct sigaction sa = {.sa_sigaction = on_rt, .sa_flags = SA_SIGINFO | SA_RESTART};
        sigaction(SIGRTMIN, &sa, 0);
        ready();
        long expect = 0;
        for (int i = 0; i < n; i++) {
            union sigval v = {.sival_int = i};
            while (sigqueue(getpid(), SIGRTMIN, v)) if (errno != EAGAIN) bad("sigqueue");
            expect += i;
        }
        if (count != n || sum != expect || flag) bad("signals");
        printf("ok %ld\n", (long)count);
    } else if (!strcmp(scene, "timer")) { // n timer ticks, overruns counted
        struct sigaction sa = {.sa_sigaction = on_rt, .sa_flags = SA_SIGINFO | SA_RESTART};
        sigset_t set;
        sigemptyset(&set); sigaddset(&set, SIGRTMIN); sigprocmask(SIG_BLOCK, &set, 0);
        (void)sa;
        struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
        timer_t t;
        if (timer_create(CLOCK_MONOTONIC, &e, &t)) bad("timer_create");
        struct itimerspec its = {{0, 100000}, {0, 100000}};
        ready();
        timer_settime(t, 0, &its, 0);
        long got = 0;
        while (got < n) {
            siginfo_t i;
            int r = sigwaitinfo(&set, &i);
            if (r < 0 && errno == EINTR) bad("sigwaitinfo");
            if (i.si_code != SI_TIMER) bad("code");
            got += 1 + i.si_overrun;
        }
        printf("ok %ld\n", got);
    } else if (!strcmp(scene, "children")) { // fork, vfork, posix_spawn, clone, system
        ready();
        for (int i = 0; i < n; i++) {
            int st;
            pid_t p = fork();
            if (p == 0) _exit(3);
            if (waitpid(p, &st, 0) != p || WEXITSTATUS(st) != 3) bad("fork");
            p = vfork();
            if (p == 0) { execl("/proc/self/exe", "scenes", "quiet", (char *)0); _exit(9); }
            if (waitpid(p, &st, 0) != p || WEXITSTATUS(st) != 0) bad("vfork");
            char *a[] = {"scenes", "quiet", 0};
            if (posix_spawn(&p, "/proc/self/exe", 0, 0, a, environ)) bad("posix_spawn");
            if (waitpid(p, &st, 0) != p || WEXITSTATUS(st) != 0) bad("spawned");
            char *stack = malloc(65536);
            p = clone(other, stack + 65536, CLONE_VM, 0);
            if (p < 0) bad("clone");
            if (waitpid(p, &st, __WALL) != p || WEXITSTATUS(st) != 3) bad("cloned");
            free(stack);
        }
        printf("ok %d\n", n);
    } else if (!strcmp(scene, "quiet")) {
        return 0;
    } else if (!strcmp(scene, "exec")) { // from a thread that is not the first
        threads(3, forever);
        ready();
        threads(1, later_exec);
        for (;;) pause();
    } else if (!strcmp(scene, "mainexit")) { // the first thread ends, others live
        ready();
        threads(1, later_exit);
        pthread_exit(0);
    } else if (!strcmp(scene, "exitgroup")) {
        threads(4, spin);
        threads(1, later_group);
        ready();
        for (;;) pause();
    } else if (!strcmp(scene, "segv")) {
        threads(2, spin);
        ready();
        usleep(200000);
        *(volatile int *)16 = 1;
    } else if (!strcmp(scene, "job") || !strcmp(scene, "spin")) {
        signal(SIGUSR1, on_flag);
        threads(n, spin);
        ready();
        while (!flag) usleep(10000); // the signal may go to another thread
        printf("ok %ld\n", (long)count);
    } else {
        bad("no such scene");
    }
    fflush(stdout);
    return 0;
}
