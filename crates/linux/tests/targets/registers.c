// Loads every register with a known value, runs on them, and looks whether they are still there.
// Also the red zone, and the stack far below. Ends at SIGTERM with "ok N" or at once with "BAD ...".
// With "sleep", the loop sleeps in nanosleep instead of spinning, registers loaded. With "shallow",
// the far end of the stack, below what any program looks at, is not watched.
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct state {
    uint64_t gpr[15];      // rax rbx rcx rdx rsi rdi rbp r8..r15
    uint64_t flags;        // ah from lahf, al from seto
    uint64_t red[16];
    uint64_t pad[32];
};
struct state want, got;
uint64_t loops;
uint8_t vectors_in[32][64] __attribute__((aligned(64)));
uint8_t vectors_out[32][64] __attribute__((aligned(64)));
uint64_t masks_in[8], masks_out[8];
int wide; // 0 sse, 1 avx, 2 avx512

void run_spin(void);
__asm__(
    ".text\n.globl run_spin\nrun_spin:\n"
    "push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "sub $8, %rsp\n"
    // red zone
    "mov want+128(%rip), %rax\nmov %rax, -8(%rsp)\n"
    "mov want+136(%rip), %rax\nmov %rax, -16(%rsp)\n"
    "mov want+144(%rip), %rax\nmov %rax, -64(%rsp)\n"
    "mov want+152(%rip), %rax\nmov %rax, -128(%rsp)\n"
    "mov want+8(%rip), %rbx\nmov want+24(%rip), %rdx\nmov want+32(%rip), %rsi\n"
    "mov want+40(%rip), %rdi\nmov want+48(%rip), %rbp\nmov want+56(%rip), %r8\n"
    "mov want+64(%rip), %r9\nmov want+72(%rip), %r10\nmov want+80(%rip), %r11\n"
    "mov want+88(%rip), %r12\nmov want+96(%rip), %r13\nmov want+104(%rip), %r14\n"
    "mov want+112(%rip), %r15\n"
    "mov loops(%rip), %rcx\n"
    "mov $0x7fffffff, %eax\nadd $1, %eax\n" // sets OF and SF, clears CF and ZF
    "stc\n"
    "mov want(%rip), %rax\n"
    "1: lea -1(%rcx), %rcx\njrcxz 2f\njmp 1b\n"
    "2:\n"
    "mov %rax, got(%rip)\nmov %rbx, got+8(%rip)\nmov %rcx, got+16(%rip)\nmov %rdx, got+24(%rip)\n"
    "mov %rsi, got+32(%rip)\nmov %rdi, got+40(%rip)\nmov %rbp, got+48(%rip)\n"
    "mov %r8, got+56(%rip)\nmov %r9, got+64(%rip)\nmov %r10, got+72(%rip)\n"
    "mov %r11, got+80(%rip)\nmov %r12, got+88(%rip)\nmov %r13, got+96(%rip)\n"
    "mov %r14, got+104(%rip)\nmov %r15, got+112(%rip)\n"
    "lahf\nseto %al\nmovzwl %ax, %eax\nmov %rax, got+120(%rip)\n"
    "mov -8(%rsp), %rax\nmov %rax, got+128(%rip)\n"
    "mov -16(%rsp), %rax\nmov %rax, got+136(%rip)\n"
    "mov -64(%rsp), %rax\nmov %rax, got+144(%rip)\n"
    "mov -128(%rsp), %rax\nmov %rax, got+152(%rip)\n"
    "add $8, %rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\nret\n");

// The same in a system call: 10 ms of nanosleep; rax, rcx, r11 are the call's to change.
struct { int64_t s, ns; } nap = {0, 10000000}, left;
void run_sleep(void);
__asm__(
    ".text\n.globl run_sleep\nrun_sleep:\n"
    "push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "sub $8, %rsp\n"
    "mov want+128(%rip), %rax\nmov %rax, -8(%rsp)\n"
    "mov want+136(%rip), %rax\nmov %rax, -16(%rsp)\n"
    "mov want+144(%rip), %rax\nmov %rax, -64(%rsp)\n"
    "mov want+152(%rip), %rax\nmov %rax, -128(%rsp)\n"
    "mov want+8(%rip), %rbx\nmov want+24(%rip), %rdx\n"
    "mov want+48(%rip), %rbp\nmov want+56(%rip), %r8\n"
    "mov want+64(%rip), %r9\nmov want+72(%rip), %r10\n"
    "mov want+88(%rip), %r12\nmov want+96(%rip), %r13\nmov want+104(%rip), %r14\n"
    "mov want+112(%rip), %r15\n"
    "lea nap(%rip), %rdi\nlea left(%rip), %rsi\nmov $35, %eax\nsyscall\n"
    "mov %rax, got(%rip)\nmov %rbx, got+8(%rip)\nmov %rdx, got+24(%rip)\n"
    "mov %rbp, got+48(%rip)\n"
    "mov %r8, got+56(%rip)\nmov %r9, got+64(%rip)\nmov %r10, got+72(%rip)\n"
    "mov %r12, got+88(%rip)\nmov %r13, got+96(%rip)\n"
    "mov %r14, got+104(%rip)\nmov %r15, got+112(%rip)\n"
    "mov -8(%rsp), %rax\nmov %rax, got+128(%rip)\n"
    "mov -16(%rsp), %rax\nmov %rax, got+136(%rip)\n"
    "mov -64(%rsp), %rax\nmov %rax, got+144(%rip)\n"
    "mov -128(%rsp), %rax\nmov %rax, got+152(%rip)\n"
    "add $8, %rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\nret\n");

#define EACH16(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define EACH32(X) EACH16(X) X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23) X(24) X(25) X(26) X(27) X(28) X(29) X(30) X(31)
#define S(x) #x

__attribute__((noinline)) static void load(void) {
    if (wide == 2) {
#define L(n) __asm__ volatile("vmovdqu64 %0, %%zmm" S(n) ::"m"(vectors_in[n]));
        EACH32(L)
#undef L
#define K(n) __asm__ volatile("kmovq %0, %%k" S(n) ::"m"(masks_in[n]));
        K(1) K(2) K(3) K(4) K(5) K(6) K(7)
#undef K
    } else if (wide == 1) {
#define L(n) __asm__ volatile("vmovdqu %0, %%ymm" S(n) ::"m"(vectors_in[n]));
        EACH16(L)
#undef L
    } else {
#define L(n) __asm__ volatile("movdqu %0, %%xmm" S(n) ::"m"(vectors_in[n]));
        EACH16(L)
#undef L
    }
}

__attribute__((noinline)) static void store(void) {
    if (wide == 2) {
#define L(n) __asm__ volatile("vmovdqu64 %%zmm" S(n) ", %0" : "=m"(vectors_out[n]));
        EACH32(L)
#undef L
#define K(n) __asm__ volatile("kmovq %%k" S(n) ", %0" : "=m"(masks_out[n]));
        K(1) K(2) K(3) K(4) K(5) K(6) K(7)
#undef K
    } else if (wide == 1) {
#define L(n) __asm__ volatile("vmovdqu %%ymm" S(n) ", %0" : "=m"(vectors_out[n]));
        EACH16(L)
#undef L
    } else {
#define L(n) __asm__ volatile("movdqu %%xmm" S(n) ", %0" : "=m"(vectors_out[n]));
        EACH16(L)
#undef L
    }
}

static volatile sig_atomic_t done;
static void on_term(int s) { (void)s; done = 1; }
static void bad(const char *what, long at) { printf("BAD %s %ld\n", what, at); fflush(stdout); _exit(1); }

int main(int argc, char **argv) {
    int sleeping = 0, watched = 70000;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "sleep")) sleeping = 1;
        if (!strcmp(argv[i], "shallow")) watched = 0;
    }
    struct sigaction sa = {.sa_handler = on_term};
    sigaction(SIGTERM, &sa, 0);
    wide = __builtin_cpu_supports("avx512bw") ? 2 : __builtin_cpu_supports("avx") ? 1 : 0;
    int width = wide == 2 ? 64 : wide == 1 ? 32 : 16, count = wide == 2 ? 32 : 16;
    uint64_t x = 88172645463325252ull;
#define NEXT (x ^= x << 13, x ^= x >> 7, x ^= x << 17)
    // The stack far below, in pages it has already.
    volatile uint8_t *low = (uint8_t *)__builtin_frame_address(0) - 110000;
    for (long i = 0; i < watched; i++) low[i] = (uint8_t)(i * 7 + 3);
    printf("ready\n"); fflush(stdout);
    unsigned long n = 0;
    for (; !done; n++) {
        for (int i = 0; i < 15; i++) want.gpr[i] = NEXT;
        for (int i = 0; i < 4; i++) want.red[i] = NEXT;
        for (int i = 0; i < 32; i++) for (int j = 0; j < 64; j++) vectors_in[i][j] = (uint8_t)NEXT;
        for (int i = 0; i < 8; i++) masks_in[i] = NEXT;
        memset(&got, 0, sizeof got);
        loops = 200000;
        errno = 77;
        load();
        if (sleeping) run_sleep(); else run_spin();
        store();
        if (errno != 77) bad("errno", errno);
        if (sleeping) {
            if (got.gpr[0] && !done) bad("nanosleep", (long)got.gpr[0]);
            static const int kept[] = {1, 3, 6, 7, 8, 9, 11, 12, 13, 14};
            for (unsigned i = 0; i < sizeof kept / sizeof *kept; i++)
                if (got.gpr[kept[i]] != want.gpr[kept[i]]) bad("register", kept[i]);
        } else {
            want.gpr[2] = 0;
            for (int i = 0; i < 15; i++) if (got.gpr[i] != want.gpr[i]) bad("register", i);
            // SF, ZF and CF in ah; OF in al.
            if ((got.flags & 0xc100) != 0x8100) bad("flags", (long)got.flags);
            if ((got.flags & 0xff) != 1) bad("overflow flag", (long)got.flags);
        }
        for (int i = 0; i < 4; i++) if (got.red[i] != want.red[i]) bad("red zone", i);
        for (int i = 0; i < count; i++) if (memcmp(vectors_in[i], vectors_out[i], width)) bad("vector", i);
        if (wide == 2) for (int i = 1; i < 8; i++) if (masks_in[i] != masks_out[i]) bad("mask", i);
        for (long i = 0; i < watched; i++) if (low[i] != (uint8_t)(i * 7 + 3)) bad("stack below", i);
    }
    printf("ok %lu\n", n);
    return 0;
}
