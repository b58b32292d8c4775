/* stillframe/points.h: what a program can say to the recorder that records it.
 *
 *   still_point("epoch done");              names this moment; goes with the next checkpoint
 *   int64_t n = still_checkpoint("saved");  a checkpoint of this very moment, and its number
 *   still_wait_recording(1000);             waits until recording has begun, at most a second
 *   still_recording()                       whether somebody records now
 *
 * There is nothing to link, and nothing but this file to have. Not recorded, a call is the load of
 * one word and a branch. The recorder finds that word (the gate; one in every executable and
 * library built with this header) by an ELF note, and makes it other than zero while it records.
 *
 * A call then sends its own thread a SIGURG, which does nothing: its default is to be ignored. A
 * recorder that traces the thread sees it before it is delivered, makes it vanish, and answers by
 * the value that the system call returns. If the recorder dies, at any instant, that value is the
 * kernel's 0: nobody answered; the gate is closed again, and the program runs on. docs/points.md
 * says what a program with its own handler of SIGURG may notice.
 *
 * C99 and C++98, GCC and Clang, x86-64 Linux with ELF; elsewhere every function says "nobody
 * records". Safe in threads and in signal handlers; errno is left alone. */
#ifndef STILLFRAME_POINTS_H
#define STILLFRAME_POINTS_H

#include <stdint.h>

#ifdef STILLFRAME_INPROC_H /* inproc.h has a checkpoint of its own; its long name stays */
#undef still_checkpoint
#endif

#if defined(__linux__) && defined(__x86_64__) && defined(__LP64__) && defined(__ELF__) && \
    defined(__GNUC__)
#define STILLFRAME_POINTS_WORK 1
#else
#define STILLFRAME_POINTS_WORK 0
#endif

#if STILLFRAME_POINTS_WORK

#ifdef __cplusplus
extern "C" {
#endif

/* One in each linked object, whatever the number of its parts that include this. */
struct still_gate_v1 {
    uint32_t magic;
    volatile uint32_t open;
};
extern struct still_gate_v1 still_gate_v1 __attribute__((visibility("hidden")));
__attribute__((weak, used, visibility("hidden"), aligned(8))) struct still_gate_v1
    still_gate_v1 = {0x6c697473u, 0u};

#ifdef __cplusplus
}
#endif

/* Note "stillframe", type 1: how far the gate is from here, and the version of all this. */
__asm__(".pushsection .note.stillframe,\"a\",@note\n"
        ".balign 4\n"
        ".long 11, 8, 1\n"
        ".asciz \"stillframe\"\n"
        ".balign 4\n"
        ".long still_gate_v1 - .\n"
        ".long 1\n"
        ".popsection\n");

/* What is asked; the signal carries its address. */
struct still_request_v1 {
    uint64_t magic;
    uint32_t version;
    uint32_t kind; /* 1 point, 2 checkpoint, 3 how many checkpoints there are */
    const char *name;
    uint64_t name_bytes;
};

static inline __attribute__((unused)) long still_syscall_(long number, long a, long b, long c,
                                                          long d) {
    long result;
    register long r10 __asm__("r10") = d;
    __asm__ __volatile__("syscall"
                         : "=a"(result)
                         : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                         : "rcx", "r11", "memory");
    return result;
}

/* The answer: 0 or less, nobody; 1, declined; else a number and 2. */
static __attribute__((noinline, cold, unused)) int64_t still_ask_(uint32_t kind,
                                                                  const char *name) {
    const uint64_t urgent = (uint64_t)1 << 22, others = ~urgent; /* SIGURG, 23 */
    uint64_t blocked = 0, waiting = 0;
    uint32_t gate = still_gate_v1.open;
    struct still_request_v1 request;
    union {
        uint32_t word[32];
        uint64_t pair[16];
    } info;
    long pid, result;
    int i;

    if (gate == 0) return 0;
    request.magic = 0x746e696f706c7473u;
    request.version = 1;
    request.kind = kind;
    request.name = name;
    request.name_bytes = 0;
    while (name && request.name_bytes < 255 && name[request.name_bytes]) request.name_bytes++;

    /* No handler may come between the call and its answer; rt_sigprocmask. A blocked SIGURG would
     * wait, and so is let through, unless another waits already. */
    still_syscall_(14, 0, (long)&others, (long)&blocked, 8);
    if (blocked & urgent) {
        still_syscall_(127, (long)&waiting, 8, 0, 0); /* rt_sigpending */
        if (waiting & urgent) {
            still_syscall_(14, 2, (long)&blocked, 0, 8);
            return 1;
        }
        still_syscall_(14, 2, (long)&others, 0, 8);
    }
    pid = still_syscall_(39, 0, 0, 0, 0); /* getpid */
    for (i = 0; i < 16; i++) info.pair[i] = 0;
    info.word[0] = 23;
    info.word[1] = 0x6c697473u;
    info.word[2] = (uint32_t)-6; /* SI_TKILL: with a value, only the process itself can send it */
    info.word[4] = (uint32_t)pid;
    info.pair[3] = (uint64_t)(uintptr_t)&request;
    /* rt_tgsigqueueinfo to gettid */
    result = still_syscall_(297, pid, still_syscall_(186, 0, 0, 0, 0), 23, (long)&info);
    still_syscall_(14, 2, (long)&blocked, 0, 8);
    if (result <= 0) /* The recorder is gone. Another one may have come since: leave its gate. */
        (void)__sync_bool_compare_and_swap(&still_gate_v1.open, gate, 0u);
    return result;
}

/* Names this moment: the next checkpoint carries the name. NULL or "" has no effect on it. */
static inline __attribute__((unused)) void still_point(const char *name) {
    if (__builtin_expect(still_gate_v1.open != 0, 0)) (void)still_ask_(1, name);
}

/* A checkpoint whose memory and registers are those of this call. Its number, once it is taken and
 * on its way to the disk; -1 if nobody records or it could not be taken. A process restored from
 * that checkpoint gets -1. The name may be NULL. */
static inline __attribute__((unused)) int64_t still_checkpoint(const char *name) {
    int64_t answer = 0;
    if (__builtin_expect(still_gate_v1.open != 0, 0)) answer = still_ask_(2, name);
    return answer >= 2 ? answer - 2 : -1;
}

/* How many checkpoints there are up to now; -1 if nobody records. */
static inline __attribute__((unused)) int64_t still_checkpoints(void) {
    int64_t answer = 0;
    if (__builtin_expect(still_gate_v1.open != 0, 0)) answer = still_ask_(3, (const char *)0);
    return answer >= 2 ? answer - 2 : -1;
}

/* Waits until there is a checkpoint, at most this long (for ever, if negative): 1, or 0 if there is
 * none yet. Costs the whole time where nobody records. */
static inline __attribute__((unused)) int still_wait_recording(int64_t timeout_ms) {
    int64_t now[2], step[2], begun = -1, ms;
    step[0] = 0;
    step[1] = 1000000;
    for (;;) {
        if (still_checkpoints() > 0) return 1;
        still_syscall_(228, 1, (long)now, 0, 0); /* clock_gettime, monotonic */
        ms = now[0] * 1000 + now[1] / 1000000;
        if (begun < 0) begun = ms;
        if (timeout_ms >= 0 && ms - begun >= timeout_ms) return 0;
        still_syscall_(35, (long)step, 0, 0, 0); /* nanosleep */
    }
}

#else

static inline void still_point(const char *name) { (void)name; }
static inline int64_t still_checkpoint(const char *name) {
    (void)name;
    return -1;
}
static inline int64_t still_checkpoints(void) { return -1; }
static inline int still_wait_recording(int64_t timeout_ms) {
    (void)timeout_ms;
    return 0;
}

#endif

/* Whether somebody records this thread now. */
#ifdef __GNUC__
__attribute__((unused))
#endif
static inline int still_recording(void) {
    return still_checkpoints() >= 0;
}

#endif
