/* What NumPy does one comparison or one block at a time, without leaving the first-level cache or the registers.
 *
 * Plain C for GCC, which makes vector instructions of the inner loops; one function for each instruction set, chosen when called.
 * Nothing of the C library is used, so that the file runs on any Linux of its architecture. kernels.py says what goes in and comes
 * out; `rows` are `count` rows of `width` values, `stride` apart. */

#include <stdint.h>

#define LOW 1 /* of a comparison of a and b, keep the smaller at a */
#define HIGH 2 /* keep the larger at b */
#define BOTH 3
#define CROSSING 4 /* compare a with c and b with d, then b with c */
#define LINE 16    /* floats in a line of the cache */
#define BLOCK 64   /* columns that go through the network at once: much work for each step, and 100 rows fit the first-level cache */
#define PANEL 1024 /* columns of a panel of products: five rows fit the first-level cache, 400 the second */

struct step {
    uint16_t kind, a, b, c, d;
};

#define JOINED(name, level) name##_##level
#define FOR_LEVEL(name, level) JOINED(name, level)
#define NAME(name) FOR_LEVEL(name, LEVEL)

#if defined(__x86_64__) && !defined(WITHOUT_AVX512)
#define HAS_AVX512                                                                                                                 \
    (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&              \
     __builtin_cpu_supports("avx512dq"))
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,prefer-vector-width=512")
#define LEVEL avx512
#define LANES 16
#define TILE 5
#include "kernels.h"
#undef LEVEL
#undef LANES
#undef TILE
#pragma GCC pop_options
#endif

#if defined(__x86_64__) && !defined(WITHOUT_AVX2)
#define HAS_AVX2 (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define LEVEL avx2
#define LANES 8
#define TILE 3
#include "kernels.h"
#undef LEVEL
#undef LANES
#undef TILE
#pragma GCC pop_options
#endif

#define LEVEL any
#define LANES 4
#define TILE 3
#include "kernels.h"

#ifdef __x86_64__
#define LOOK() __builtin_cpu_init()
#else
#define LOOK() (void)0
#endif

void edgefl_trimmed(const float *rows, long stride, long count, long width, const struct step *steps, long length, long trim,
                    float *out)
{
    LOOK();
#ifdef HAS_AVX512
    if (HAS_AVX512) {
        trimmed_avx512(rows, stride, count, width, steps, length, trim, out);
        return;
    }
#endif
#ifdef HAS_AVX2
    if (HAS_AVX2) {
        trimmed_avx2(rows, stride, count, width, steps, length, trim, out);
        return;
    }
#endif
    trimmed_any(rows, stride, count, width, steps, length, trim, out);
}

void edgefl_products(const float *rows, long stride, long count, long width, double *out)
{
    LOOK();
#ifdef HAS_AVX512
    if (HAS_AVX512) {
        products_avx512(rows, stride, count, width, out);
        return;
    }
#endif
#ifdef HAS_AVX2
    if (HAS_AVX2) {
        products_avx2(rows, stride, count, width, out);
        return;
    }
#endif
    products_any(rows, stride, count, width, out);
}

void edgefl_weighted(const float *rows, long stride, long count, long width, const float *weights, float *out)
{
    LOOK();
#ifdef HAS_AVX512
    if (HAS_AVX512) {
        weighted_avx512(rows, stride, count, width, weights, out);
        return;
    }
#endif
#ifdef HAS_AVX2
    if (HAS_AVX2) {
        weighted_avx2(rows, stride, count, width, weights, out);
        return;
    }
#endif
    weighted_any(rows, stride, count, width, weights, out);
}
