/* Holds known values in vector registers, and says which: `expect EXPRESSION VALUE` for GDB. */
#include "common.h"

int main(void) {
    __builtin_cpu_init();
    static const uint32_t word = 0x13572468;
    printf("expect p/x $xmm9.v4_int32[3] 0x%x\nexpect p/x $mxcsr 0x5f80\nexpect p/x $fctrl 0x27f\n", word);
    int wide = __builtin_cpu_supports("avx2"), widest = __builtin_cpu_supports("avx512f");
    if (wide) printf("expect p/x $ymm9.v8_int32[7] 0x%x\n", word);
    if (widest) printf("expect p/x $k3 0xbeef\nexpect p/x $zmm20.v16_int32[15] 0x%x\n", word);
    ready();
    uint32_t mxcsr = 0x5f80; /* rounding towards +infinity */
    uint16_t control = 0x27f; /* double precision */
    __asm__ volatile("ldmxcsr %0\n fldcw %1\n" : : "m"(mxcsr), "m"(control));
    __asm__ volatile("movd %0, %%xmm9\n pshufd $0, %%xmm9, %%xmm9\n" : : "r"(word) : "xmm9");
    if (wide) __asm__ volatile("vinserti128 $1, %%xmm9, %%ymm9, %%ymm9" : : : "xmm9");
    if (widest) __asm__ volatile("kmovw %0, %%k3\n vpbroadcastd %1, %%zmm20" : : "r"(0xbeef), "r"(word));
    __asm__ volatile("1: jmp 1b");
    return 0;
}
