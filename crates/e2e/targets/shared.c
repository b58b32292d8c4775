/* Memory that is shared or special: transparent huge pages, memfd (once and twice mapped), SysV,
 * /dev/shm, shared and private file mappings, a file written under its mapping, a read-only view.
 *
 *   --seconds S --dir DIR
 *
 * A shadow says what every page holds; all views of the same memory are compared with it. */
#include "common.h"
#include <sys/shm.h>

#define N 64 /* pages of each area */
struct area { const char *name; char *view[2]; int views; int fd; uint64_t key[N]; };
static struct area areas[10];
static int used;

static struct area *add(const char *name, char *a, char *b, int fd) {
    struct area *r = &areas[used++];
    r->name = name; r->view[0] = a; r->view[1] = b; r->views = b ? 2 : 1; r->fd = fd;
    return r;
}
static char *map(size_t bytes, int prot, int flags, int fd) {
    char *m = mmap(NULL, bytes, prot, flags, fd, 0);
    NEED(m != MAP_FAILED);
    return m;
}
static void fill(uint64_t *w, uint64_t key) { for (uint64_t i = 0; i < 512; i++) w[i] = mix(key) + i; }
static void check(const struct area *r, int p) {
    for (int v = 0; v < r->views; v++) {
        const uint64_t *w = (const uint64_t *)(r->view[v] + (size_t)p * PAGE);
        for (uint64_t i = 0; i < 512; i++)
            if (w[i] != (r->key[p] ? mix(r->key[p]) + i : 0)) WRONG("%s view %d page %d", r->name, v, p);
    }
}
static int file(const char *dir, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/stillframe-e2e-%d-%s", dir, (int)getpid(), name);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    NEED(fd >= 0);
    NEED(unlink(path) == 0);
    NEED(ftruncate(fd, (off_t)(N * PAGE)) == 0);
    return fd;
}

int main(int argc, char **argv) {
    double seconds = option(argc, argv, "--seconds", 10);
    const char *dir = "/tmp";
    for (int i = 1; i + 1 < argc; i++) if (!strcmp(argv[i], "--dir")) dir = argv[i + 1];
    int rw = PROT_READ | PROT_WRITE;
    char *huge = map(6 << 20, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    huge = (char *)(((uintptr_t)huge + (2 << 20) - 1) & ~(uintptr_t)((2 << 20) - 1));
    madvise(huge, 4 << 20, MADV_HUGEPAGE); /* a kernel without THP still serves */
    add("transparent huge", huge, NULL, -1);
    int once = memfd_create("once", 0), twice = memfd_create("twice", 0);
    NEED(once >= 0 && twice >= 0 && ftruncate(once, N * PAGE) == 0 && ftruncate(twice, N * PAGE) == 0);
    add("memfd", map(N * PAGE, rw, MAP_SHARED, once), NULL, -1);
    add("memfd twice", map(N * PAGE, rw, MAP_SHARED, twice), map(N * PAGE, rw, MAP_SHARED, twice), -1);
    int id = shmget(IPC_PRIVATE, N * PAGE, IPC_CREAT | 0600);
    NEED(id >= 0);
    char *sysv = shmat(id, NULL, 0);
    NEED(sysv != (void *)-1);
    NEED(shmctl(id, IPC_RMID, NULL) == 0);
    add("SysV", sysv, NULL, -1);
    add("/dev/shm", map(N * PAGE, rw, MAP_SHARED, file("/dev/shm", "shm")), NULL, -1);
    add("shared file", map(N * PAGE, rw, MAP_SHARED, file(dir, "shared")), NULL, -1);
    add("private file", map(N * PAGE, rw, MAP_PRIVATE, file(dir, "private")), NULL, -1);
    add("shared anonymous", map(N * PAGE, rw, MAP_SHARED | MAP_ANONYMOUS, -1), NULL, -1);
    /* written with pwrite only; seen through a writable and a read-only mapping */
    int written = file(dir, "written");
    add("written file", map(N * PAGE, rw, MAP_SHARED, written), map(N * PAGE, PROT_READ, MAP_SHARED, written), written);
    on_sigterm_stop();
    ready();
    uint64_t s = 1234, rounds = 0, end = now_ns() + (uint64_t)(seconds * 1e9);
    uint64_t buffer[512];
    while (!stopping() && now_ns() < end) {
        for (int k = 0; k < used; k++) {
            struct area *r = &areas[k];
            int p = (int)(next(&s) % N), v = (int)(next(&s) % (uint64_t)r->views);
            check(r, p);
            r->key[p] = next(&s) | 1;
            fill(buffer, r->key[p]);
            if (r->fd >= 0) NEED(pwrite(r->fd, buffer, PAGE, (off_t)p * (off_t)PAGE) == (ssize_t)PAGE);
            else memcpy(r->view[v] + (size_t)p * PAGE, buffer, PAGE);
            check(r, p);
        }
        if (++rounds % 64 == 0) { struct timespec t = {0, 200000}; nanosleep(&t, NULL); }
    }
    for (int k = 0; k < used; k++) for (int p = 0; p < N; p++) check(&areas[k], p);
    printf("ok rounds %llu\n", (unsigned long long)rounds);
    return 0;
}
