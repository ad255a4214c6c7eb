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
#define RUN 16     /* rows that are sorted at once, in registers */

#define EACH(row) row(0) row(1) row(2) row(3) row(4) row(5) row(6) row(7) row(8) row(9) row(10) row(11) row(12) row(13) row(14) row(15)
/* Of Batcher's 63 comparisons three can be spared (Green, 1969). */
#define SORT(order)                                                                                                                \
    order(0, 13) order(1, 12) order(2, 15) order(3, 14) order(4, 8) order(5, 6) order(7, 11) order(9, 10)                          \
    order(0, 5) order(1, 7) order(2, 9) order(3, 4) order(6, 13) order(8, 14) order(10, 15) order(11, 12)                          \
    order(0, 1) order(2, 3) order(4, 5) order(6, 8) order(7, 9) order(10, 11) order(12, 13) order(14, 15)                          \
    order(0, 2) order(1, 3) order(4, 10) order(5, 11) order(6, 7) order(8, 9) order(12, 14) order(13, 15)                          \
    order(1, 2) order(3, 12) order(4, 6) order(5, 7) order(8, 10) order(9, 11) order(13, 14)                                       \
    order(1, 4) order(2, 6) order(5, 8) order(7, 10) order(9, 13) order(11, 14)                                                    \
    order(2, 4) order(3, 6) order(9, 12) order(11, 13)                                                                             \
    order(3, 5) order(6, 8) order(7, 9) order(10, 12)                                                                              \
    order(3, 4) order(5, 6) order(7, 8) order(9, 10) order(11, 12)                                                                 \
    order(6, 7) order(8, 9)

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

void edgefl_trimmed(const float *rows, long stride, long sources, long width, const float *weights, long count, long runs,
                    const struct step *steps, long length, long trim, float *out)
{
    LOOK();
#ifdef HAS_AVX512
    if (HAS_AVX512) {
        trimmed_avx512(rows, stride, sources, width, weights, count, runs, steps, length, trim, out);
        return;
    }
#endif
#ifdef HAS_AVX2
    if (HAS_AVX2) {
        trimmed_avx2(rows, stride, sources, width, weights, count, runs, steps, length, trim, out);
        return;
    }
#endif
    trimmed_any(rows, stride, sources, width, weights, count, runs, steps, length, trim, out);
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
