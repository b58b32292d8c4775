/* The other side of the property test: keeps full copies of memory and compares, compiled without
 * instrumentation and without the C library's writers, so that nothing of it is ever rolled back. */
#include <stddef.h>
#include <sys/syscall.h>

struct region {
    unsigned char *at;
    size_t bytes;
};
#define LEVELS 16
#define COPY (8ul << 20)
struct model {
    unsigned long next;
    unsigned char *copy[LEVELS];
    struct region list[LEVELS][4096];
    int count[LEVELS];
};

static void *pages(size_t bytes) {
    void *at;
    register long r10 __asm__("r10") = 0x22;
    register long r8 __asm__("r8") = -1;
    register long r9 __asm__("r9") = 0;
    __asm__ volatile("syscall" : "=a"(at) : "0"(9L), "D"(0L), "S"(bytes), "d"(3L), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return at;
}
struct model *model_new(unsigned long seed) {
    struct model *m = pages(sizeof *m);
    m->next = seed * 0x9e3779b97f4a7c15ul | 1;
    for (int i = 0; i < LEVELS; i++) m->copy[i] = pages(COPY);
    return m;
}
unsigned long model_next(struct model *m) {
    unsigned long x = m->next;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return m->next = x;
}
void model_begin(struct model *m, int level) { m->count[level] = 0; }
/* Copies a region; regions are listed again at the comparison only to be read there. */
int model_add(struct model *m, int level, void *at, size_t bytes) {
    size_t offset = 0;
    for (int i = 0; i < m->count[level]; i++) offset += m->list[level][i].bytes;
    if (offset + bytes > COPY || m->count[level] == 4096) return -1;
    for (size_t i = 0; i < bytes; i++) m->copy[level][offset + i] = ((volatile unsigned char *)at)[i];
    m->list[level][m->count[level]].at = at;
    m->list[level][m->count[level]++].bytes = bytes;
    return 0;
}
/* The address of the first byte that differs, or 0. */
void *model_differs(struct model *m, int level) {
    size_t offset = 0;
    for (int i = 0; i < m->count[level]; i++) {
        struct region *r = &m->list[level][i];
        for (size_t k = 0; k < r->bytes; k++)
            if (m->copy[level][offset + k] != ((volatile unsigned char *)r->at)[k]) return r->at + k;
        offset += r->bytes;
    }
    return 0;
}
