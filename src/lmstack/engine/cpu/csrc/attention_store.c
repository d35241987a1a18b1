/* store: keys and values of one token and head into a cache tile. */
#include "attention.h"
#include "lanes.h"

/* To the nearest bfloat16, ties to even, as the processors' instruction does: subnormal numbers
 * become zero, a NaN stays one. */
static inline uint16_t bfloat16_of(float x)
{
    uint32_t bits = (uint32_t)lm_bits(x), size = bits & INT32_MAX;
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    rounded = size > 0x7f800000 ? (bits >> 16) | 0x40 : rounded;
    return (uint16_t)(size < 0x00800000 ? bits >> 16 & 0x8000 : rounded);
}

static inline void bfloat16_head(const float *x, int n, int padded, uint16_t *made)
{
#if defined(__AVX512BF16__)
    for (int i = 0; i < padded; i += 16) {
        int left = n - i;
        __mmask16 real = left >= 16 ? 0xffff : left <= 0 ? 0 : (__mmask16)((1 << left) - 1);
        __m256bh some = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(real, x + i));
        _mm256_storeu_si256((__m256i *)(made + i), (__m256i)some);
    }
#else
    for (int i = 0; i < n; i++)
        made[i] = bfloat16_of(x[i]);
    for (int i = n; i < padded; i++)
        made[i] = 0;
#endif
}

/* A token's keys lie in a tile as 4-byte pieces (2 or 4 channels), 64 bytes apart. */
static inline void put_keys(const void *head, int bytes, uint8_t *keys, int place)
{
    for (int i = 0; i < bytes; i += 4)
        memcpy(keys + (size_t)i * LM_TILE + place * 4, (const uint8_t *)head + i, 4);
}

/* A token's values lie in a tile every 2nd (bfloat16) or 4th number, beside its neighbours'. */
static inline void put_bfloat16_values(const uint16_t *head, int hd, uint16_t *values, int place)
{
    values += (size_t)(place / 2) * hd * 2;
#if defined(__AVX512F__)
    for (int i = 0; i < hd; i += 16) {
        __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(head + i)));
        wide = _mm512_or_si512(wide, _mm512_slli_epi32(wide, 16));
        _mm512_mask_storeu_epi16(values + 2 * i, place % 2 ? 0xaaaaaaaa : 0x55555555, wide);
    }
#else
    for (int i = 0; i < hd; i++)
        values[2 * i + place % 2] = head[i];
#endif
}

static inline void put_byte_values(const int8_t *head, int hd, int8_t *values, int place)
{
    values += (size_t)(place / 4) * hd * 4;
#if defined(__AVX512F__)
    __mmask64 mine = 0x1111111111111111u << place % 4;
    for (int i = 0; i < hd; i += 16) {
        __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(head + i)));
        wide = _mm512_sll_epi32(wide, _mm_cvtsi32_si128(place % 4 * 8));
        _mm512_mask_storeu_epi8(values + 4 * i, mine, wide);
    }
#else
    for (int i = 0; i < hd; i++)
        values[4 * i + place % 4] = head[i];
#endif
}

static void store_bfloat16(const float *k, const float *v, int n, uint8_t *tile, int place)
{
    uint16_t head[256];
    int hd = LM_PADDED(n);
    bfloat16_head(k, n, hd, head);
    put_keys(head, hd * 2, tile, place);
    bfloat16_head(v, n, hd, head);
    put_bfloat16_values(head, hd, (uint16_t *)(tile + (size_t)hd * LM_TILE * 2), place);
}

static void store_int8(const float *k, const float *v, int n, uint8_t *tile, int place)
{
    int8_t head[256];
    int hd = LM_PADDED(n);
    float *scales = (float *)(tile + (size_t)hd * LM_TILE * 2);
    scales[place] = quantize_head(k, n, hd, head);
    put_keys(head, hd, tile, place);
    scales[LM_TILE + place] = quantize_head(v, n, hd, head);
    put_byte_values(head, hd, (int8_t *)tile + (size_t)hd * LM_TILE, place);
}

void LM_NAME(store)(const lm_attention *a, const float *k, const float *v, uint8_t *tile, int place)
{
    if (a->kv == LM_KV_BF16)
        store_bfloat16(k, v, a->head_dim, tile, place);
    else
        store_int8(k, v, a->head_dim, tile, place);
}
