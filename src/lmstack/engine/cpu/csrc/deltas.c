/* What adapters add to products, in bytes as the products themselves: integer sums, which are
 * exact, scaled once a term. Compiled once per path. Rows do not depend on those beside them. */
#include "lanes.h"

enum { TOGETHER = 4 }; /* rows that share what is read of a matrix */

/* Sixteen integer sums of products of bytes, which begin at a row's offset. */
#if defined(__AVX512VNNI__)

typedef __m512i sums;

INLINE sums begin(int32_t offset)
{
    return _mm512_set1_epi32(offset);
}
INLINE sums dot(sums sum, const uint8_t *codes, const int8_t *four)
{
    __asm__("vpdpbusd %2%{1to16%}, %1, %0"
            : "+v"(sum)
            : "v"(_mm512_loadu_si512(codes)), "m"(*(const int32_t *)four));
    return sum;
}
INLINE lanes as_floats(sums sum)
{
    return _mm512_cvtepi32_ps(sum);
}

#elif defined(__AVX2__)

typedef struct {
    __m256i low, high;
} sums;

/* Sums of (code - 128) * four, whose pairs fit 16 bits: those of the codes less the offset. */
INLINE sums begin(int32_t offset)
{
    (void)offset;
    return (sums){_mm256_setzero_si256(), _mm256_setzero_si256()};
}
INLINE __m256i dot_8(__m256i sum, const uint8_t *codes, __m256i x)
{
    __m256i w = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)codes),
                                 _mm256_set1_epi8((char)128));
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
INLINE sums dot(sums sum, const uint8_t *codes, const int8_t *four)
{
    int32_t x;
    memcpy(&x, four, sizeof x);
    return (sums){dot_8(sum.low, codes, _mm256_set1_epi32(x)),
                  dot_8(sum.high, codes + 32, _mm256_set1_epi32(x))};
}
INLINE lanes as_floats(sums sum)
{
    return (lanes){_mm256_cvtepi32_ps(sum.low), _mm256_cvtepi32_ps(sum.high)};
}

#else

typedef struct {
    int32_t x[LM_PANEL];
} sums;

INLINE sums begin(int32_t offset)
{
    sums sum;
    for (int o = 0; o < LM_PANEL; o++)
        sum.x[o] = offset;
    return sum;
}
INLINE sums dot(sums sum, const uint8_t *codes, const int8_t *four)
{
    for (int o = 0; o < LM_PANEL; o++)
        for (int i = 0; i < 4; i++)
            sum.x[o] += codes[o * 4 + i] * four[i];
    return sum;
}
INLINE lanes as_floats(sums sum)
{
    LM_EACH((float)sum.x[i]);
}

#endif

/* Panels [panel, end) of `rows` rows: out = [gains *] out + up . low. `ahead`: from what is read
 * of `up` to what will be; prefetching is right about most of it and harms nowhere. */
INLINE void add_terms(const int rows, const int steps, const lm_delta *d, ptrdiff_t ahead,
                      int panel, int end, const float *low, ptrdiff_t low_stride, float *out,
                      ptrdiff_t stride)
{
    const lm_low *by = (const lm_low *)(low + d->down.panels * LM_PANEL);
    const ptrdiff_t part_bytes = 2 * LM_PANEL + steps * 64;
    for (int t = 0; t < d->num_terms; t++) {
        const lm_delta_term *term = &d->terms[t];
        const int8_t *x = (const int8_t *)low + t * d->ranks;
        sums offsets[TOGETHER];
        lanes scales[TOGETHER];
        for (int r = 0; r < rows; r++) {
            const lm_low *own = (const lm_low *)((const float *)(by + t) + r * low_stride);
            offsets[r] = begin(own->offset);
            scales[r] = all(own->scale);
        }
        int p = term->first < panel ? panel + (panel - term->first) % term->step : term->first;
        ptrdiff_t part = term->part + (p - term->first) / term->step;
        const uint8_t *w = d->up + part * part_bytes;
        for (; p < end && p < term->end; p += term->step, part++, w += part_bytes) {
            for (ptrdiff_t line = 0; line < part_bytes; line += 64)
                __builtin_prefetch(w + ahead + line);
            sums sum[TOGETHER];
            for (int r = 0; r < rows; r++)
                sum[r] = offsets[r];
            for (int s = 0; s < steps; s++)
                for (int r = 0; r < rows; r++)
                    sum[r] = dot(sum[r], w + 2 * LM_PANEL + s * 64, x + r * low_stride * 4 + s * 4);
            lanes scale = load_bfloat16((const uint16_t *)w);
            for (int r = 0; r < rows; r++) {
                float *at = out + r * stride + (p - panel) * LM_PANEL;
                lanes base = load(at);
                if (d->gains)
                    base = mul(base, load(d->gains + part * LM_PANEL));
                put(at, fma16(mul(as_floats(sum[r]), scales[r]), scale, base));
            }
        }
    }
}

void LM_NAME(multiply)(const lm_matrix *w, int panel, int end, const lm_acts *x, int row,
                       int count, float *out, ptrdiff_t stride);

void LM_NAME(shrink)(const lm_delta *d, const lm_acts *x, int row, int count, float *low,
                     ptrdiff_t stride)
{
    LM_NAME(multiply)(&d->down, 0, d->down.panels, x, row, count, low, stride);
    for (int r = 0; r < count; r++, low += stride) {
        /* Over the floats that they are made from: codes are a quarter as long. */
        int8_t *codes = (int8_t *)low;
        lm_low *by = (lm_low *)(low + d->down.panels * LM_PANEL);
        for (int t = 0; t < d->num_terms; t++) {
            int8_t *own = codes + t * d->ranks;
            by[t].scale = quantize_head(low + t * d->ranks, d->ranks, d->ranks, own);
            int32_t sum = 0;
            for (int i = 0; i < d->ranks; i++)
                sum += own[i];
            by[t].offset = -128 * sum;
        }
    }
}

/* Of these ranks most adapters are. */
#define ROWS(rows)                                                                                 \
    static void add_##rows(const lm_delta *d, ptrdiff_t ahead, int panel, int end,                 \
                           const float *low, ptrdiff_t low_stride, float *out, ptrdiff_t stride)   \
    {                                                                                              \
        if (d->ranks == 8)                                                                         \
            add_terms(rows, 2, d, ahead, panel, end, low, low_stride, out, stride);                \
        else if (d->ranks == 16)                                                                   \
            add_terms(rows, 4, d, ahead, panel, end, low, low_stride, out, stride);                \
        else                                                                                       \
            add_terms(rows, d->ranks / 4, d, ahead, panel, end, low, low_stride, out, stride);     \
    }
ROWS(1) ROWS(2) ROWS(3) ROWS(4)

void LM_NAME(expand)(const lm_delta *d, const lm_delta *next, int panel, int end, const float *low,
                     ptrdiff_t low_stride, int rows, float *out, ptrdiff_t stride)
{
    ptrdiff_t ahead = next ? (ptrdiff_t)((uintptr_t)next->up - (uintptr_t)d->up) : 0;
    for (; rows > TOGETHER; rows -= TOGETHER) {
        add_4(d, ahead, panel, end, low, low_stride, out, stride);
        low += TOGETHER * low_stride;
        out += TOGETHER * stride;
        ahead = 0;
    }
    if (rows == 1)
        add_1(d, ahead, panel, end, low, low_stride, out, stride);
    else if (rows == 2)
        add_2(d, ahead, panel, end, low, low_stride, out, stride);
    else if (rows == 3)
        add_3(d, ahead, panel, end, low, low_stride, out, stride);
    else
        add_4(d, ahead, panel, end, low, low_stride, out, stride);
}
