/* What the files of this folder share: processors that have AVX-512 VNNI, the threads of torch, and
 * products of thin matrices of floats.
 *
 * Compiled for any x86-64 processor; `lmt_available` (threads.c) says whether this one can run it.
 * A file includes this first, and has nothing of its own where LMT_NATIVE is not defined. */
#ifndef LMT_NATIVE_H
#define LMT_NATIVE_H

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__linux__)
#define LMT_NATIVE
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Calls part(data, i) for each i below `parts`, by the threads of torch. Which part is whose is the
 * caller's affair, so nothing depends on who takes it. */
void lmt_run(void (*part)(const void *, int), const void *data, int parts);

/* Memory of this thread's own, kept from call to call: fresh pages cost more than a tile does. Of
 * whole cache lines; what was there before is gone. */
void *lmt_scratch(size_t size);

/* Whether products in 8 bits go through AMX tiles (products.c). */
extern int lmt_with_tiles;
int lmt_has_tiles(void);

#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx512vnni,fma")
#include <immintrin.h>

enum { GROUP = 12, PANEL = 32, LANES = 16 };
#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline, unused))
#define UNROLLED _Pragma("GCC unroll 24")

/* out (GROUP, PANEL) = x (GROUP, k) by a panel of y (k, width): x[i * row + j * step] is that of row
 * i and column j, the row of `x` being `row` floats apart. A function of its own: inlined, the
 * compiler finds no registers for sums. */
NOINLINE void lmt_panel(const float *x, int64_t row, int64_t step, int64_t k, const float *y,
                        int64_t width, float *out)
{
    __m512 sums[2 * GROUP];
    UNROLLED
    for (int i = 0; i < 2 * GROUP; i++)
        sums[i] = _mm512_setzero_ps();
    const float *a = x, *b = a + 3 * row, *c = b + 3 * row, *d = c + 3 * row;
#define MORE(i, at)                                                                                \
    value = _mm512_set1_ps(*(at));                                                                 \
    sums[2 * (i)] = _mm512_fmadd_ps(value, left, sums[2 * (i)]);                                   \
    sums[2 * (i) + 1] = _mm512_fmadd_ps(value, right, sums[2 * (i) + 1])
    for (int64_t j = 0; j < k; j++, a += step, b += step, c += step, d += step, y += width) {
        __m512 left = _mm512_loadu_ps(y), right = _mm512_loadu_ps(y + LANES), value;
        MORE(0, a); MORE(1, a + row); MORE(2, a + 2 * row);
        MORE(3, b); MORE(4, b + row); MORE(5, b + 2 * row);
        MORE(6, c); MORE(7, c + row); MORE(8, c + 2 * row);
        MORE(9, d); MORE(10, d + row); MORE(11, d + 2 * row);
    }
#undef MORE
    UNROLLED
    for (int i = 0; i < 2 * GROUP; i++)
        _mm512_storeu_ps(out + i * LANES, sums[i]);
}

/* e^x to about one unit in the last place (Cephes' polynomial), 0 from -88 down. */
INLINE __m512 lmt_exp(__m512 x)
{
    /* Of a NaN both give what keeps it one. */
    __mmask16 not_zero = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-88), _CMP_NLE_UQ);
    x = _mm512_min_ps(_mm512_set1_ps(88.7f), x);
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896341f)), 0);
    x = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    x = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), x);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(x, x), x), _mm512_set1_ps(1));
    return _mm512_maskz_scalef_ps(not_zero, p, n);
}

#endif
#endif
