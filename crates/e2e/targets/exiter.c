/* Ends in every way a process can end by itself.
 *
 *   exiter HOW STATUS SECONDS     HOW: return, exit, _exit, thread (a second thread exits the
 *   process), leader (the main thread ends first, the last thread ends the process), signal */
#include "common.h"

volatile uint64_t final_value = 1;
static int status;
static double seconds;
static void pass(void) {
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
    static volatile uint64_t noise[4096];
    for (uint64_t i = 0; now_ns() < end; i++) noise[i % 4096] = noise[(i * 7) % 4096] + i;
}
static void *ends_it(void *p) {
    pass();
    final_value = 0xf1a1ULL;
    if (p) exit(status);
    syscall(SYS_exit_group, status);
    return NULL;
}
static void *goes_last(void *p) {
    (void)p;
    pass();
    final_value = 0xf1a1ULL;
    return NULL; /* the process ends with status 0, as the main thread has gone */
}
int main(int argc, char **argv) {
    NEED(argc == 4);
    status = atoi(argv[2]);
    seconds = atof(argv[3]);
    printf("addr final_value %lx\n", (long)&final_value);
    ready();
    pthread_t t;
    if (!strcmp(argv[1], "thread")) { NEED(pthread_create(&t, NULL, ends_it, NULL) == 0); pthread_join(t, NULL); }
    if (!strcmp(argv[1], "leader")) { NEED(pthread_create(&t, NULL, goes_last, NULL) == 0); pthread_exit(NULL); }
    pass();
    final_value = 0xf1a1ULL;
    if (!strcmp(argv[1], "signal")) { signal(status, SIG_DFL); kill(getpid(), status); pause(); }
    if (!strcmp(argv[1], "_exit")) _exit(status);
    if (!strcmp(argv[1], "exit")) exit(status);
    return status;
}
