/* Sixteen floats side by side, and what softmax needs of them. Every
 * operation gives the same bits on all paths: products are fused with sums where it says fma, and
 * sums and maxima over the lanes follow one tree. */
#ifndef LM_LANES_H
#define LM_LANES_H

#include <math.h>

#include "maths.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define LM_BELOW (-125.0f) /* exponents of two below this count as no weight at all */

#if defined(__AVX512F__)

typedef __m512 lanes;

static inline lanes load(const float *x)
{
    return _mm512_loadu_ps(x);
}
static inline void put(float *x, lanes a)
{
    _mm512_storeu_ps(x, a);
}
static inline lanes all(float x)
{
    return _mm512_set1_ps(x);
}
static inline lanes add(lanes a, lanes b)
{
    return _mm512_add_ps(a, b);
}
static inline lanes sub(lanes a, lanes b)
{
    return _mm512_sub_ps(a, b);
}
static inline lanes mul(lanes a, lanes b)
{
    return _mm512_mul_ps(a, b);
}
static inline lanes fma16(lanes a, lanes b, lanes c)
{
    return _mm512_fmadd_ps(a, b, c);
}
static inline lanes larger(lanes a, lanes b) /* b where one is NaN */
{
    return _mm512_max_ps(a, b);
}
static inline lanes smaller(lanes a, lanes b) /* b where one is NaN */
{
    return _mm512_min_ps(a, b);
}
static inline lanes whole(lanes x) /* to the nearest integer, ties to even */
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* p times two to the power of n; 0 where x is too low. */
static inline lanes times_two_to(lanes p, lanes n, lanes x)
{
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, all(LM_BELOW), _CMP_NLT_UQ), p, n);
}
/* a * b, and 0 where a is 0, whatever b is. */
static inline lanes mul_unless_0(lanes a, lanes b)
{
    return _mm512_maskz_mul_ps(_mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_NEQ_UQ), a, b);
}
static inline int any_above(lanes a, lanes b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0;
}
static inline __m256 upper_half(lanes a)
{
    return _mm512_extractf32x8_ps(a, 1);
}
static inline __m256 lower_half(lanes a)
{
    return _mm512_castps512_ps256(a);
}
/* To the nearest integers, ties to even, as long as they fit. */
static inline void put_codes(int8_t *codes, lanes a)
{
    _mm_storeu_si128((__m128i *)codes, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
}

static inline lanes load_bfloat16(const uint16_t *x)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)x));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

#elif defined(__AVX2__)

typedef struct {
    __m256 low, high;
} lanes;

static inline lanes load(const float *x)
{
    return (lanes){_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8)};
}
static inline void put(float *x, lanes a)
{
    _mm256_storeu_ps(x, a.low);
    _mm256_storeu_ps(x + 8, a.high);
}
static inline lanes all(float x)
{
    return (lanes){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
static inline lanes add(lanes a, lanes b)
{
    return (lanes){_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
static inline lanes sub(lanes a, lanes b)
{
    return (lanes){_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
static inline lanes mul(lanes a, lanes b)
{
    return (lanes){_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
static inline lanes fma16(lanes a, lanes b, lanes c)
{
    return (lanes){_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
static inline lanes larger(lanes a, lanes b)
{
    return (lanes){_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
static inline lanes smaller(lanes a, lanes b)
{
    return (lanes){_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}
static inline lanes whole(lanes x)
{
    return (lanes){_mm256_round_ps(x.low, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                   _mm256_round_ps(x.high, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
static inline __m256 times_two_to_8(__m256 p, __m256 n, __m256 x)
{
    __m256i shifted = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    __m256 made = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), shifted));
    return _mm256_and_ps(made, _mm256_cmp_ps(x, _mm256_set1_ps(LM_BELOW), _CMP_NLT_UQ));
}
static inline lanes times_two_to(lanes p, lanes n, lanes x)
{
    return (lanes){times_two_to_8(p.low, n.low, x.low), times_two_to_8(p.high, n.high, x.high)};
}
static inline __m256 mul_unless_0_8(__m256 a, __m256 b)
{
    __m256 some = _mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_NEQ_UQ);
    return _mm256_and_ps(_mm256_mul_ps(a, b), some);
}
static inline lanes mul_unless_0(lanes a, lanes b)
{
    return (lanes){mul_unless_0_8(a.low, b.low), mul_unless_0_8(a.high, b.high)};
}
static inline int any_above(lanes a, lanes b)
{
    __m256 low = _mm256_cmp_ps(a.low, b.low, _CMP_GT_OQ);
    return _mm256_movemask_ps(_mm256_or_ps(low, _mm256_cmp_ps(a.high, b.high, _CMP_GT_OQ))) != 0;
}
static inline __m256 upper_half(lanes a)
{
    return a.high;
}
static inline __m256 lower_half(lanes a)
{
    return a.low;
}
static inline void put_codes(int8_t *codes, lanes a)
{
    __m256i low = _mm256_cvtps_epi32(a.low), high = _mm256_cvtps_epi32(a.high);
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
    __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words),
                                    _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *)codes, bytes);
}
static inline __m256 load_bfloat16_8(const uint16_t *x)
{
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)x));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
static inline lanes load_bfloat16(const uint16_t *x)
{
    return (lanes){load_bfloat16_8(x), load_bfloat16_8(x + 8)};
}

#else

typedef struct {
    float x[16];
} lanes;

#define LM_EACH(expression)                                                                       \
    lanes made;                                                                                   \
    for (int i = 0; i < 16; i++)                                                                  \
        made.x[i] = (expression);                                                                 \
    return made

static inline lanes load(const float *x)
{
    LM_EACH(x[i]);
}
static inline void put(float *x, lanes a)
{
    memcpy(x, a.x, sizeof a.x);
}
static inline lanes all(float x)
{
    LM_EACH(x);
}
static inline lanes add(lanes a, lanes b)
{
    LM_EACH(a.x[i] + b.x[i]);
}
static inline lanes sub(lanes a, lanes b)
{
    LM_EACH(a.x[i] - b.x[i]);
}
static inline lanes mul(lanes a, lanes b)
{
    LM_EACH(a.x[i] * b.x[i]);
}
static inline lanes fma16(lanes a, lanes b, lanes c)
{
    LM_EACH(lm_fma(a.x[i], b.x[i], c.x[i]));
}
static inline lanes larger(lanes a, lanes b)
{
    LM_EACH(a.x[i] > b.x[i] ? a.x[i] : b.x[i]);
}
static inline lanes smaller(lanes a, lanes b)
{
    LM_EACH(a.x[i] < b.x[i] ? a.x[i] : b.x[i]);
}
static inline lanes whole(lanes x)
{
    LM_EACH(lm_round(x.x[i]));
}
static inline lanes times_two_to(lanes p, lanes n, lanes x)
{
    LM_EACH(x.x[i] < LM_BELOW ? 0.0f
                              : lm_float((int32_t)((uint32_t)lm_bits(p.x[i])
                                                   + ((uint32_t)lm_bits(n.x[i] + 12582912.0f)
                                                      << 23))));
}
static inline lanes mul_unless_0(lanes a, lanes b)
{
    LM_EACH(a.x[i] == 0.0f ? 0.0f : a.x[i] * b.x[i]);
}
static inline int any_above(lanes a, lanes b)
{
    int any = 0;
    for (int i = 0; i < 16; i++)
        any |= a.x[i] > b.x[i];
    return any;
}
/* To the nearest, ties to even, as long as |a| < 2^22. */
static inline void put_codes(int8_t *codes, lanes a)
{
    for (int i = 0; i < 16; i++)
        codes[i] = (int8_t)(lm_bits(a.x[i] + 12582912.0f) - 0x4b400000);
}
static inline lanes load_bfloat16(const uint16_t *x)
{
    LM_EACH(lm_float((int32_t)((uint32_t)x[i] << 16)));
}

#endif

/* The lanes' maximum and sum, halves upon halves. */
#if defined(__AVX2__)
static inline float maximum(lanes a)
{
    __m256 half = _mm256_max_ps(lower_half(a), upper_half(a));
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
static inline float total(lanes a)
{
    __m256 half = _mm256_add_ps(lower_half(a), upper_half(a));
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
#else
static inline float maximum(lanes a)
{
    for (int width = 8; width; width /= 2)
        for (int i = 0; i < width; i++)
            a.x[i] = a.x[i] > a.x[i + width] ? a.x[i] : a.x[i + width];
    return a.x[0];
}
static inline float total(lanes a)
{
    for (int width = 8; width; width /= 2)
        for (int i = 0; i < width; i++)
            a.x[i] += a.x[i + width];
    return a.x[0];
}
#endif

/* Two to the power of x within 3e-6 of it; exactly 1 of 0, and 0 below LM_BELOW. */
static inline lanes power_of_two(lanes x)
{
    lanes n = whole(x), f = sub(x, n);
    lanes p = all(9.582852944731712e-3f);
    p = fma16(p, f, all(5.5906426161527634e-2f));
    p = fma16(p, f, all(2.4024099111557007e-1f));
    p = fma16(p, f, all(6.931241750717163e-1f));
    p = fma16(p, f, all(1.0f));
    return times_two_to(p, n, x);
}

/* n <= 16 floats, zeros behind them. */
static inline lanes load_some(const float *x, int n)
{
    if (n >= 16)
        return load(x);
    float padded[16] = {0};
    memcpy(padded, x, (size_t)n * sizeof *x);
    return load(padded);
}

/* One head of one token as signed bytes: x ~ scale * code. Codes up to `padded` are written. An
 * infinity or NaN makes the scale NaN, so that it spoils what it meets and nothing else. */
static inline float quantize_head(const float *x, int n, int padded, int8_t *codes)
{
    int32_t top = 0;
    for (int i = 0; i < n; i++) {
        int32_t size = lm_bits(x[i]) & INT32_MAX;
        top = size > top ? size : top;
    }
    float largest = lm_float(top);
    if (!(largest >= 0x1p-100f && largest <= FLT_MAX)) {
        memset(codes, 0, (size_t)padded);
        return largest < 0x1p-100f ? 0.0f : lm_float(0x7fc00000);
    }
    lanes inverse = all(127.0f / largest);
    for (int i = 0; i < padded; i += 16)
        put_codes(codes + i, mul(load_some(x + i, n - i > 0 ? n - i : 0), inverse));
    return largest / 127.0f;
}

#endif
