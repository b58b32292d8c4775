/* Forks, vforks, spawns and execs; children check that they are left alone and unharmed.
 *
 *   --seconds S                 the parent
 *   --execs N --seconds S       instead: replaces itself N times, threads running, then ends
 *   child KIND NUMBER PARENT    a spawned child */
#include "common.h"
#include <spawn.h>
#include <sys/wait.h>

#define N 512
static char *area;
extern char **environ;

/* Not traced, and none of its memory still under somebody's write protection. */
static void untouched(const char *who) {
    char line[512];
    FILE *f = fopen("/proc/self/status", "r");
    NEED(f);
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, "TracerPid:", 10) && atoi(line + 10) != 0) WRONG("%s is traced by %s", who, line + 10);
    fclose(f);
    f = fopen("/proc/self/smaps", "r");
    NEED(f);
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, "VmFlags:", 8) && (strstr(line, " uw") || strstr(line, " um") || strstr(line, " ui")))
            WRONG("%s has memory registered with userfaultfd: %s", who, line);
    fclose(f);
    char path[64], to[128];
    for (int fd = 0; fd < 64; fd++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, to, sizeof to - 1);
        if (n > 0 && (to[n] = 0, strstr(to, "userfaultfd"))) WRONG("%s holds descriptor %d of a userfaultfd", who, fd);
    }
}
static void fill(uint64_t key) {
    for (uint64_t p = 0; p < N; p++) for (uint64_t i = 0; i < 512; i += 8) ((uint64_t *)(area + p * PAGE))[i] = mix(key + p) + i;
}
static void check(uint64_t key, const char *who) {
    for (uint64_t p = 0; p < N; p++) for (uint64_t i = 0; i < 512; i += 8)
        if (((uint64_t *)(area + p * PAGE))[i] != mix(key + p) + i) WRONG("page %d in %s", (int)p, who);
}
static void *write_on(void *p) {
    volatile uint64_t *w = p;
    while (!stopping()) for (int i = 0; i < 64; i++) w[i * 512]++;
    return NULL;
}
static void ends_with(pid_t pid, int status, const char *who) {
    int s;
    NEED(pid > 0 && waitpid(pid, &s, 0) == pid);
    if (!WIFEXITED(s) || WEXITSTATUS(s) != status) WRONG("%s ended with status %#x", who, s);
}

int main(int argc, char **argv) {
    if (argc == 5 && !strcmp(argv[1], "child")) {
        untouched(argv[2]);
        if (getppid() != atoi(argv[4])) WRONG("the parent of %s", argv[2]);
        return atoi(argv[3]);
    }
    double seconds = option(argc, argv, "--seconds", 10);
    int execs = (int)option(argc, argv, "--execs", 0);
    area = mmap(NULL, N * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    NEED(area != MAP_FAILED);
    on_sigterm_stop();
    static char background[64 * PAGE] __attribute__((aligned(4096)));
    pthread_t writer;
    NEED(pthread_create(&writer, NULL, write_on, background) == 0);
    char number[16], parent[16], seconds_text[32];
    snprintf(parent, sizeof parent, "%d", (int)getpid());
    if (execs > 0) {
        fill((uint64_t)execs);
        if (getenv("FIRST") == NULL) { ready(); setenv("FIRST", parent, 1); }
        if (strcmp(getenv("FIRST"), parent)) WRONG("the process id changed over exec");
        uint64_t end = now_ns() + (uint64_t)(seconds * 1e9 / execs);
        while (now_ns() < end && !stopping()) { check((uint64_t)execs, "before exec"); usleep(1000); }
        if (execs == 1 || stopping()) { printf("ok\n"); return 0; }
        snprintf(number, sizeof number, "%d", execs - 1);
        snprintf(seconds_text, sizeof seconds_text, "%f", seconds * (execs - 1) / execs);
        execl("/proc/self/exe", argv[0], "--execs", number, "--seconds", seconds_text, NULL);
        WRONG("exec: %s", strerror(errno));
    }
    ready();
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9), rounds = 0;
    while (!stopping() && now_ns() < end) {
        fill(rounds);
        int status = (int)(rounds % 100);
        snprintf(number, sizeof number, "%d", status);
        pid_t pid = fork();
        if (pid == 0) {
            check(rounds, "a forked child");
            fill(rounds + 1000000);
            untouched("a forked child");
            check(rounds + 1000000, "a forked child's own pages");
            _exit(status);
        }
        check(rounds, "the parent after fork");
        ends_with(pid, status, "a forked child");
        char *args[] = {argv[0], "child", "vfork", number, parent, NULL};
        pid = vfork();
        if (pid == 0) { execv("/proc/self/exe", args); _exit(127); }
        check(rounds, "the parent after vfork");
        ends_with(pid, status, "a vforked child");
        args[2] = "posix_spawn";
        NEED(posix_spawn(&pid, "/proc/self/exe", NULL, NULL, args, environ) == 0);
        ends_with(pid, status, "a spawned child");
        check(rounds, "the parent");
        rounds++;
        usleep(2000);
    }
    atomic_store(&stop_flag, 1);
    NEED(pthread_join(writer, NULL) == 0);
    printf("ok rounds %llu\n", (unsigned long long)rounds);
    return 0;
}
