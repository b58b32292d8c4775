/* A family that works together, step by step, and knows each other by number.
 *
 * Four processes besides the first: A and B are its children, C is B's and has a session of its own, D
 * has lost its parent. In each step every one of them gets a word through a pipe of its own and answers
 * with a record in a pipe that all write to. They share counters (MAP_SHARED), a lock between processes,
 * the offset of an open file in memory, and an eventfd; B waits with an epoll set that its parent made. A
 * has a thread besides, and is sent signals by number. Each checks at every step that it is who it was,
 * with the same parent, group and session. At the end all are waited for by number, and the sum is
 * printed, which is the same in every life.
 *
 *   family STEPS [PAUSE_US] */
#include "common.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { A, B, C, D, MEMBERS };

struct shared {
    pthread_mutex_t lock;
    uint64_t one, other; /* the same, but within the lock */
    _Atomic uint64_t counts[MEMBERS], signals, threads;
    _Atomic int pids[MEMBERS];
};
struct record { uint64_t member, step, value; };

static struct shared *shared;
static int to[MEMBERS][2], answers[2], file, event, epoll_set;
static const char *who = "first";

static struct { pid_t self, parent, group, session; } known;
static pid_t family_group;
static void know(void) {
    known.self = getpid(); known.parent = getppid(); known.group = getpgrp(); known.session = getsid(0);
}
static void same(int alone) {
    if (getpid() != known.self || syscall(SYS_gettid) != known.self) WRONG("%s is %d, was %d", who, getpid(), known.self);
    if (!alone && getppid() != known.parent) WRONG("%s: parent %d, was %d", who, getppid(), known.parent);
    /* Those of whoever started it are somebody else's in another life. */
    if (known.group == family_group || known.group == known.self) if (getpgrp() != known.group) WRONG("%s: group %d, was %d", who, getpgrp(), known.group);
    if (known.session == known.self && getsid(0) != known.session) WRONG("%s: session %d, was %d", who, getsid(0), known.session);
}
static void on_signal(int sig) { (void)sig; atomic_fetch_add(&shared->signals, 1); }
static void whole(int fd, void *b, size_t n, int out) {
    for (size_t done = 0; done < n;) {
        ssize_t r = out ? write(fd, (char *)b + done, n - done) : read(fd, (char *)b + done, n - done);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) WRONG("%s: %s %zd: %s", who, out ? "write" : "read", r, strerror(errno));
        done += (size_t)r;
    }
}
static uint64_t value(uint64_t member, uint64_t step, uint64_t secret) { return mix(secret ^ mix(step * MEMBERS + member)); }

static void *beat(void *none) {
    for (;;) { atomic_fetch_add(&shared->threads, 1); usleep(2000); }
    return none;
}

/* Until its pipe is closed. */
static int work(int member, int stream) {
    static const char *const names[] = {"A", "B", "C", "D"};
    uint64_t secret = mix((uint64_t)member + 77), step, expected = 0;
    who = names[member];
    know();
    if (member == C) NEED(known.self == known.session && known.self == known.group);
    atomic_store(&shared->pids[member], getpid());
    pthread_t t;
    if (member == A) NEED(pthread_create(&t, NULL, beat, NULL) == 0);
    for (int m = 0; m < MEMBERS; m++) close(to[m][1]);
    close(answers[0]);
    for (;;) {
        struct epoll_event e;
        if (member == B) {
            int n;
            while ((n = epoll_wait(epoll_set, &e, 1, -1)) < 0 && errno == EINTR) {}
            if (n != 1 || e.data.u64 != 0xbeef) WRONG("B waited for %lx", (unsigned long)e.data.u64);
        }
        ssize_t n;
        while ((n = read(to[member][0], &step, sizeof step)) < 0 && errno == EINTR) {}
        if (n == 0) break;
        NEED(n == sizeof step);
        if (step != expected++) WRONG("%s got step %lu after %lu", who, (unsigned long)step, (unsigned long)expected - 2);
        same(member == D);
        if (member == B) { /* C is asked and answers through a pair of sockets. */
            whole(stream, &step, sizeof step, 1);
            uint64_t back;
            whole(stream, &back, sizeof back, 0);
            if (back != mix(step)) WRONG("C answered %lx to B", (unsigned long)back);
        }
        if (member == C) {
            uint64_t asked;
            whole(stream, &asked, sizeof asked, 0);
            asked = mix(asked);
            whole(stream, &asked, sizeof asked, 1);
        }
        NEED(pthread_mutex_lock(&shared->lock) == 0);
        if (shared->one != shared->other) WRONG("%s: %lu and %lu in the lock", who, (unsigned long)shared->one, (unsigned long)shared->other);
        shared->one++;
        secret = mix(secret + step);
        shared->other++;
        whole(file, &secret, 8, 1);
        NEED(pthread_mutex_unlock(&shared->lock) == 0);
        uint64_t one = 1;
        NEED(write(event, &one, 8) == 8);
        atomic_fetch_add(&shared->counts[member], 1);
        struct record r = {(uint64_t)member, step, value((uint64_t)member, step, secret)};
        NEED(write(answers[1], &r, sizeof r) == sizeof r);
    }
    if (member == B) { /* C ends with its own pipe; its parent waits for it. */
        int status;
        NEED(waitpid(atomic_load(&shared->pids[C]), &status, 0) == atomic_load(&shared->pids[C]));
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 10 + C) WRONG("C ended with %#x", status);
    }
    return 10 + member;
}

int main(int argc, char **argv) {
    uint64_t steps = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000;
    useconds_t pause = argc > 2 ? (useconds_t)atoi(argv[2]) : 500;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    NEED(shared != MAP_FAILED);
    pthread_mutexattr_t a;
    NEED(pthread_mutexattr_init(&a) == 0 && pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED) == 0);
    NEED(pthread_mutex_init(&shared->lock, &a) == 0);
    for (int m = 0; m < MEMBERS; m++) NEED(pipe(to[m]) == 0);
    int pair[2];
    NEED(pipe(answers) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    NEED((file = memfd_create("family", 0)) >= 0 && (event = eventfd(0, EFD_SEMAPHORE)) >= 0);
    NEED((epoll_set = epoll_create1(0)) >= 0);
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = 0xbeef};
    NEED(epoll_ctl(epoll_set, EPOLL_CTL_ADD, to[B][0], &e) == 0);
    struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    NEED(sigaction(SIGUSR1, &act, NULL) == 0);
    pid_t children[2];
    for (int m = A; m <= B; m++) {
        NEED((children[m] = fork()) >= 0);
        if (children[m]) { NEED(setpgid(children[m], children[A]) == 0 || errno == EACCES); continue; }
        NEED(setpgid(0, m == A ? 0 : children[A]) == 0);
        family_group = getpgrp();
        if (m == B) {
            pid_t c = fork();
            NEED(c >= 0);
            if (c == 0) { NEED(setsid() > 0); _exit(work(C, pair[1])); }
            _exit(work(B, pair[0]));
        }
        _exit(work(A, -1));
    }
    pid_t between = fork();
    NEED(between >= 0);
    if (between == 0) { pid_t d = fork(); NEED(d >= 0); if (d) _exit(0); _exit(work(D, -1)); }
    /* One that has ended and is waited for later is in no checkpoint (docs/limits.md). */
    NEED(waitpid(between, NULL, 0) == between || errno == ECHILD);
    for (int m = 0; m < MEMBERS; m++) while (!atomic_load(&shared->pids[m])) usleep(1000);
    for (int m = 0; m < MEMBERS; m++) close(to[m][0]);
    close(answers[1]);
    close(epoll_set);
    know();
    ready();
    uint64_t sum = 0, secrets[MEMBERS], signals = 0;
    for (uint64_t m = 0; m < MEMBERS; m++) secrets[m] = mix(m + 77);
    for (uint64_t step = 0; step < steps; step++) {
        for (int m = 0; m < MEMBERS; m++) whole(to[m][1], &step, sizeof step, 1);
        unsigned got = 0;
        for (int m = 0; m < MEMBERS; m++) {
            struct record r;
            whole(answers[0], &r, sizeof r, 0);
            if (r.member >= MEMBERS || got & 1u << r.member || r.step != step) WRONG("record of %lu at step %lu", (unsigned long)r.member, (unsigned long)step);
            got |= 1u << r.member;
            secrets[r.member] = mix(secrets[r.member] + step);
            if (r.value != value(r.member, step, secrets[r.member])) WRONG("value of %lu at step %lu", (unsigned long)r.member, (unsigned long)step);
            sum += r.value;
            uint64_t one;
            NEED(read(event, &one, 8) == 8 && one == 1);
        }
        same(1);
        if (shared->one != (step + 1) * MEMBERS) WRONG("%lu at step %lu", (unsigned long)shared->one, (unsigned long)step);
        off_t at = lseek(file, 0, SEEK_CUR);
        if (at != (off_t)((step % 64 + 1) * MEMBERS * 8)) WRONG("shared offset %ld at step %lu", (long)at, (unsigned long)step);
        if (step % 64 == 63) NEED(lseek(file, 0, SEEK_SET) == 0);
        if (step % 16 == 0) {
            NEED(kill(children[A], SIGUSR1) == 0);
            signals++;
            for (int i = 0; atomic_load(&shared->signals) < signals; i++) { if (i > 100000) WRONG("A had no signal at step %lu", (unsigned long)step); usleep(100); }
            if (waitpid(children[A], NULL, WNOHANG) != 0) WRONG("A ended at step %lu", (unsigned long)step);
            if (getpgid(children[B]) != children[A]) WRONG("B's group is %d", getpgid(children[B]));
            /* A's thread still runs. */
            uint64_t before = atomic_load(&shared->threads);
            for (int i = 0; atomic_load(&shared->threads) == before; i++) { if (i > 100000) WRONG("A's thread stands"); usleep(100); }
        }
        usleep(pause);
    }
    for (int m = 0; m < MEMBERS; m++) close(to[m][1]);
    for (int m = A; m <= B; m++) {
        int status;
        if (waitpid(children[m], &status, 0) != children[m]) WRONG("waiting for %d: %s", children[m], strerror(errno));
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 10 + m) WRONG("child %d ended with %#x", m, status);
    }
    for (int m = 0; m < MEMBERS; m++) if (atomic_load(&shared->counts[m]) != steps) WRONG("%lu steps of %d", (unsigned long)shared->counts[m], m);
    printf("ok %016llx\n", (unsigned long long)sum);
    return 0;
}
