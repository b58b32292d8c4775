/* Writes files in steps of single system calls, so that at any instant each file is what a number of
 * whole steps made of it. `begun` and `done` in memory say which.
 *
 * usage: writes DIR STEPS STEP_US BIG_MIB
 *
 *   log    one line more at each step (O_APPEND)
 *   data   eight bytes somewhere in 256 KiB
 *   cut    cut to some length at every tenth step, else eight bytes at its end (written at an offset)
 *   gone   unlinked at step 3, and written on
 *   big    BIG_MIB MiB, eight bytes somewhere
 *   old    renamed to `new` in the middle
 */
#include "common.h"
#include <sys/stat.h>

volatile uint64_t begun, done;

static int make(const char *dir, const char *name, int flags) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | flags, 0640);
    if (fd < 0) {
        perror(path);
        exit(2);
    }
    return fd;
}

static void put(int fd, uint64_t value, uint64_t at) {
    if (pwrite(fd, &value, sizeof value, (off_t)at) != sizeof value) {
        perror("pwrite");
        exit(2);
    }
}

int main(int argc, char **argv) {
    if (argc < 5)
        return 2;
    const char *dir = argv[1];
    uint64_t steps = strtoull(argv[2], 0, 10);
    unsigned us = (unsigned)atoi(argv[3]);
    uint64_t big_size = strtoull(argv[4], 0, 10) << 20;
    int log = make(dir, "log", O_APPEND), data = make(dir, "data", 0), cut = make(dir, "cut", 0);
    int gone = make(dir, "gone", 0), big = make(dir, "big", 0), old = make(dir, "old", 0);
    if (big_size) {
        static char fill[1 << 20];
        for (uint64_t at = 0; at < big_size; at += sizeof fill) {
            for (uint64_t i = 0; i < sizeof fill / 8; i++)
                ((uint64_t *)fill)[i] = mix((at >> 3) + i);
            if (pwrite(big, fill, sizeof fill, (off_t)at) != (ssize_t)sizeof fill)
                return 2;
        }
    }
    printf("addr begun %lx\naddr done %lx\n", (unsigned long)&begun, (unsigned long)&done);
    fflush(stdout);
    uint64_t length = 0;
    for (uint64_t step = 1; step <= steps; step++) {
        begun = step;
        char line[32];
        int n = snprintf(line, sizeof line, "line %lu\n", (unsigned long)step);
        if (write(log, line, (size_t)n) != n)
            return 2;
        put(data, mix(step), mix(step) % 32760 * 8);
        if (step % 10 == 0) {
            length = mix(step) % 20000;
            if (ftruncate(cut, (off_t)length))
                return 2;
        } else {
            put(cut, step, length);
            length += 8;
        }
        if (step == 3) {
            char path[4096];
            snprintf(path, sizeof path, "%s/gone", dir);
            unlink(path);
        }
        put(gone, step, step * 512);
        if (big_size)
            put(big, step, mix(step) % (big_size / 8) * 8);
        if (step == steps / 2) {
            char from[4096], to[4096];
            snprintf(from, sizeof from, "%s/old", dir);
            snprintf(to, sizeof to, "%s/new", dir);
            rename(from, to);
        }
        put(old, step, 0);
        done = step;
        usleep(us);
    }
    printf("ok\n");
    return 0;
}
