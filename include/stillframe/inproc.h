/* stillframe/inproc.h: checkpoints inside a program that was built with `still cc`.
 *
 *   if (still_checkpoint() == STILL_ROLLED_BACK) { ... }   returns twice, as setjmp does
 *   still_rollback(reason);                                back to the innermost checkpoint
 *   still_commit();                                        keep what was done since; it ends
 *
 * A rollback puts back all memory that instrumented code, and the functions of the C library that
 * the runtime knows, have written since the checkpoint; heap blocks and mappings taken since are
 * given back, those given back since still exist; registers, the stack of the function that called
 * still_checkpoint, and the signal mask are as they were. What left the process (files, sockets,
 * other processes) is not undone. After a rollback the checkpoint has ended: take another one.
 *
 * As with setjmp, the function that called still_checkpoint must not have returned when it is rolled
 * back to; unlike with setjmp, its local variables have the values they had at the checkpoint.
 * Checkpoints nest: a rollback goes to the innermost, a commit keeps its work for the one outside.
 *
 * Not for signal handlers. docs/inproc.md has the contracts: threads, libraries, exceptions. */
#ifndef STILLFRAME_INPROC_H
#define STILLFRAME_INPROC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    STILL_TAKEN = 0,
    STILL_ROLLED_BACK = 1,
    STILL_REFUSED = -1 /* no checkpoint was taken; still_refusal() says why */
};

enum {
    STILL_REFUSED_MEMORY = 1,  /* no addresses for the log */
    STILL_REFUSED_DEPTH = 2,   /* more than 24 inside each other */
    STILL_REFUSED_THREADS = 3, /* the program has threads and was built without --threads */
    STILL_REFUSED_TAGS = 4     /* more than 255 checkpoints open in all threads */
};

/* A reason of a rollback that was a fault: this plus the number of the signal. */
#define STILL_FAULT 0x10000
/* A reason of still::checkpoint in C++: an exception left the function. */
#define STILL_EXCEPTION 0x20000

#if defined(__GNUC__)
#define STILL_INPROC_ATTRIBUTE_(x) __attribute__(x)
#else
#define STILL_INPROC_ATTRIBUTE_(x)
#endif

int still_inproc_checkpoint_at(void *frame) STILL_INPROC_ATTRIBUTE_((returns_twice));
void still_inproc_rollback(int reason) STILL_INPROC_ATTRIBUTE_((noreturn));
int still_inproc_commit(void);
int still_inproc_try(int (*function)(void *), void *argument);
unsigned still_inproc_depth(void);
int still_inproc_reason(void);
uintptr_t still_inproc_fault_address(void);
int still_inproc_refusal(void);
int still_inproc_recover(unsigned signals, unsigned in_a_row, unsigned total);
void still_inproc_range(const void *at, size_t bytes);

struct still_inproc_figures {
    uint64_t checkpoints, rollbacks; /* of this thread */
    uint64_t undone;                 /* granules that rollbacks wrote back */
    uint64_t conflicts;              /* granules that another thread's checkpoint held when written */
    uintptr_t conflict_at;           /* the last of them */
    size_t log_bytes, log_high_bytes;
    size_t granule; /* bytes; 0: a plain undo log */
    size_t heap_bytes;
};
void still_inproc_figures(struct still_inproc_figures *figures);

/* points.h, too, has a still_checkpoint (of the recorder): with both, use the long name. */
#define still_inproc_checkpoint() still_inproc_checkpoint_at(__builtin_frame_address(0))
#ifndef STILLFRAME_POINTS_H
#define still_checkpoint() still_inproc_checkpoint()
#endif

/* Back to the innermost checkpoint of this thread. Without one the program ends. */
#define still_rollback(reason) still_inproc_rollback(reason)
/* 0, or -1 if there is no checkpoint. */
#define still_commit() still_inproc_commit()
/* How many checkpoints of this thread have not ended. */
#define still_depth() still_inproc_depth()
/* Why the last rollback happened: what still_rollback was given, or STILL_FAULT + a signal. */
#define still_reason() still_inproc_reason()
/* The address at which the last fault was met that was recovered from. */
#define still_fault_address() still_inproc_fault_address()
/* Why the last checkpoint was refused. */
#define still_refusal() still_inproc_refusal()

/* The closed form: calls a function under a checkpoint. It returns 0 to keep what it did, anything
 * else to undo it, and may roll back from anywhere inside. STILL_TAKEN: kept. STILL_ROLLED_BACK:
 * undone, see still_reason(). STILL_REFUSED: not called. Copies nothing of the stack. */
#define still_try(function, argument) still_inproc_try((function), (argument))

/* Recovery from faults in this process: signals is a set (bit n for signal n) of SIGILL, SIGABRT
 * (assert, abort), SIGBUS, SIGFPE, SIGSEGV; 0 ends it. At most in_a_row rollbacks without a commit
 * between them, and total in all; then a fault is what it was before. 0, or -1 for another signal. */
#define still_recover(signals, in_a_row, total) still_inproc_recover((signals), (in_a_row), (total))
#define STILL_ALL_FAULTS ((1u << 4) | (1u << 6) | (1u << 7) | (1u << 8) | (1u << 11))

/* Memory that is about to be written by something that nobody instruments (assembly, a library, a
 * device): call before. */
#define still_range(at, bytes) still_inproc_range((at), (bytes))

#ifdef __cplusplus
}

#if __cplusplus >= 201103L
#include <type_traits>

namespace still {

/* Runs f() under a checkpoint. What leaves it as an exception rolls back, with the reason
 * STILL_EXCEPTION; the exception is gone, as its memory is. Destructors inside f run before a
 * rollback by exception, and do not run when still_rollback or a fault goes back: then the objects
 * were never made. */
template <class F> int checkpoint(F &&f) {
    struct run {
        static int call(void *p) {
            try {
                (*static_cast<typename std::remove_reference<F>::type *>(p))();
                return 0;
            } catch (...) {
                return STILL_EXCEPTION;
            }
        }
    };
    return still_inproc_try(&run::call, const_cast<void *>(static_cast<const void *>(&f)));
}

} // namespace still
#endif
#endif

#endif
