/* Dies of SIGSEGV in a second thread after a while, with known values where a debugger looks.
 *
 *   --after SECONDS --kind segv|abort */
#include "common.h"

volatile uint64_t last_words = 0x1122334455667788ULL;
__thread volatile uint64_t thread_words = 1;

static void __attribute__((noinline)) fall(int depth, volatile int *nowhere) {
    volatile uint64_t local = 0xabcd0000ULL + (uint64_t)depth;
    if (depth == 0) { last_words = 0x5ca1ab1e5ca1ab1eULL; *nowhere = 1; }
    else fall(depth - 1, nowhere);
    local++;
}
static void *run(void *p) {
    thread_words = 0x7ead7eadULL;
    struct timespec t = {(time_t)*(double *)p, (long)((*(double *)p - (double)(time_t)*(double *)p) * 1e9)};
    nanosleep(&t, NULL);
    fall(5, NULL);
    return NULL;
}
int main(int argc, char **argv) {
    double after = option(argc, argv, "--after", 0.3);
    int aborts = 0;
    for (int i = 1; i < argc; i++) if (!strcmp(argv[i], "abort")) aborts = 1;
    printf("addr last_words %lx\n", (long)&last_words);
    ready();
    if (aborts) { usleep((useconds_t)(after * 1e6)); last_words = 0xab0047ULL; abort(); }
    pthread_t t;
    NEED(pthread_create(&t, NULL, run, &after) == 0);
    pthread_join(t, NULL);
    return 0;
}
