// Trees of processes, by name. Each ends with "ok ..." once every child's result is right.
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
#include <sys/prctl.h>
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
static int patient;
// Says so; a patient one then waits until somebody traces it, and has had time to do so wholly.
static void ready(void) {
    printf("ready\n");
    fflush(stdout);
    while (patient) {
        char line[256];
        int by = 0;
        FILE *f = fopen("/proc/self/status", "r");
        while (f && fgets(line, sizeof line, f)) sscanf(line, "TracerPid: %d", &by);
        if (f) fclose(f);
        struct timespec t = {0, 30000000};
        nanosleep(&t, 0);
        if (by) return;
    }
}
static int status_of(pid_t p) {
    int st;
    pid_t got;
    do got = waitpid(p, &st, 0); while (got < 0 && errno == EINTR);
    if (p <= 0 || got != p) bad("waitpid");
    return st;
}
static void exits(pid_t p, int code, const char *who) {
    int st = status_of(p);
    if (!WIFEXITED(st) || WEXITSTATUS(st) != code) { errno = st; bad(who); }
}
static void nap(long us) { struct timespec t = {us / 1000000, us % 1000000 * 1000}; while (nanosleep(&t, &t)) ; }

// A tree `depth` deep; its exit code is the number of processes in it, modulo 100.
static int node(int depth, int wide, unsigned seed) {
    int sum = 1;
    pid_t kids[16];
    if (depth == 0) {
        if (seed % 3 == 0) { char *a[] = {"tree", "exit", "1", 0}; execv("/proc/self/exe", a); bad("execv"); }
        if (seed % 3 == 1) nap(seed % 700);
        return 1;
    }
    for (int i = 0; i < wide; i++) {
        kids[i] = fork();
        if (kids[i] < 0) bad("fork");
        if (kids[i] == 0) _exit(node(depth - 1, wide, seed * 31 + (unsigned)i));
    }
    for (int i = 0; i < wide; i++) {
        int st = status_of(kids[i]);
        if (!WIFEXITED(st) || WEXITSTATUS(st) == 255) bad("a child");
        sum += WEXITSTATUS(st);
    }
    return sum % 100;
}
static int expected(int depth, int wide) {
    int sum = 1;
    if (depth > 0) for (int i = 0; i < wide; i++) sum += expected(depth - 1, wide);
    return sum % 100;
}
static atomic_long forks, spins;
static double until;
static void *fork_on(void *x) {
    long id = (long)x;
    for (int i = 0; now() < until; i++) {
        pid_t p = fork();
        if (p == 0) _exit((int)((id * 7 + i) % 50));
        exits(p, (int)((id * 7 + i) % 50), "a thread's child");
        forks++;
    }
    return 0;
}
static void *spin(void *x) { for (;;) spins++; return x; }
static atomic_int got;
static void on_usr1(int s) { (void)s; got++; }
static int shares(void *x) { atomic_int *p = x; for (int i = 0; i < 1000; i++) (*p)++; nap(2000); _exit(4); }

int main(int argc, char **argv) {
    const char *scene = argc > 1 ? argv[1] : "";
    int n = argc > 2 ? atoi(argv[2]) : 1;
    patient = argc > 3;
    if (!strcmp(scene, "exit")) return n;
    if (!strcmp(scene, "bomb")) { // n trees, 3 deep, 4 wide: 85 processes each
        ready();
        for (int i = 0; i < n; i++) {
            pid_t p = fork();
            if (p == 0) _exit(node(3, 4, (unsigned)i * 97));
            exits(p, expected(3, 4), "a tree");
        }
    } else if (!strcmp(scene, "flat")) { // n short-lived children, 10 at a time
        ready();
        for (int i = 0; i < n; i += 10) {
            pid_t kids[10];
            for (int j = 0; j < 10; j++) if ((kids[j] = fork()) == 0) { if (j == 3) { char *a[] = {"tree", "exit", "3", 0}; execv("/proc/self/exe", a); } _exit(j); }
            for (int j = 0; j < 10; j++) exits(kids[j], j, "a child");
        }
    } else if (!strcmp(scene, "spawn")) { // vfork and posix_spawn, threads running
        pthread_t t;
        pthread_create(&t, 0, spin, 0);
        ready();
        for (int i = 0; i < n; i++) {
            char code[8];
            snprintf(code, sizeof code, "%d", i % 90);
            char *a[] = {"tree", "exit", code, 0};
            pid_t p = vfork();
            if (p == 0) { execv("/proc/self/exe", a); _exit(99); }
            exits(p, i % 90, "vforked");
            if (posix_spawn(&p, "/proc/self/exe", 0, 0, a, environ)) bad("posix_spawn");
            exits(p, i % 90, "spawned");
            p = vfork();
            if (p == 0) _exit(5);
            exits(p, 5, "vforked without exec");
            static char stack[65536];
            static atomic_int shared;
            p = clone(shares, stack + sizeof stack, CLONE_VM | SIGCHLD, (void *)&shared);
            exits(p, 4, "cloned");
            if (shared != (i + 1) * 1000) bad("shared memory");
        }
    } else if (!strcmp(scene, "daemon")) { // double fork; the daemon outlives everybody and reports
        ready();
        pid_t p = fork();
        if (p == 0) {
            setsid();
            if (fork() == 0) { nap(300000); printf("ok daemon\n"); fflush(stdout); _exit(0); }
            _exit(0);
        }
        exits(p, 0, "the one between");
        return 6;
    } else if (!strcmp(scene, "threads")) { // n threads fork at once, for a second and a half
        pthread_t t[16];
        until = now() + 1.5;
        ready();
        for (long i = 0; i < n; i++) if (pthread_create(&t[i], 0, fork_on, (void *)i)) bad("pthread_create");
        for (int i = 0; i < n; i++) pthread_join(t[i], 0);
        if (forks < n) bad("too few forks");
    } else if (!strcmp(scene, "killed")) { // children that spin are killed at any moment
        ready();
        for (int i = 0; i < n; i++) {
            pid_t p = fork();
            if (p == 0) { pthread_t t; pthread_create(&t, 0, spin, 0); spin(0); }
            nap(500 + i * 37 % 3000);
            kill(p, SIGKILL);
            int st = status_of(p);
            if (!WIFSIGNALED(st) || WTERMSIG(st) != SIGKILL) bad("killed");
        }
    } else if (!strcmp(scene, "crash")) { // a child dies of SIGSEGV, one of abort
        ready();
        pid_t p = fork();
        if (p == 0) { *(volatile int *)16 = 1; _exit(0); }
        int st = status_of(p);
        if (!WIFSIGNALED(st) || WTERMSIG(st) != SIGSEGV) bad("segv");
        if ((p = fork()) == 0) abort();
        st = status_of(p);
        if (!WIFSIGNALED(st) || WTERMSIG(st) != SIGABRT) bad("abort");
    } else if (!strcmp(scene, "signals")) { // n signals to a child, each answered by one
        sigset_t set, old;
        signal(SIGUSR1, on_usr1);
        sigemptyset(&set); sigaddset(&set, SIGUSR1); sigprocmask(SIG_BLOCK, &set, &old);
        ready();
        pid_t p = fork();
        for (int i = 0; i < n; i++) {
            if (p && kill(p, SIGUSR1)) bad("kill");
            while (got <= i) sigsuspend(&old);
            if (!p) kill(getppid(), SIGUSR1);
        }
        if (!p) _exit(8);
        exits(p, 8, "the answerer");
    } else if (!strcmp(scene, "job")) { // a child is stopped and continued, and its parent sees it
        ready();
        pid_t p = fork();
        if (p == 0) spin(0);
        for (int i = 0, st; i < n; i++) {
            kill(p, SIGSTOP);
            if (waitpid(p, &st, WUNTRACED) != p || !WIFSTOPPED(st)) bad("stopped");
            kill(p, SIGCONT);
            if (waitpid(p, &st, WCONTINUED) != p || !WIFCONTINUED(st)) bad("continued");
        }
        kill(p, SIGTERM);
        if (WTERMSIG(status_of(p)) != SIGTERM) bad("terminated");
    } else if (!strcmp(scene, "many")) { // n children that sleep
        pid_t parent = getpid();
        for (int i = 0; i < n; i++) if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent) _exit(0);
            for (;;) pause();
        }
        nap(50000);
        ready();
        for (;;) pause();
    } else if (!strcmp(scene, "nested")) { // n times: a vforked child vforks and is killed; one that execs
        ready();
        for (int i = 0; i < n; i++) {
            pid_t p = vfork();
            if (p == 0) {
                pid_t q = vfork();
                if (q == 0) { char *a[] = {"tree", "exit", "21", 0}; execv("/proc/self/exe", a); _exit(99); }
                int st;
                if (waitpid(q, &st, 0) != q || !WIFEXITED(st) || WEXITSTATUS(st) != 21) _exit(98);
                p = fork();
                if (p == 0) _exit(22);
                if (waitpid(p, &st, 0) != p || !WIFEXITED(st) || WEXITSTATUS(st) != 22) _exit(97);
                if (i % 2) kill(getpid(), SIGKILL);
                _exit(23);
            }
            int st = status_of(p);
            if (i % 2 ? !WIFSIGNALED(st) : !WIFEXITED(st) || WEXITSTATUS(st) != 23) { errno = st; bad("nested vfork"); }
        }
    } else if (!strcmp(scene, "spin")) { // n threads, and a child with as many
        pid_t parent = getpid(), p = fork();
        if (p == 0) { prctl(PR_SET_PDEATHSIG, SIGKILL); if (getppid() != parent) _exit(0); }
        for (int i = 0; i < n; i++) { pthread_t t; pthread_create(&t, 0, spin, 0); }
        if (p) { nap(50000); ready(); }
        for (;;) pause();
    } else if (!strcmp(scene, "crowd")) { // there already when the tracer comes: n children, 2 deep, that go on forking
        for (int i = 0; i < n; i++) if (fork() == 0) {
            pid_t q = fork();
            if (q == 0) { for (int j = 0; j < 300; j++) { pid_t r = fork(); if (r == 0) _exit(j % 60); exits(r, j % 60, "a great-grandchild"); nap(1000); } _exit(11); }
            exits(q, 11, "a grandchild");
            _exit(12);
        }
        ready();
        for (int i = 0; i < n; i++) { int st; if (wait(&st) < 0 || !WIFEXITED(st) || WEXITSTATUS(st) != 12) bad("a child"); }
    } else {
        bad("no such scene");
    }
    printf("ok %ld\n", (long)forks);
    fflush(stdout);
    return 0;
}
