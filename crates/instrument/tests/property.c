/* Random writes, allocations, frees and calls over many checkpoints, nested; after each rollback all
 * memory is compared byte for byte with a full copy taken at the checkpoint (model.c). With a second
 * argument above 1: so many threads, each with blocks of its own between those of the others. */
#include <pthread.h>
#include <stillframe/inproc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct model;
struct model *model_new(uint64_t seed);
void model_begin(struct model *m, int level);
int model_add(struct model *m, int level, void *at, size_t bytes);
void *model_differs(struct model *m, int level);

#define BLOCKS 256
#define DEEPEST 5
struct block {
    unsigned char *at;
    size_t bytes;
};
struct state {
    uint64_t seed;
    struct block block[BLOCKS];
    long counter;
    char text[256];
    unsigned char plain[4096];
};
struct worker {
    struct state *state; /* what the program itself writes */
    struct model *model;
    uint64_t steps, salt;
    uint64_t checkpoints, rollbacks;
};
static uint64_t draw(struct state *s) {
    uint64_t x = s->seed;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return s->seed = x;
}
static void copy_all(struct worker *w, int level) {
    struct state *s = w->state;
    model_begin(w->model, level);
    if (model_add(w->model, level, s, sizeof *s)) _exit(3);
    for (int i = 0; i < BLOCKS; i++)
        if (s->block[i].at && model_add(w->model, level, s->block[i].at, s->block[i].bytes)) _exit(3);
}
__attribute__((noinline)) static unsigned recursive(struct state *s, int depth, unsigned char *p) {
    unsigned char local[40];
    for (int i = 0; i < 40; i++) local[i] = (unsigned char)(i + depth);
    if (p) *p = (unsigned char)(*p + local[depth & 31]);
    s->counter += depth;
    return depth ? recursive(s, depth - 1, local + depth % 40) + local[3] : local[7];
}
__attribute__((noinline)) static void step(struct state *s) {
    uint64_t r = draw(s);
    struct block *b = &s->block[(r >> 8) % BLOCKS];
    size_t want = (r >> 40) & 1 ? (r >> 20) % 48 + 1 : (r >> 20) % 3000 + 1;
    switch (r % 18) {
    case 0: case 1:
        if (!b->at) {
            b->at = malloc(want);
            b->bytes = want;
            memset(b->at, (int)r, want);
        }
        return;
    case 2:
        if (b->at) {
            free(b->at);
            b->at = NULL;
            b->bytes = 0;
        }
        return;
    case 3:
        if (b->at) {
            size_t old = b->bytes;
            b->at = realloc(b->at, want);
            b->bytes = want;
            if (want > old) memset(b->at + old, 7, want - old);
        }
        return;
    case 4:
        if (!b->at) {
            b->at = calloc(1, want);
            b->bytes = want;
        }
        return;
    case 5: s->counter += (long)r; return;
    case 6: snprintf(s->text, sizeof s->text, "step %llu of %ld", (unsigned long long)r, s->counter); return;
    case 7: recursive(s, (int)(r >> 50) & 15, s->plain + (r >> 30) % 4000); return;
    case 8: memmove(s->plain + (r >> 20) % 1000, s->plain + (r >> 32) % 1000, (r >> 44) % 3000); return;
    case 9: for (int i = 0; i < 64; i++) s->plain[(r >> 16) % 4000 + (unsigned)i] ^= (unsigned char)i; return;
    case 17:
        if (((r >> 50) & 63) == 0 && !b->at) { /* large ones are mapped apart */
            b->bytes = 100000 + (r >> 20) % 400000;
            b->at = malloc(b->bytes);
            memset(b->at, 1, b->bytes);
        }
        return;
    default: break;
    }
    if (!b->at) return;
    unsigned char *p = b->at + (r >> 24) % b->bytes;
    size_t left = (size_t)(b->at + b->bytes - p);
    switch (r % 18) {
    case 10: *p = (unsigned char)r; break;
    case 11: if (left >= 8) memcpy(p, &r, 8); break;
    case 12: if (left >= 4) { uint32_t v = (uint32_t)r; memcpy(p, &v, 4); } break;
    case 13: memset(p, (int)(r >> 3), left); break;
    case 14: { struct block *o = &s->block[(r >> 48) % BLOCKS]; if (o->at) memcpy(p, s->plain, left < 4096 ? left : 4096); break; }
    case 15: for (size_t i = 0; i + 8 <= left; i += 8) *(uint64_t *)(void *)(b->at + (i & ~7ul)) += i; break;
    default: { struct block *o = &s->block[(r >> 48) % BLOCKS]; struct block t = *o; *o = *b; *b = t; break; }
    }
}
static void fail(struct worker *w, int level, void *at) {
    fprintf(stderr, "differs at %p (state %p) level %d after %llu checkpoints, %llu rollbacks\n", at, (void *)w->state,
            level, (unsigned long long)w->checkpoints, (unsigned long long)w->rollbacks);
    _exit(1);
}
/* Runs under one checkpoint, with others inside. */
static void level(struct worker *w, int depth);
__attribute__((noinline)) static void body(struct worker *w, int depth, uint64_t plan) {
    unsigned steps = (unsigned)(plan >> 10) % 60;
    for (unsigned i = 0; i < steps; i++) {
        step(w->state);
        if (depth < DEEPEST && (plan >> (i % 50) & 31) == 3) level(w, depth + 1);
    }
}
/* A sequence that no rollback turns back: it is kept where nothing is logged. */
uint64_t model_next(struct model *m);
static void level(struct worker *w, int depth) {
    uint64_t plan = model_next(w->model);
    copy_all(w, depth);
    int taken = still_checkpoint();
    if (taken == STILL_REFUSED) _exit(4);
    if (taken == STILL_ROLLED_BACK) {
        void *at = model_differs(w->model, depth);
        if (at) fail(w, depth, at);
        if (still_reason() != (int)(plan & 0xff) + 1 || still_depth() != (unsigned)depth) fail(w, depth, 0);
        w->rollbacks++;
        return;
    }
    body(w, depth, plan);
    if (plan & 1) still_rollback((int)(plan & 0xff) + 1);
    if (still_commit()) _exit(5);
    w->checkpoints++;
}
static void *work(void *p) {
    struct worker *w = p;
    w->model = model_new(w->salt);
    w->state->seed = w->salt * 2 + 1;
    for (uint64_t i = 0; i < w->steps; i++) level(w, 0);
    return NULL;
}
int main(int argc, char **argv) {
    uint64_t seed = strtoull(argv[1], NULL, 10), steps = strtoull(argv[2], NULL, 10);
    int threads = argc > 3 ? atoi(argv[3]) : 1;
    struct worker w[16];
    pthread_t id[16];
    memset(w, 0, sizeof w);
    for (int i = 0; i < threads; i++) {
        w[i].state = calloc(1, sizeof(struct state));
        w[i].steps = steps;
        w[i].salt = seed * 16 + (uint64_t)i + 1;
    }
    if (threads == 1) work(&w[0]);
    else {
        for (int i = 0; i < threads; i++)
            if (pthread_create(&id[i], NULL, work, &w[i])) return 6;
        for (int i = 0; i < threads; i++) pthread_join(id[i], NULL);
    }
    uint64_t kept = 0, back = 0;
    for (int i = 0; i < threads; i++) kept += w[i].checkpoints, back += w[i].rollbacks;
    printf("%llu kept, %llu rolled back\n", (unsigned long long)kept, (unsigned long long)back);
    return back > 0 && kept > 0 ? 0 : 7;
}
