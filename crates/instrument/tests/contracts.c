/* What the header and docs/inproc.md promise besides memory: one function for each promise. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stillframe/inproc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOLDS(x) \
    do { \
        if (!(x)) { \
            printf("line %d: %s does not hold\n", __LINE__, #x); \
            fflush(stdout); \
            _exit(1); \
        } \
    } while (0)

static int threads_allowed;
static volatile int nothing;
static long global;

static void locals_and_registers(void) {
    int a = 1, b = 2, c = 3;
    long d[4] = {1, 2, 3, 4};
    double e = 1.5;
    if (still_checkpoint() == STILL_ROLLED_BACK) {
        HOLDS(a == 1 && b == 2 && c == 3 && d[0] == 1 && d[3] == 4 && e == 1.5);
        HOLDS(still_reason() == 7 && still_depth() == 0);
        return;
    }
    a = 10 + nothing, b = 20 + nothing, c = 30 + nothing, d[0] = 40, d[3] = 50, e = 2.5 + nothing;
    global = a + b + c + (long)d[nothing] + (long)e;
    still_rollback(7);
}
static void nesting(void) {
    global = 0;
    volatile int outer = 0;
    if (still_checkpoint() == STILL_ROLLED_BACK) {
        HOLDS(global == 0 && still_depth() == 0 && still_reason() == 2);
        return;
    }
    global = 1;
    if (still_checkpoint() == STILL_ROLLED_BACK) {
        HOLDS(global == 1 && still_depth() == 1 && still_reason() == 1);
        global = 5;
        if (still_checkpoint() == STILL_TAKEN) {
            global = 6;
            HOLDS(still_depth() == 2);
            still_commit();
        }
        HOLDS(global == 6 && still_depth() == 1);
        still_rollback(2); /* undoes what the inner one kept */
    }
    (void)outer;
    global = 2;
    still_rollback(1);
}
static int depths(void *p) {
    int *deepest = p;
    HOLDS((int)still_depth() > *deepest);
    *deepest = (int)still_depth();
    int taken = still_try(depths, p);
    if (taken == STILL_REFUSED) HOLDS(still_refusal() == STILL_REFUSED_DEPTH);
    return 0;
}
static void too_deep_is_refused(void) {
    int deepest = 0;
    HOLDS(still_try(depths, &deepest) == STILL_TAKEN);
    HOLDS(deepest == 24 && still_depth() == 0);
}
static int rolls(void *p) {
    *(long *)p = 9;
    still_rollback(3);
    return 0;
}
static int fails(void *p) {
    *(long *)p = 9;
    return 4;
}
static void closed_form(void) {
    long n = 1;
    HOLDS(still_try(rolls, &n) == STILL_ROLLED_BACK && n == 1 && still_reason() == 3);
    HOLDS(still_try(fails, &n) == STILL_ROLLED_BACK && n == 1 && still_reason() == 4);
    HOLDS(still_commit() == -1);
}
static void signal_mask(void) {
    sigset_t usr, now;
    sigemptyset(&usr);
    sigaddset(&usr, SIGUSR1);
    HOLDS(sigprocmask(SIG_UNBLOCK, &usr, NULL) == 0);
    if (still_checkpoint() == STILL_ROLLED_BACK) {
        sigprocmask(SIG_BLOCK, NULL, &now);
        HOLDS(!sigismember(&now, SIGUSR1));
        return;
    }
    sigprocmask(SIG_BLOCK, &usr, NULL);
    still_rollback(1);
}
static void heap(void) {
    char *kept = malloc(100), *big = malloc(1 << 20);
    strcpy(kept, "kept");
    memset(big, 5, 1 << 20);
    struct still_inproc_figures before, after;
    for (int round = 0; round < 50; round++) {
        still_inproc_figures(&before);
        if (still_checkpoint() == STILL_TAKEN) {
            for (int i = 0; i < 1000; i++) ((char *)malloc(5000))[7] = 1;
            memset(malloc(4 << 20), 1, 4 << 20);
            free(kept);
            free(big);
            memset(malloc(100), 'x', 100);
            still_rollback(1);
        }
        HOLDS(!strcmp(kept, "kept") && big[12345] == 5);
        still_inproc_figures(&after);
        if (round > 0) HOLDS(after.heap_bytes <= before.heap_bytes + (1 << 20));
    }
    free(kept);
    free(big);
}
static void mappings(void) {
    char *old = mmap(NULL, 8192, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *volatile made = NULL;
    char **where = (char **)malloc(8);
    int tells[2];
    HOLDS(pipe(tells) == 0);
    old[5] = 5;
    if (still_checkpoint() == STILL_TAKEN) {
        made = mmap(NULL, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        made[0] = 1;
        char *p = made;
        HOLDS(write(tells[1], &p, 8) == 8);
        munmap(old, 8192);
        still_rollback(1);
    }
    HOLDS(old[5] == 5);
    HOLDS(read(tells[0], where, 8) == 8);
    unsigned char in;
    HOLDS(mincore(*where, 4096, &in) == -1 && errno == ENOMEM);
    munmap(old, 8192);
    close(tells[0]);
    close(tells[1]);
}
static void faults(void) {
    HOLDS(still_recover(1u << SIGUSR1, 1, 1) == -1);
    HOLDS(still_recover(STILL_ALL_FAULTS, 1000, 1000000) == 0);
    char *locked = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 200; i++) {
        int local = i, taken = still_checkpoint();
        if (taken == STILL_ROLLED_BACK) {
            int signal = still_reason() & 0xff;
            HOLDS(local == i && global == i);
            HOLDS(signal == (i % 4 == 2 ? SIGFPE : i % 4 == 3 ? SIGABRT : SIGSEGV));
            if (i % 4 == 0) HOLDS(still_fault_address() == 16);
            if (i % 4 == 1) HOLDS(still_fault_address() == (uintptr_t)locked + 100);
            global = i + 1;
            continue;
        }
        HOLDS(taken == STILL_TAKEN);
        if (i == 0) global = 0;
        local = -1;
        global = 77 + local;
        if (i == 0) global = 0;
        switch (i % 4) {
        case 0: *(volatile int *)16 = 1; break;
        case 1: locked[100] = 1; break;
        case 2: nothing = 5 / nothing; break;
        default: abort();
        }
    }
    HOLDS(still_recover(0, 0, 0) == 0);
}
/* In a child: the program must die by the signal once the limit is reached. */
static void limits(void) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        freopen("/dev/null", "w", stderr);
        still_recover(STILL_ALL_FAULTS, 3, 100);
        for (int i = 0;; i++) {
            if (i > 3) _exit(50);
            if (still_checkpoint() == STILL_TAKEN) *(volatile int *)8 = i;
        }
    }
    int status;
    HOLDS(waitpid(child, &status, 0) == child);
    HOLDS(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}
static int leaves(void) { return still_checkpoint(); }
static void a_function_that_returned(void) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        freopen("/dev/null", "w", stderr);
        if (leaves() == STILL_TAKEN) still_rollback(1);
        _exit(0);
    }
    int status;
    HOLDS(waitpid(child, &status, 0) == child);
    HOLDS(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    /* Kept is another thing: that needs no stack. */
    HOLDS(leaves() == STILL_TAKEN && still_commit() == 0);
}
static void fork_inside(void) {
    global = 1;
    fflush(stdout);
    if (still_checkpoint() == STILL_TAKEN) {
        global = 2;
        pid_t child = fork();
        if (child == 0) {
            if (global != 2) _exit(9);
            still_rollback(5);
        }
        int status;
        HOLDS(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 21);
        still_commit();
        HOLDS(global == 2);
        return;
    }
    _exit(global == 1 ? 21 : 22); /* the child, back at its copy of the checkpoint */
}
static void *do_nothing(void *p) { return p; }
static void threads_refused(void) {
    if (threads_allowed) return;
    pthread_t t;
    if (still_checkpoint() == STILL_TAKEN) {
        int fd = dup(2);
        freopen("/dev/null", "w", stderr);
        HOLDS(pthread_create(&t, NULL, do_nothing, NULL) == EAGAIN);
        dup2(fd, 2);
        still_commit();
    }
    HOLDS(pthread_create(&t, NULL, do_nothing, NULL) == 0);
    pthread_join(t, NULL);
    HOLDS(still_checkpoint() == STILL_REFUSED && still_refusal() == STILL_REFUSED_THREADS);
}

/* Threads: each one's memory is its own until its checkpoint ends; a lock goes back with it. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long shared_total;
static long side_by_side[8];
static void *requests(void *p) {
    long me = (long)p;
    unsigned seed = (unsigned)me;
    for (int i = 0; i < 20000; i++) {
        seed = seed * 1103515245u + 12345u;
        int back = (seed >> 16) % 3 == 0, taken = still_checkpoint();
        if (taken == STILL_REFUSED) _exit(2);
        if (taken == STILL_ROLLED_BACK) continue;
        char *p = malloc(24);
        p[3] = (char)i;
        side_by_side[me]++; /* words next to those of other threads */
        free(p);
        if (back) still_rollback(1);
        still_commit();
        /* Shared data: under its lock, and outside of what may be rolled back. */
        pthread_mutex_lock(&lock);
        shared_total++;
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}
static void *locks(void *p) {
    long *kept = p;
    for (int i = 0; i < 5000; i++) {
        int taken = still_checkpoint();
        if (taken == STILL_ROLLED_BACK) continue; /* the lock is free again, or this hangs */
        pthread_mutex_lock(&lock);
        shared_total += 1;
        if (i & 1) still_rollback(1); /* with the lock held: nobody else saw the sum */
        still_commit();
        pthread_mutex_unlock(&lock);
        ++*kept;
    }
    return NULL;
}
static void threads(void) {
    if (!threads_allowed) return;
    pthread_t t[4];
    for (long i = 0; i < 4; i++) HOLDS(pthread_create(&t[i], NULL, requests, (void *)i) == 0);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    long sum = 0;
    for (int i = 0; i < 4; i++) sum += side_by_side[i];
    HOLDS(sum == shared_total && sum > 20000);
    shared_total = 0;
    long kept[4] = {0};
    long(*each)[8] = calloc(4, sizeof *each);
    for (long i = 0; i < 4; i++) HOLDS(pthread_create(&t[i], NULL, locks, each[i]) == 0);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    for (int i = 0; i < 4; i++) kept[0] += each[i][0];
    HOLDS(shared_total == kept[0] && kept[0] == 10000);
}
static pthread_barrier_t meet;
volatile long contended;
static void *other(void *p) {
    pthread_barrier_wait(&meet);
    contended = 5; /* while the first thread's checkpoint holds it */
    pthread_barrier_wait(&meet);
    return p;
}
static void *holds_it(void *p) {
    struct still_inproc_figures f;
    if (still_checkpoint() == STILL_TAKEN) {
        contended = 1;
        pthread_barrier_wait(&meet);
        pthread_barrier_wait(&meet);
        still_commit();
    }
    still_inproc_figures(&f);
    return p;
}
static void *other_under_checkpoint(void *p) {
    struct still_inproc_figures f;
    if (still_checkpoint() == STILL_TAKEN) {
        other(NULL);
        still_commit();
    }
    still_inproc_figures(&f);
    *(long *)p = (long)f.conflicts;
    return NULL;
}
static void conflicts_are_counted(void) {
    if (!threads_allowed) return;
    pthread_t a, b;
    long seen = 0;
    pthread_barrier_init(&meet, NULL, 2);
    HOLDS(pthread_create(&a, NULL, holds_it, NULL) == 0);
    HOLDS(pthread_create(&b, NULL, other_under_checkpoint, &seen) == 0);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    if (threads_allowed == 2) HOLDS(seen == 1); /* without tags nobody can tell */
}

int main(int argc, char **argv) {
    threads_allowed = argc > 1 && !strcmp(argv[1], "word") ? 2 : argc > 1 && !strcmp(argv[1], "log");
    locals_and_registers();
    nesting();
    too_deep_is_refused();
    closed_form();
    signal_mask();
    heap();
    mappings();
    faults();
    limits();
    a_function_that_returned();
    fork_inside();
    threads();
    conflicts_are_counted();
    threads_refused();
    printf("all held\n");
    return 0;
}
