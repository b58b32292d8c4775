/* What the bench's programs share. A program is compiled once for each method:
 *   PLAIN     no checkpoints
 *   STILL     instrumented, still_checkpoint per unit (line, word, or log by the runtime linked)
 *   FORK      a child per checkpoint, which is the copy
 *   MPROTECT  all tracked memory write-protected at each checkpoint, SIGSEGV copies the page
 *   UFFD      the same with userfaultfd's write protection and SIGBUS-free threads: a second thread
 *             copies and lifts
 * The page-granular ones track one arena that the program takes its memory from; the instrumented ones
 * track everything. A program calls CHECKPOINT() before a unit and COMMIT() after it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static inline double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#if defined(STILL)
#include <stillframe/inproc.h>
#define CHECKPOINT() ((void)still_checkpoint())
#define COMMIT() ((void)still_commit())
#define TRACK(at, bytes) ((void)(at), (void)(bytes))
#elif defined(FORK)
static int fork_gate[2];
static pid_t fork_child;
#define TRACK(at, bytes) ((void)(at), (void)(bytes))
static void CHECKPOINT(void) {
    if (pipe(fork_gate)) _exit(9);
    fork_child = fork();
    if (fork_child == 0) {
        char c;
        close(fork_gate[1]);
        if (read(fork_gate[0], &c, 1) < 0) _exit(9); /* the copy waits to be needed */
        _exit(0);
    }
    close(fork_gate[0]);
}
static void COMMIT(void) {
    close(fork_gate[1]);
    waitpid(fork_child, NULL, 0);
}
#elif defined(MPROTECT) || defined(UFFD)
static unsigned char *area, *area_copy;
static size_t area_bytes;
static uint32_t *area_dirty;
static size_t area_dirties;
#if defined(MPROTECT)
static void on_write(int s, siginfo_t *i, void *c) {
    (void)s;
    (void)c;
    unsigned char *page = (unsigned char *)((uintptr_t)i->si_addr & ~4095ul);
    if (page < area || page >= area + area_bytes) _exit(8);
    size_t n = (size_t)(page - area) / 4096;
    memcpy(area_copy + n * 4096, page, 4096);
    area_dirty[area_dirties++] = (uint32_t)n;
    mprotect(page, 4096, PROT_READ | PROT_WRITE);
}
static void TRACK(void *at, size_t bytes) {
    area = (unsigned char *)at;
    area_bytes = bytes;
    area_copy = (unsigned char *)mmap(NULL, bytes, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    area_dirty = (uint32_t *)malloc((bytes / 4096 + 1) * 4);
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_sigaction = on_write;
    a.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &a, NULL);
    mprotect(area, bytes, PROT_READ);
}
static void CHECKPOINT(void) {}
static void COMMIT(void) {
    /* Only what was written has to be protected again. */
    for (size_t n = 0; n < area_dirties; n++) mprotect(area + (size_t)area_dirty[n] * 4096, 4096, PROT_READ);
    area_dirties = 0;
}
#else
static int uffd = -1;
static void protect(unsigned char *at, size_t bytes, int on) {
    struct uffdio_writeprotect w;
    memset(&w, 0, sizeof w);
    w.range.start = (uintptr_t)at;
    w.range.len = bytes;
    w.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0;
    ioctl(uffd, UFFDIO_WRITEPROTECT, &w);
}
static void *on_write(void *unused) {
    struct uffd_msg m;
    (void)unused;
    while (read(uffd, &m, sizeof m) == (ssize_t)sizeof m) {
        unsigned char *page = (unsigned char *)(uintptr_t)(m.arg.pagefault.address & ~4095ull);
        size_t n = (size_t)(page - area) / 4096;
        memcpy(area_copy + n * 4096, page, 4096);
        area_dirty[area_dirties++] = (uint32_t)n;
        protect(page, 4096, 0);
    }
    return NULL;
}
static void TRACK(void *at, size_t bytes) {
    area = (unsigned char *)at;
    area_bytes = bytes;
    area_copy = (unsigned char *)mmap(NULL, bytes, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    area_dirty = (uint32_t *)malloc((bytes / 4096 + 1) * 4);
    memset(area, 0, bytes);
    uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    struct uffdio_api api;
    memset(&api, 0, sizeof api);
    api.api = UFFD_API;
    api.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP;
    struct uffdio_register r;
    memset(&r, 0, sizeof r);
    r.range.start = (uintptr_t)area;
    r.range.len = bytes;
    r.mode = UFFDIO_REGISTER_MODE_WP;
    if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &r)) {
        fprintf(stderr, "userfaultfd: %s\n", strerror(errno));
        exit(7);
    }
    pthread_t t;
    pthread_create(&t, NULL, on_write, NULL);
    protect(area, bytes, 1);
}
static void CHECKPOINT(void) {}
static void COMMIT(void) {
    for (size_t n = 0; n < area_dirties; n++) protect(area + (size_t)area_dirty[n] * 4096, 4096, 1);
    area_dirties = 0;
}
#endif
#else
#define CHECKPOINT() ((void)0)
#define COMMIT() ((void)0)
#define TRACK(at, bytes) ((void)(at), (void)(bytes))
#endif

/* Memory that the page-granular methods can track: whole pages. */
static void *tracked(size_t bytes) {
    bytes = (bytes + 4095) & ~4095ul;
    unsigned char *at = (unsigned char *)mmap(NULL, bytes, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(at, 0, bytes);
    TRACK(at, bytes);
    return at;
}

/* KiB. Of this program: what getrusage tells includes whoever started it. */
static long resident(void) {
    char line[256];
    long kib = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status)) sscanf(line, "VmHWM: %ld", &kib);
    if (status) fclose(status);
    return kib;
}

static void result(const char *name, uint64_t units, double seconds, uint64_t sum) {
    size_t log = 0;
#if defined(STILL)
    struct still_inproc_figures f;
    still_inproc_figures(&f);
    log = f.log_high_bytes;
#endif
    printf("%s\t%llu\t%.9f\t%llx\t%ld\t%zu\n", name, (unsigned long long)units, seconds,
           (unsigned long long)sum, resident(), log);
    fflush(stdout);
}
