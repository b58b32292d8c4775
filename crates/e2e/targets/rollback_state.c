/* Everything a process can have besides memory, in two phases. In the first all of it is set one way;
 * SIGHUP leads to the second, which checks that it is exactly so, and sets it another way. A rollback
 * from the second phase to the first must make SIGHUP lead there again.
 *
 * Its name tells the phase: `first`, `second`. It ends with SIGTERM. */
#include "common.h"
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static volatile sig_atomic_t hup, seen_a, seen_b;
static void on_hup(int s) { (void)s; hup = 1; }
static void on_a(int s) { (void)s; seen_a++; }
static void on_b(int s) { (void)s; seen_b++; }

static void handle(int signal, void (*handler)(int), int flags) {
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_handler = handler;
    a.sa_flags = flags;
    sigaddset(&a.sa_mask, SIGWINCH);
    NEED(sigaction(signal, &a, NULL) == 0);
}

static void queue(int value) {
    union sigval v = {.sival_int = value};
    NEED(sigqueue(getpid(), SIGRTMIN, v) == 0);
}

static void take(int value) {
    sigset_t set;
    siginfo_t info;
    struct timespec none = {0, 0};
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    int got = sigtimedwait(&set, &info, &none);
    if (value < 0) {
        if (got != -1) WRONG("a signal with value %d is queued", info.si_value.sival_int);
    } else if (got != SIGRTMIN || info.si_value.sival_int != value || info.si_pid != getpid())
        WRONG("the signal with value %d is not queued (%d, %d)", value, got, info.si_value.sival_int);
}

static char stacks[2][64 * 1024];
static void *mapped;
#define BIG (64UL << 20)

static void one_way(int phase, const char *directory) {
    stack_t s = {.ss_sp = stacks[phase], .ss_size = sizeof stacks[phase]};
    NEED(sigaltstack(&s, NULL) == 0);
    handle(SIGUSR1, phase ? on_b : on_a, phase ? SA_NODEFER : SA_ONSTACK);
    signal(SIGPIPE, phase ? SIG_DFL : SIG_IGN);
    signal(SIGURG, phase ? SIG_IGN : SIG_DFL);
    umask(phase ? 077 : 022);
    NEED(chdir(directory) == 0);
}

static void check(int phase, const char *directory) {
    stack_t s;
    NEED(sigaltstack(NULL, &s) == 0);
    if (s.ss_sp != stacks[phase]) WRONG("another alternate stack than in phase %d", phase);
    int a = seen_a, b = seen_b;
    raise(SIGUSR1);
    if (seen_a - a != !phase || seen_b - b != phase) WRONG("another handler than in phase %d", phase);
    struct sigaction old;
    NEED(sigaction(SIGPIPE, NULL, &old) == 0);
    if ((old.sa_handler == SIG_IGN) == (phase == 1)) WRONG("SIGPIPE is not as in phase %d", phase);
    NEED(sigaction(SIGURG, NULL, &old) == 0);
    if ((old.sa_handler == SIG_IGN) != (phase == 1)) WRONG("SIGURG is not as in phase %d", phase);
    mode_t m = umask(0);
    umask(m);
    if (m != (phase ? 077 : 022)) WRONG("the umask is %o in phase %d", (unsigned)m, phase);
    char path[4096];
    NEED(getcwd(path, sizeof path) != NULL);
    if (strcmp(path, directory) != 0) WRONG("the directory is %s in phase %d", path, phase);
}

int main(int argc, char **argv) {
    char home[4096];
    NEED(getcwd(home, sizeof home) != NULL);
    /* Two files: one is written over in the second phase, the other is deleted and closed. */
    int kept = -1, gone = -1;
    if (argc > 2) {
        NEED((kept = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0600)) >= 0 && write(kept, "first", 5) == 5);
        NEED((gone = open(argv[2], O_RDWR | O_CREAT | O_TRUNC, 0600)) >= 0 && write(gone, "first", 5) == 5);
    }
    on_sigterm_stop();
    handle(SIGHUP, on_hup, SA_RESTART);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGRTMIN);
    sigaddset(&blocked, SIGUSR2);
    NEED(sigprocmask(SIG_BLOCK, &blocked, NULL) == 0);
    one_way(0, home);
    for (int i = 1; i <= 5; i++) queue(i);
    NEED(kill(getpid(), SIGUSR2) == 0);
    NEED(syscall(SYS_tgkill, getpid(), getpid(), SIGRTMIN) == 0);
    mapped = mmap(NULL, BIG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(mapped != MAP_FAILED);
    for (size_t i = 0; i < BIG; i += 16 * PAGE) ((char *)mapped)[i] = (char)(i >> 16);
    NEED(prctl(PR_SET_NAME, "first") == 0);
    ready();
    while (!stopping()) {
        struct timespec t = {0, 3000000};
        nanosleep(&t, NULL);
        if (!hup || !mapped) continue;
        hup = 0;
        check(0, home);
        for (size_t i = 0; i < BIG; i += 16 * PAGE)
            if (((char *)mapped)[i] != (char)(i >> 16)) WRONG("the mapping lost a byte");
        /* A thread's own come before the process's. */
        sigset_t set;
        siginfo_t info;
        sigemptyset(&set);
        sigaddset(&set, SIGRTMIN);
        /* The C library shows tgkill as kill. */
        if (sigwaitinfo(&set, &info) != SIGRTMIN || info.si_code != SI_USER) WRONG("the thread's signal is gone");
        for (int i = 1; i <= 5; i++) take(i);
        take(-1);
        NEED(sigpending(&set) == 0);
        if (!sigismember(&set, SIGUSR2)) WRONG("SIGUSR2 is not pending");
        one_way(1, "/");
        check(1, "/");
        queue(99);
        if (gone >= 0) {
            NEED(pwrite(gone, "F", 1, 0) == 1);
            NEED(pwrite(kept, "second", 6, 0) == 6);
            NEED(unlink(argv[2]) == 0 && close(gone) == 0);
        }
        NEED(munmap(mapped, BIG) == 0);
        mapped = NULL;
        NEED(prctl(PR_SET_NAME, "second") == 0);
    }
    printf("ok\n");
    return 0;
}
