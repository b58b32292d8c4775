/* A family that counts together. The parent keeps a ledger in private memory of what it has sent to
 * each child through a pipe; each child adds what it gets to a balance in private memory, and to one
 * in memory shared by all. What is in a pipe is the difference, so at any instant, for each child:
 *
 *   0 <= sent - received <= bytes in its pipe / 8,   received = both balances, give or take one
 *
 * A checkpoint of the tree that is not one instant breaks it: a child that has received what its
 * parent has not yet sent. Both keep two copies of each figure, one page apart, the second written
 * after the first, so that each process's own instant is checked as well.
 *
 *   --children N --seconds S   N at most 64; a third of them exec themselves (`worker`), a third are
 *                              made by a child in between that ends at once
 *   --churn                    children are replaced by new ones all the time
 *
 * `addr ledger HEX`, `addr shared HEX` tell where to look in the parent; children print
 * `worker NUMBER PID HEX` with the address of their balance. */
#include "common.h"
#include <sys/wait.h>

#define MOST 64

struct figure { /* two copies on two pages */
    _Atomic uint64_t first;
    char gap[PAGE - 8];
    _Atomic uint64_t second;
    char rest[PAGE - 8];
};
static struct figure *ledger; /* private, sent to each */
static struct figure *shared; /* shared, received by each */
static struct figure *balance; /* private to a child */

static struct figure *map(int flags, size_t n) {
    void *p = mmap(NULL, n * sizeof(struct figure), PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    NEED(p != MAP_FAILED);
    return p;
}
static void add(struct figure *f, uint64_t n) {
    uint64_t was = atomic_load(&f->first);
    atomic_store(&f->first, was + n);
    atomic_store(&f->second, was + n);
}

/* Receives words 1, 2, 3 ... in order, until the pipe closes; answers with their sum at the end. */
static int work(int number, int in, int out, struct figure *theirs) {
    balance = map(MAP_PRIVATE, 1);
    printf("worker %d %d %lx\n", number, (int)getpid(), (unsigned long)balance);
    fflush(stdout);
    uint64_t word, sum = 0;
    for (;;) {
        ssize_t n = read(in, &word, sizeof word);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) break;
        NEED(n == sizeof word);
        if (word != atomic_load(&balance->first) + 1) WRONG("worker %d got %lu after %lu", number, (unsigned long)word, (unsigned long)atomic_load(&balance->first));
        if (atomic_load(&balance->first) != atomic_load(&balance->second)) WRONG("worker %d's balance is torn", number);
        add(balance, 1);
        if (theirs) add(theirs, 1);
        sum += mix(word);
    }
    NEED(write(out, &sum, sizeof sum) == sizeof sum);
    return number % 100;
}

struct child { pid_t pid; int to, from; uint64_t sent, sum, seed; int between; };

static void start(struct child *c, int number, char *self) {
    int in[2], out[2];
    NEED(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
    *c = (struct child){.to = in[1], .from = out[0], .seed = (uint64_t)number + 1, .between = number % 3 == 2};
    /* Received first: it is never more than what is sent. */
    atomic_store(&shared[number].first, 0);
    atomic_store(&shared[number].second, 0);
    atomic_store(&ledger[number].first, 0);
    atomic_store(&ledger[number].second, 0);
    c->pid = fork();
    NEED(c->pid >= 0);
    if (c->pid == 0) {
        /* Ends of other children's pipes go away with exec, or are closed here. */
        for (int fd = 3; fd < 1024; fd++) if (fd != in[0] && fd != out[1]) close(fd);
        if (c->between) { pid_t p = fork(); NEED(p >= 0); if (p) _exit(number % 100); }
        if (number % 3 == 1) {
            char n[16], a[16], b[16];
            snprintf(n, sizeof n, "%d", number); snprintf(a, sizeof a, "%d", in[0]); snprintf(b, sizeof b, "%d", out[1]);
            fcntl(in[0], F_SETFD, 0); fcntl(out[1], F_SETFD, 0);
            execl("/proc/self/exe", self, "worker", n, a, b, NULL);
            WRONG("exec: %s", strerror(errno));
        }
        _exit(work(number, in[0], out[1], &shared[number]));
    }
    close(in[0]);
    close(out[1]);
}
static void finish(struct child *c, int number) {
    uint64_t sum;
    int status;
    close(c->to);
    ssize_t n;
    while ((n = read(c->from, &sum, sizeof sum)) < 0 && errno == EINTR) {}
    if (n != sizeof sum || sum != c->sum) WRONG("worker %d's sum", number);
    close(c->from);
    NEED(waitpid(c->pid, &status, 0) == c->pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != number % 100) WRONG("worker %d ended with status %#x", number, status);
    if (number % 3 != 1 && atomic_load(&shared[number].second) != c->sent) WRONG("worker %d received %lu of %lu", number, (unsigned long)atomic_load(&shared[number].second), (unsigned long)c->sent);
}

int main(int argc, char **argv) {
    if (argc == 5 && !strcmp(argv[1], "worker")) return work(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]), NULL);
    int children = (int)option(argc, argv, "--children", 6), churn = 0;
    double seconds = option(argc, argv, "--seconds", 10);
    for (int i = 1; i < argc; i++) churn |= !strcmp(argv[i], "--churn");
    NEED(children > 0 && children <= MOST);
    ledger = map(MAP_PRIVATE, MOST);
    shared = map(MAP_SHARED, MOST);
    on_sigterm_stop();
    struct child c[MOST];
    for (int i = 0; i < children; i++) start(&c[i], i, argv[0]);
    printf("addr ledger %lx\naddr shared %lx\n", (unsigned long)ledger, (unsigned long)shared);
    ready();
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9), state = 1, rounds = 0, born = (uint64_t)children;
    while (!stopping() && now_ns() < end) {
        int i = (int)(next(&state) % (uint64_t)children);
        uint64_t word = c[i].sent + 1;
        /* In the ledger first: what is sent is never less than what is received. */
        add(&ledger[i], 1);
        ssize_t n;
        while ((n = write(c[i].to, &word, sizeof word)) < 0 && errno == EINTR) {}
        NEED(n == sizeof word);
        c[i].sent++;
        c[i].sum += mix(word);
        for (int j = 0; j < children; j++) {
            uint64_t got = atomic_load(&shared[j].first), sent = atomic_load(&ledger[j].first);
            if (got > sent) WRONG("worker %d received %lu of %lu", j, (unsigned long)got, (unsigned long)sent);
        }
        if (++rounds % 64 == 0) usleep(200);
        if (churn && rounds % 500 == 0) { finish(&c[i], i); start(&c[i], i, argv[0]); born++; }
    }
    for (int i = 0; i < children; i++) finish(&c[i], i);
    printf("ok rounds %llu children %llu\n", (unsigned long long)rounds, (unsigned long long)born);
    return 0;
}
