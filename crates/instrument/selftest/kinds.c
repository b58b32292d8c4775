/* Every kind of store in C. */
#define _GNU_SOURCE
#include "kinds.h"
#include <stdarg.h>
#include <setjmp.h>
#include <unistd.h>
#include <fcntl.h>
#include <time.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <immintrin.h>

struct big { long a[10]; };
__attribute__((noinline)) static struct big make_big(long n) { struct big b; for (int i = 0; i < 10; i++) b.a[i] = n + i; return b; }
struct mid { long a, b, c; };
__attribute__((noinline)) static struct mid make_mid(long n) { struct mid m = {n, n + 1, n + 2}; return m; }
static volatile size_t some = 77;
static int by_byte(const void *a, const void *b) { return *(const unsigned char *)a - *(const unsigned char *)b; }
static int named; static long named_array[100]; static _Thread_local int in_thread; int exported_name; static struct { char c; long l; } named_struct; static char named_text[64];
static int *volatile outer_int;
__attribute__((noinline)) static void through(int *at) { *at = *at + 5; }
struct node { struct node *next; long value; };
__attribute__((noinline)) static void vsnprintf_like(char *to, int n, ...) { va_list v; va_start(v, n); for (int i = 0; i < n; i++) to[i] = (char)va_arg(v, int); va_end(v); }

K(store_char, *(char *)p = (char)(p[0] + 41);)
K(store_short, *(short *)p = (short)(p[0] + 41);)
K(store_int, *(int *)p = (int)(p[0] + 41);)
K(store_long, *(long *)p = (long)(p[0] + 41);)
K(store_float, *(float *)p = (float)(p[0] + 41);)
K(store_double, *(double *)p = (double)(p[0] + 41);)
K(store_long_double, *(long double *)p = (long double)(p[0] + 41);)
K(store_int128, *(__int128 *)p = (__int128)(p[0] + 41);)
K(store_pointer, *(void * *)p = (void *)p;)
K(store_bool, *(_Bool *)p = p[0] == 99;)
K(volatile_int, *(volatile int *)p = 5;)
K(unaligned_int, { struct __attribute__((packed)) u { int v; }; ((struct u *)(p + 61))->v = 77; })
K(unaligned_long, { struct __attribute__((packed)) u { long v; }; ((struct u *)(p + 59))->v = 77; })
K(rmw_add, *(int *)p += 3;)
K(rmw_sub, *(int *)p -= 3;)
K(rmw_xor, *(int *)p ^= 3;)
K(rmw_or, *(int *)p |= ~*(int *)p & 0xff00ff;)
K(rmw_and, *(int *)p &= 3;)
K(rmw_shl, *(int *)p <<= 3;)
K(rmw_mul, *(int *)p *= 3;)
K(increment, ++*(long *)p;)
K(decrement_byte, --*p;)
K(negate, *(int *)p = -*(int *)p;)
K(bitfield, { struct b { unsigned a : 3, b : 7, c : 22; }; ((struct b *)p)->b = 93; })
K(bitfield_wide, { struct b { unsigned long a : 33, b : 31; }; ((struct b *)p)->a = 12345; })
K(struct_copy_3, { struct s { char c[3]; }; *(struct s *)p = *(struct s *)(p + 2048); })
K(struct_copy_8, { struct s { char c[8]; }; *(struct s *)p = *(struct s *)(p + 2048); })
K(struct_copy_16, { struct s { char c[16]; }; *(struct s *)p = *(struct s *)(p + 2048); })
K(struct_copy_24, { struct s { char c[24]; }; *(struct s *)p = *(struct s *)(p + 2048); })
K(struct_copy_48, { struct s { char c[48]; }; *(struct s *)p = *(struct s *)(p + 2048); })
K(struct_copy_64, { struct s { char c[64]; }; *(struct s *)p = *(struct s *)(p + 2048); })
K(struct_copy_100, { struct s { char c[100]; }; *(struct s *)p = *(struct s *)(p + 2048); })
K(struct_copy_128, { struct s { char c[128]; }; *(struct s *)p = *(struct s *)(p + 2048); })
K(struct_copy_256, { struct s { char c[256]; }; *(struct s *)p = *(struct s *)(p + 2048); })
K(struct_copy_1000, { struct s { char c[1000]; }; *(struct s *)p = *(struct s *)(p + 2048); })
K(struct_literal, { struct s { int a, b, c; double d; }; *(struct s *)p = (struct s){1, 2, 3, 4.0}; })
K(struct_zero, { struct s { long a[12]; }; *(struct s *)p = (struct s){0}; })
K(return_by_memory, *(struct big *)p = make_big(p[3]);)
K(return_by_memory_small, *(struct mid *)p = make_mid(p[3]);)
K(memset_8, memset(p, 1, 8);)
K(memset_64, memset(p, 1, 64);)
K(memset_1000, memset(p, 1, 1000);)
K(memcpy_7, memcpy(p, p + 2000, 7);)
K(memcpy_16, memcpy(p, p + 2000, 16);)
K(memcpy_200, memcpy(p, p + 2000, 200);)
K(memmove_100, memmove(p, p + 10, 100);)
K(memset_n, memset(p, 2, some);)
K(memcpy_n, memcpy(p, p + 2000, some);)
K(memmove_n, memmove(p + 5, p, some);)
K(builtin_memcpy, __builtin_memcpy(p, p + 2000, 32);)
K(builtin_memset, __builtin_memset(p, 9, 40);)
K(strcpy, strcpy((char *)p, "some text");)
K(strncpy, strncpy((char *)p, "text", 30);)
K(strcat, p[0] = 0; strcat((char *)p, "tail");)
K(sprintf, sprintf((char *)p, "%d %s", 42, "x");)
K(snprintf, snprintf((char *)p, 40, "%ld", 123456789L);)
K(sscanf, sscanf("17 abc", "%d %20s", (int *)p, (char *)p + 100);)
K(strtol_end, strtol("12x", (char **)p, 10);)
K(qsort, qsort(p, 200, 1, by_byte);)
K(read, { FILE *f = fopen("/proc/self/exe", "r"); if (fread(p, 1, 100, f) != 100) p[0]++; fclose(f); })
K(read_call, { int fd[2]; if (pipe(fd) == 0) { if (write(fd[1], "hello", 5) == 5 && read(fd[0], p, 5) != 5) p[0]++; close(fd[0]); close(fd[1]); } })
K(readv, { int fd[2]; if (pipe(fd) == 0) { struct iovec v[2] = {{p, 2}, {p + 300, 3}}; if (write(fd[1], "hello", 5) == 5 && readv(fd[0], v, 2) != 5) p[0]++; close(fd[0]); close(fd[1]); } })
K(recv, { int fd[2]; if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0) { if (send(fd[1], "hello", 5, 0) == 5 && recv(fd[0], p, 5, 0) != 5) p[0]++; close(fd[0]); close(fd[1]); } })
K(recvmsg, { int fd[2]; if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0) { struct iovec v = {p, 5}; struct msghdr m = {0}; m.msg_iov = &v; m.msg_iovlen = 1; if (send(fd[1], "hello", 5, 0) == 5 && recvmsg(fd[0], &m, 0) != 5) p[0]++; close(fd[0]); close(fd[1]); } })
K(getrandom, if (getrandom(p, 64, 0) != 64) p[0]++;)
K(clock_gettime, clock_gettime(CLOCK_MONOTONIC, (struct timespec *)p);)
K(fstat, fstat(1, (struct stat *)p);)
K(global_int, named = 12;)
K(global_rmw, named += 12;)
K(global_array, named_array[p[5] % 100] = 7;)
K(global_loop, for (int i = 0; i < 100; i++) named_array[i] = i * 3 + p[i];)
K(global_struct, named_struct.l = 8; named_struct.c = 1;)
K(global_exported, exported_name = 4;)
K(thread_local, in_thread = 33;)
K(global_text, strcpy(named_text, "abc");)
K(static_local, { static int counter = 5; static int *first; if (!first) { first = &counter; } counter += 2; *(int *)p = counter; })
K(callers_local, { int here = p[0]; through(&here); *(int *)p = here; })
K(loop_bytes, for (int i = 0; i < 300; i++) p[i] = (unsigned char)(i + 1);)
K(loop_backwards, for (int i = 299; i >= 0; i--) p[i] = (unsigned char)(i + 2);)
K(loop_stride, for (int i = 0; i < 300; i += 7) p[i]++;)
K(loop_wide_stride, for (int i = 0; i < 30; i++) p[i * 200]++;)
K(loop_double, { double *d = (double *)p; for (int i = 0; i < 100; i++) d[i] = d[i] * 0.5 + 1; })
K(loop_nested, { int *m = (int *)p; for (int i = 0; i < 20; i++) for (int j = 0; j < 20; j++) m[i * 25 + j] = i * j + 1; })
K(loop_unknown, { unsigned char *q = p; size_t n = some; while (n--) *q++ = 5; })
K(loop_conditional, for (int i = 0; i < 300; i++) if (p[i] & 1) p[i] = 2;)
K(loop_scattered, { int *m = (int *)p; unsigned x = 7; for (int i = 0; i < 100; i++) { x = x * 1103515245u + 12345u; m[x >> 22] = i; } })
K(loop_with_call, for (int i = 0; i < 20; i++) { through((int *)p + i * 3); ((int *)p)[i] += 1; })
K(linked_list, { struct node *n = (struct node *)p; for (int i = 0; i < 20; i++) { n[i].value = i; n[i].next = &n[i + 1]; } })
K(heap_block, { int *q = malloc(64); q[0] = 7; *(int *)p = q[0] + 1; free(q); })
K(heap_realloc, { char *q = malloc(10); strcpy(q, "abc"); q = realloc(q, 1000); q[999] = 1; *(int *)p = q[0] + q[999]; free(q); })
K(heap_calloc, { int *q = calloc(50, 4); q[49] = 3; *(int *)p = q[48] + q[49] + 1; free(q); })
K(va_list_heap, { va_list *v = (va_list *)p; (void)v; vsnprintf_like((char *)p, 3, 1, 2, 3); })
K(atomic_store_8, __atomic_store_n((char *)p, 9, __ATOMIC_SEQ_CST);)
K(atomic_add_8, __atomic_fetch_add((char *)p, 9, __ATOMIC_SEQ_CST);)
K(atomic_store_16, __atomic_store_n((short *)p, 9, __ATOMIC_SEQ_CST);)
K(atomic_add_16, __atomic_fetch_add((short *)p, 9, __ATOMIC_SEQ_CST);)
K(atomic_store_32, __atomic_store_n((int *)p, 9, __ATOMIC_SEQ_CST);)
K(atomic_add_32, __atomic_fetch_add((int *)p, 9, __ATOMIC_SEQ_CST);)
K(atomic_store_64, __atomic_store_n((long *)p, 9, __ATOMIC_SEQ_CST);)
K(atomic_add_64, __atomic_fetch_add((long *)p, 9, __ATOMIC_SEQ_CST);)
K(atomic_exchange, __atomic_exchange_n((int *)p, 9, __ATOMIC_ACQ_REL);)
K(atomic_or, __atomic_fetch_or((int *)p, ~*(int *)p & 0xff00ff, __ATOMIC_RELAXED);)
K(atomic_nand, __atomic_fetch_nand((int *)p, 3, __ATOMIC_RELAXED);)
K(atomic_cas, { int e = *(int *)p; __atomic_compare_exchange_n((int *)p, &e, 77, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); })
K(atomic_cas_expected, __atomic_compare_exchange_n((int *)p, (int *)(p + 256), 77, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);)
K(sync_add, __sync_fetch_and_add((long *)p, 3);)
K(asm_output, __asm__("movl $123, %0" : "=m"(*(int *)p));)
K(asm_inout, __asm__("addl $3, %0" : "+m"(*(int *)p) : : "cc");)
K(asm_pointer_hidden, __asm__ volatile("movl $124, (%0)" : : "r"(p) : "memory");)
K(asm_rep_stos, { unsigned char *d = p; size_t n = 50; __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(6) : "memory"); })
K(sse_store, _mm_storeu_ps((float *)(p + 4), _mm_set1_ps(3.0f));)
K(sse_stream, _mm_stream_si128((__m128i *)p, _mm_set1_epi8(5));)
K(sse_stream_int, _mm_stream_si32((int *)p, 99);)
K(sse_store_low, _mm_store_sd((double *)p, _mm_set1_pd(2.0));)
K(sse_maskmove, _mm_maskmoveu_si128(_mm_set1_epi8(5), _mm_set_epi8(-1,0,-1,0,-1,0,-1,0,-1,0,-1,0,-1,0,-1,0), (char *)p);)
K(sse_stmxcsr, *(unsigned *)p = 0; *(unsigned *)p = _mm_getcsr() + 1;)
__attribute__((target("avx")))
K(avx_store, _mm256_storeu_pd((double *)(p + 8), _mm256_set1_pd(1.5));)
__attribute__((target("avx")))
K(avx_stream, _mm256_stream_pd((double *)p, _mm256_set1_pd(1.5));)
__attribute__((target("avx")))
K(avx_maskstore, _mm256_maskstore_ps((float *)p, _mm256_set_epi32(-1,0,-1,0,-1,0,-1,0), _mm256_set1_ps(2));)
__attribute__((target("avx2")))
K(avx2_maskstore, _mm256_maskstore_epi32((int *)p, _mm256_set_epi32(-1,-1,0,0,-1,-1,0,0), _mm256_set1_epi32(8));)
__attribute__((target("avx512f")))
K(avx512_store, _mm512_storeu_si512(p, _mm512_set1_epi32(6));)
__attribute__((target("avx512f")))
K(avx512_mask, _mm512_mask_storeu_epi32(p, 0x5555, _mm512_set1_epi32(6));)
__attribute__((target("avx512f")))
K(avx512_scatter, _mm512_i32scatter_epi32(p, _mm512_set_epi32(15,14,13,12,11,10,9,8,7,6,5,4,3,2,1,0), _mm512_set1_epi32(6), 8);)
__attribute__((target("avx512f")))
K(avx512_compress, _mm512_mask_compressstoreu_epi32(p, 0x1111, _mm512_set1_epi32(6));)
K(vector_type, { typedef int v8 __attribute__((vector_size(32), aligned(4))); *(v8 *)p = (v8){1, 2, 3, 4, 5, 6, 7, 8}; })
K(complex, *(double _Complex *)p = 1.0 + 2.0i;)
K(x87_store, *(long double *)(p + 16) = (long double)p[0] / 3;)
K(setjmp_buffer, { if (__builtin_expect(_setjmp((struct __jmp_buf_tag *)p), 0)) p[0]++; p[511]++; })
K(vla, { int n = (int)some; int v[n]; for (int i = 0; i < n; i++) v[i] = i; *(int *)p = v[n - 1] + v[3]; })
K(function_pointer, *(void (**)(int *))p = through;)
K(union, { union u { long l; char c[8]; }; ((union u *)p)->c[3] = 9; })
K(swap, { long a = *(long *)p, b = *(long *)(p + 128); *(long *)p = b; *(long *)(p + 128) = a; })

int main(void) {
    begin();
    watch(&named, sizeof named);
    watch(named_array, sizeof named_array);
    watch(&in_thread, sizeof in_thread);
    watch(&exported_name, sizeof exported_name);
    watch(&named_struct, sizeof named_struct);
    watch(named_text, sizeof named_text);
    RUN(store_char);
    RUN(store_short);
    RUN(store_int);
    RUN(store_long);
    RUN(store_float);
    RUN(store_double);
    RUN(store_long_double);
    RUN(store_int128);
    RUN(store_pointer);
    RUN(store_bool);
    RUN(volatile_int);
    RUN(unaligned_int);
    RUN(unaligned_long);
    RUN(rmw_add);
    RUN(rmw_sub);
    RUN(rmw_xor);
    RUN(rmw_or);
    RUN(rmw_and);
    RUN(rmw_shl);
    RUN(rmw_mul);
    RUN(increment);
    RUN(decrement_byte);
    RUN(negate);
    RUN(bitfield);
    RUN(bitfield_wide);
    RUN(struct_copy_3);
    RUN(struct_copy_8);
    RUN(struct_copy_16);
    RUN(struct_copy_24);
    RUN(struct_copy_48);
    RUN(struct_copy_64);
    RUN(struct_copy_100);
    RUN(struct_copy_128);
    RUN(struct_copy_256);
    RUN(struct_copy_1000);
    RUN(struct_literal);
    RUN(struct_zero);
    RUN(return_by_memory);
    RUN(return_by_memory_small);
    RUN(memset_8);
    RUN(memset_64);
    RUN(memset_1000);
    RUN(memcpy_7);
    RUN(memcpy_16);
    RUN(memcpy_200);
    RUN(memmove_100);
    RUN(memset_n);
    RUN(memcpy_n);
    RUN(memmove_n);
    RUN(builtin_memcpy);
    RUN(builtin_memset);
    RUN(strcpy);
    RUN(strncpy);
    RUN(strcat);
    RUN(sprintf);
    RUN(snprintf);
    RUN(sscanf);
    RUN(strtol_end);
    RUN(qsort);
    RUN(read);
    RUN(read_call);
    RUN(readv);
    RUN(recv);
    RUN(recvmsg);
    RUN(getrandom);
    RUN(clock_gettime);
    RUN(fstat);
    RUN(global_int);
    RUN(global_rmw);
    RUN(global_array);
    RUN(global_loop);
    RUN(global_struct);
    RUN(global_exported);
    RUN(thread_local);
    RUN(global_text);
    RUN(static_local);
    RUN(callers_local);
    RUN(loop_bytes);
    RUN(loop_backwards);
    RUN(loop_stride);
    RUN(loop_wide_stride);
    RUN(loop_double);
    RUN(loop_nested);
    RUN(loop_unknown);
    RUN(loop_conditional);
    RUN(loop_scattered);
    RUN(loop_with_call);
    RUN(linked_list);
    RUN(heap_block);
    RUN(heap_realloc);
    RUN(heap_calloc);
    RUN(va_list_heap);
    RUN(atomic_store_8);
    RUN(atomic_add_8);
    RUN(atomic_store_16);
    RUN(atomic_add_16);
    RUN(atomic_store_32);
    RUN(atomic_add_32);
    RUN(atomic_store_64);
    RUN(atomic_add_64);
    RUN(atomic_exchange);
    RUN(atomic_or);
    RUN(atomic_nand);
    RUN(atomic_cas);
    RUN(atomic_cas_expected);
    RUN(sync_add);
    RUN(asm_output);
    RUN(asm_inout);
    RUN(asm_pointer_hidden);
    RUN(asm_rep_stos);
    RUN(sse_store);
    RUN(sse_stream);
    RUN(sse_stream_int);
    RUN(sse_store_low);
    RUN(sse_maskmove);
    RUN(sse_stmxcsr);
    if (__builtin_cpu_supports("avx")) RUN(avx_store);
    if (__builtin_cpu_supports("avx")) RUN(avx_stream);
    if (__builtin_cpu_supports("avx")) RUN(avx_maskstore);
    if (__builtin_cpu_supports("avx2")) RUN(avx2_maskstore);
    if (__builtin_cpu_supports("avx512f")) RUN(avx512_store);
    if (__builtin_cpu_supports("avx512f")) RUN(avx512_mask);
    if (__builtin_cpu_supports("avx512f")) RUN(avx512_scatter);
    if (__builtin_cpu_supports("avx512f")) RUN(avx512_compress);
    RUN(vector_type);
    RUN(complex);
    RUN(x87_store);
    RUN(setjmp_buffer);
    RUN(vla);
    RUN(function_pointer);
    RUN(union);
    RUN(swap);
    return 0;
}
