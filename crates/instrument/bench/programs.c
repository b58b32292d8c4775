/* The bench's programs: empty checkpoints, a small KV in memory, a request server over a socket pair,
 * nine kernels that do little but store. Each prints its name, units, seconds, a sum over its result
 * (the same for every method), the resident high-water mark (KiB) and the log's. */
#include "common.h"

static uint64_t mix(uint64_t *s) {
    uint64_t x = *s;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *s = x;
}

/* Functions of their own, because the open form keeps the frame of its caller. */
__attribute__((noinline)) static void empty(uint64_t units) {
    for (uint64_t i = 0; i < units; i++) {
        CHECKPOINT();
        COMMIT();
    }
}
__attribute__((noinline)) static void empty_frame(uint64_t units) {
    char locals[1024];
    __asm__ volatile("" : : "r"(locals) : "memory");
    for (uint64_t i = 0; i < units; i++) {
        CHECKPOINT();
        COMMIT();
    }
    __asm__ volatile("" : : "r"(locals) : "memory");
}
#if defined(STILL)
static int nothing(void *unused) {
    (void)unused;
    return 0;
}
#endif
__attribute__((noinline)) static void empty_closed(uint64_t units) {
    for (uint64_t i = 0; i < units; i++) {
#if defined(STILL)
        (void)still_try(nothing, NULL);
#else
        (void)i;
#endif
    }
}
static void timed(const char *name, void (*run)(uint64_t), uint64_t units) {
    double t = now();
    run(units);
    result(name, units, now() - t, 0);
}

/* Open addressing, 64 Ki slots of 32 bytes with values in line, and a list of the latest keys. */
struct slot {
    uint64_t key;
    uint32_t uses, bytes;
    char value[16];
};
struct kv {
    uint64_t count, hits, misses;
    uint64_t latest[256];
    uint32_t at;
    struct slot slot[1 << 16];
};
__attribute__((noinline)) static struct slot *find(struct kv *kv, uint64_t key) {
    uint64_t h = key * 0x9e3779b97f4a7c15ull;
    for (uint32_t i = (uint32_t)(h >> 48);; i = (i + 1) & 0xffff)
        if (kv->slot[i].key == key || kv->slot[i].key == 0) return &kv->slot[i];
}
__attribute__((noinline)) static uint64_t request(struct kv *kv, const char *line) {
    char verb = line[0];
    uint64_t key = strtoull(line + 2, NULL, 16);
    struct slot *s = find(kv, key);
    if (verb == 'g') {
        if (s->key == 0) {
            kv->misses++;
            return 0;
        }
        kv->hits++;
        s->uses++;
        return (uint64_t)(unsigned char)s->value[0];
    }
    if (s->key == 0) {
        s->key = key;
        kv->count++;
    }
    const char *value = strchr(line + 2, ' ');
    s->bytes = (uint32_t)strlen(value + 1);
    strncpy(s->value, value + 1, sizeof s->value);
    kv->latest[kv->at++ & 255] = key;
    return s->bytes;
}
static void make(char *line, uint64_t *seed) {
    static const char digits[] = "0123456789abcdef";
    uint64_t r = mix(seed);
    unsigned key = (unsigned)(r & 0x7fff) + 1;
    line[0] = (r >> 20) & 1 ? 'g' : 's';
    line[1] = ' ';
    for (int i = 0; i < 4; i++) line[2 + i] = digits[(key >> (12 - 4 * i)) & 15];
    line[6] = ' ';
    for (int i = 0; i < 10; i++) line[7 + i] = (char)('a' + ((r >> (24 + 3 * i)) & 7));
    line[17] = 0;
}
static uint64_t fold(const void *at, size_t bytes) {
    const uint64_t *w = (const uint64_t *)at;
    uint64_t h = 1469598103934665603ull;
    for (size_t i = 0; i < bytes / 8; i++) h = (h ^ w[i]) * 1099511628211ull;
    return h;
}
static void kv(uint64_t units) {
    struct kv *kv = (struct kv *)tracked(sizeof *kv);
    char(*lines)[32] = (char(*)[32])malloc(32 * 4096);
    uint64_t seed = 88172645463325252ull, sum = 0;
    for (int i = 0; i < 4096; i++) make(lines[i], &seed);
    double t = now();
    for (uint64_t i = 0; i < units; i++) {
        CHECKPOINT();
        sum += request(kv, lines[(i * 7) & 4095]);
        COMMIT();
    }
    t = now() - t;
    result("kv", units, t, fold(kv, sizeof *kv) + sum);
}

static int server_end, client_end;
static void *client(void *count) {
    uint64_t units = *(uint64_t *)count, seed = 99;
    char line[32], answer[64];
    for (uint64_t i = 0; i < units; i++) {
        make(line, &seed);
        if (write(client_end, line, 18) != 18 || read(client_end, answer, sizeof answer) <= 0) break;
    }
    return NULL;
}
static void server(uint64_t units) {
    struct kv *kv = (struct kv *)tracked(sizeof *kv);
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) exit(6);
    server_end = ends[0];
    client_end = ends[1];
    /* Client and server take turns on one processor: between two, what an idle one takes to wake up would be
     * most of each request, and hide what a checkpoint costs. */
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
    /* A process, so that the server has one thread with every method. */
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        close(server_end);
        client(&units);
        _exit(0);
    }
    close(client_end);
    char *in = (char *)malloc(64), *out = (char *)malloc(64);
    uint64_t sum = 0;
    double t = now();
    for (uint64_t i = 0; i < units; i++) {
        CHECKPOINT();
        if (read(server_end, in, 18) != 18) exit(6);
        uint64_t r = request(kv, in);
        int n = snprintf(out, 64, "%llu\n", (unsigned long long)r);
        if (write(server_end, out, (size_t)n) != n) exit(6);
        sum += r;
        COMMIT();
    }
    t = now() - t;
    waitpid(child, NULL, 0);
    result("server", units, t, fold(kv, sizeof *kv) + sum);
}

#define N (1u << 20)
struct work {
    double a[N], b[N], c[N];
    uint32_t i[N], j[N];
    unsigned char text[N * 4];
};
typedef void kernel(struct work *w, uint64_t *seed);
static void k_fill(struct work *w, uint64_t *s) {
    double v = (double)(*s & 1023);
    for (unsigned i = 0; i < N; i++) w->a[i] = v + i;
}
static void k_triad(struct work *w, uint64_t *s) {
    double v = (double)(*s & 7);
    for (unsigned i = 0; i < N; i++) w->a[i] = w->b[i] + v * w->c[i];
}
static void k_stencil(struct work *w, uint64_t *s) {
    (void)s;
    double *a = w->a, *b = w->b;
    for (unsigned y = 1; y < 1023; y++)
        for (unsigned x = 1; x < 1023; x++)
            b[y * 1024 + x] = 0.2 * (a[y * 1024 + x] + a[y * 1024 + x - 1] + a[y * 1024 + x + 1] +
                                     a[(y - 1) * 1024 + x] + a[(y + 1) * 1024 + x]);
    for (unsigned i = 0; i < N; i++) a[i] = b[i];
}
static void k_matrix(struct work *w, uint64_t *s) {
    (void)s;
    double *a = w->a, *b = w->b, *c = w->c;
    for (unsigned y = 0; y < 160; y++)
        for (unsigned k = 0; k < 160; k++) {
            double v = a[y * 160 + k];
            for (unsigned x = 0; x < 160; x++) c[y * 160 + x] += v * b[k * 160 + x] * 1e-6;
        }
}
static void k_histogram(struct work *w, uint64_t *s) {
    uint64_t x = *s;
    for (unsigned n = 0; n < N; n++) {
        x = x * 6364136223846793005ull + 1442695040888963407ull;
        w->i[(x >> 40) & 4095]++;
    }
}
static void k_scatter(struct work *w, uint64_t *s) {
    uint64_t x = *s;
    for (unsigned n = 0; n < N / 4; n++) {
        x = x * 6364136223846793005ull + 1442695040888963407ull;
        w->a[x >> 44] = (double)n;
    }
}
static void k_sort(struct work *w, uint64_t *s) {
    unsigned n = 1 << 16, shift;
    for (unsigned k = 0; k < n; k++) w->i[k] = (uint32_t)mix(s);
    for (shift = 0; shift < 32; shift += 8) {
        unsigned count[257] = {0};
        uint32_t *from = shift & 8 ? w->j : w->i, *to = shift & 8 ? w->i : w->j;
        for (unsigned k = 0; k < n; k++) count[((from[k] >> shift) & 255) + 1]++;
        for (unsigned k = 0; k < 256; k++) count[k + 1] += count[k];
        for (unsigned k = 0; k < n; k++) to[count[(from[k] >> shift) & 255]++] = from[k];
    }
}
static void k_sieve(struct work *w, uint64_t *s) {
    (void)s;
    memset(w->text, 1, N);
    for (unsigned p = 2; p * p < N; p++)
        if (w->text[p])
            for (unsigned m = p * p; m < N; m += p) w->text[m] = 0;
}
static void k_compress(struct work *w, uint64_t *s) {
    /* Tokens of a toy LZ: short unpredictable copies. */
    uint64_t x = *s;
    unsigned at = 64;
    for (unsigned k = 0; k < 64; k++) w->text[k] = (unsigned char)(k * 7);
    while (at < N - 64) {
        x = x * 6364136223846793005ull + 1442695040888963407ull;
        unsigned length = 3 + (unsigned)(x >> 60), back = 1 + (unsigned)((x >> 40) & 63);
        if (back > at) back = at;
        for (unsigned k = 0; k < length; k++) w->text[at + k] = (unsigned char)(w->text[at + k - back] + 1);
        at += length;
    }
}
static const struct {
    const char *name;
    kernel *run;
    unsigned rounds;
} kernels[] = {{"fill", k_fill, 60},       {"triad", k_triad, 60},         {"stencil", k_stencil, 30},
               {"matrix", k_matrix, 30},   {"histogram", k_histogram, 40}, {"scatter", k_scatter, 40},
               {"radix", k_sort, 60},      {"sieve", k_sieve, 30},         {"copies", k_compress, 30}};

/* `per` sweeps to a checkpoint. */
static void run_kernel(const char *name, uint64_t per) {
    for (unsigned k = 0; k < sizeof kernels / sizeof *kernels; k++) {
        if (strcmp(kernels[k].name, name)) continue;
        struct work *w = (struct work *)tracked(sizeof *w);
        uint64_t seed = 12345;
        kernel *volatile run = kernels[k].run;
        /* What pages cost when first touched, the kernel's and those of the log or the copies, is nobody's. */
        CHECKPOINT();
        run(w, &seed);
        COMMIT();
        double t = now();
        for (unsigned r = 0; r < kernels[k].rounds; r += (unsigned)per) {
            CHECKPOINT();
            for (unsigned i = 0; i < per; i++) run(w, &seed);
            COMMIT();
        }
        t = now() - t;
        result(name, kernels[k].rounds, t, fold(w, sizeof *w));
        return;
    }
    exit(5);
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    uint64_t units = strtoull(argv[2], NULL, 10);
    if (!strcmp(argv[1], "empty")) timed(argv[1], empty, units);
    else if (!strcmp(argv[1], "empty, frame of 1 KiB")) timed(argv[1], empty_frame, units);
    else if (!strcmp(argv[1], "empty, closed form")) timed(argv[1], empty_closed, units);
    else if (!strcmp(argv[1], "kv")) kv(units);
    else if (!strcmp(argv[1], "server")) server(units);
    else if (units) run_kernel(argv[1], units);
    return 0;
}
