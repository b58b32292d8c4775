/* Counts SIGINT and goes on; ends on SIGTERM. For tests of Ctrl-C and of privilege. */
#include "common.h"
static volatile int interrupts;
static void on_int(int s) { (void)s; interrupts++; if (interrupts) atomic_store(&stop_flag, 1); }
int main(int argc, char **argv) {
    double seconds = option(argc, argv, "--seconds", 20);
    int status = (int)option(argc, argv, "--status", 0);
    on_sigterm_stop();
    if (option(argc, argv, "--catch", 0) > 0) signal(SIGINT, on_int);
    ready();
    static volatile uint64_t cells[64 * 512];
    uint64_t n = 0, end = now_ns() + (uint64_t)(seconds * 1e9);
    while (!stopping() && now_ns() < end) {
        for (int i = 0; i < 64; i++) cells[i * 512] = n + (uint64_t)i;
        for (int i = 0; i < 64; i++) if (cells[i * 512] != n + (uint64_t)i) WRONG("cell %d", i);
        n++;
        usleep(500);
    }
    printf("ok interrupts %d\n", interrupts ? 1 : 0);
    return status;
}
