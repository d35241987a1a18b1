/* Products of attention with AVX2: bfloat16 as floats, bytes widened to 16 bits, both exact. What
 * each function does is said in attention_avx512.h. */
#define LM_INLINE static inline __attribute__((always_inline))
#define LM_QUERY_BYTES(kv) ((kv) == LM_KV_BF16 ? 4 : 2)

static inline void put_query(const float *q, int n, void *made)
{
    for (int i = 0; i < n; i += 16)
        put((float *)made + i, load_some(q + i, n - i));
}

static inline void put_query_codes(const int8_t *codes, int n, void *made)
{
    for (int i = 0; i < n; i++)
        ((int16_t *)made)[i] = codes[i];
}

static inline lanes put_weights(const lanes weights[4], uint8_t *row)
{
    for (int t = 0; t < 4; t++)
        put((float *)row + t * LM_TILE, weights[t]);
    return add(add(weights[0], weights[1]), add(weights[2], weights[3]));
}

static inline void put_weight_codes(const lanes weights[4], uint8_t *row)
{
    for (int t = 0; t < 4; t++) {
        __m256i low = _mm256_cvtps_epi32(weights[t].low);
        __m256i high = _mm256_cvtps_epi32(weights[t].high);
        __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
        _mm256_store_si256((__m256i *)row + t, words);
    }
}

/* sums += pieces * rows: pieces are two bfloat16 side by side, rows floats. */
LM_INLINE void multiply_floats(const int rows, const uint8_t *pieces, size_t step, int steps,
                               const float *row, size_t apart, __m256 sums[4][2])
{
    const __m256i second = _mm256_set1_epi32((int32_t)0xffff0000);
    for (int s = 0; s < steps; s++, pieces += step) {
        __m256i low = _mm256_loadu_si256((const __m256i *)pieces);
        __m256i high = _mm256_loadu_si256((const __m256i *)pieces + 1);
        __m256 low1 = _mm256_castsi256_ps(_mm256_slli_epi32(low, 16));
        __m256 high1 = _mm256_castsi256_ps(_mm256_slli_epi32(high, 16));
        __m256 low2 = _mm256_castsi256_ps(_mm256_and_si256(low, second));
        __m256 high2 = _mm256_castsi256_ps(_mm256_and_si256(high, second));
        for (int r = 0; r < rows; r++) {
            __m256 x = _mm256_broadcast_ss(row + r * apart + 2 * s);
            sums[r][0] = _mm256_fmadd_ps(low1, x, sums[r][0]);
            sums[r][1] = _mm256_fmadd_ps(high1, x, sums[r][1]);
            x = _mm256_broadcast_ss(row + r * apart + 2 * s + 1);
            sums[r][0] = _mm256_fmadd_ps(low2, x, sums[r][0]);
            sums[r][1] = _mm256_fmadd_ps(high2, x, sums[r][1]);
        }
    }
}

/* The same of four signed bytes, and rows of 16 bits. A lane's sum is in two parts. */
LM_INLINE void multiply_bytes(const int rows, const uint8_t *pieces, size_t step, int steps,
                              const int16_t *row, size_t apart, __m256i sums[2][4])
{
    for (int s = 0; s < steps; s++, pieces += step)
        for (int i = 0; i < 4; i++) {
            __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)pieces + i));
            for (int r = 0; r < rows; r++) {
                int64_t four;
                memcpy(&four, row + r * apart + 4 * s, 8);
                __m256i products = _mm256_madd_epi16(wide, _mm256_set1_epi64x(four));
                sums[r][i] = _mm256_add_epi32(sums[r][i], products);
            }
        }
}

static inline lanes bytes_total(const __m256i sums[4])
{
    __m256i low = _mm256_hadd_epi32(sums[0], sums[1]), high = _mm256_hadd_epi32(sums[2], sums[3]);
    return (lanes){_mm256_cvtepi32_ps(_mm256_permute4x64_epi64(low, 0xd8)),
                   _mm256_cvtepi32_ps(_mm256_permute4x64_epi64(high, 0xd8))};
}

LM_INLINE void score_floats(const int rows, const float *queries, int hd, const uint8_t *keys,
                            float *scores)
{
    __m256 sums[4][2];
    for (int r = 0; r < rows; r++)
        sums[r][0] = sums[r][1] = _mm256_setzero_ps();
    multiply_floats(rows, keys, 64, hd / 2, queries, (size_t)hd, sums);
    for (int r = 0; r < rows; r++)
        put(scores + r * LM_BLOCK, (lanes){sums[r][0], sums[r][1]});
}

LM_INLINE void score_bytes(const int rows, const int16_t *queries, int hd, const uint8_t *keys,
                           float *scores)
{
    __m256i sums[2][4];
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < 4; i++)
            sums[r][i] = _mm256_setzero_si256();
    multiply_bytes(rows, keys, 64, hd / 4, queries, (size_t)hd, sums);
    for (int r = 0; r < rows; r++)
        put(scores + r * LM_BLOCK, mul(bytes_total(sums[r]),
                                       load((const float *)(keys + (size_t)hd * LM_TILE * 2))));
}

LM_INLINE void score_block(const int kv, int rows, const uint8_t *queries, int hd,
                           const uint8_t *const *keys, int from, int to, lm_attend_state *state,
                           const int32_t *start)
{
    (void)start;
    const float *floats = (const float *)queries;
    const int16_t *codes = (const int16_t *)queries;
    for (int t = from; t < to; t++)
        for (int r = 0, some; r < rows; r += some) {
            float *scores = state->scores[r] + t * LM_TILE;
            some = kv == LM_KV_BF16 && rows - r >= 4 ? 4 : rows - r >= 2 ? 2 : 1;
            if (some == 4)
                score_floats(4, floats + r * hd, hd, keys[t], scores);
            else if (kv == LM_KV_BF16)
                some == 2 ? score_floats(2, floats + r * hd, hd, keys[t], scores)
                          : score_floats(1, floats + r * hd, hd, keys[t], scores);
            else
                some == 2 ? score_bytes(2, codes + r * hd, hd, keys[t], scores)
                          : score_bytes(1, codes + r * hd, hd, keys[t], scores);
        }
}

LM_INLINE void mix_floats(const int rows, const lm_attend_state *state, int row, int hd,
                          const uint8_t *const *values, int c, int from, int to, float *mixed)
{
    __m256 sums[4][2];
    for (int r = 0; r < rows; r++)
        sums[r][0] = sums[r][1] = _mm256_setzero_ps();
    const float *weights = (const float *)state->weights[row];
    for (int t = from; t < to; t++)
        multiply_floats(rows, values[t] + c * 4, (size_t)hd * 4, 8, weights + t * LM_TILE,
                        LM_BLOCK, sums);
    for (int r = 0; r < rows; r++) {
        float *at = mixed + (row + r) * hd + c;
        put(at, fma16(load(at), all(state->keep[row + r]), (lanes){sums[r][0], sums[r][1]}));
    }
}

LM_INLINE void mix_bytes(const int rows, const lm_attend_state *state, int row, int hd,
                         const uint8_t *const *values, int c, int from, int to, float *mixed)
{
    __m256i sums[2][4];
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < 4; i++)
            sums[r][i] = _mm256_setzero_si256();
    const int16_t *weights = (const int16_t *)state->weights[row];
    for (int t = from; t < to; t++)
        multiply_bytes(rows, values[t] + c * 4, (size_t)hd * 4, 4, weights + t * LM_TILE,
                       sizeof state->weights[0] / 2, sums);
    for (int r = 0; r < rows; r++) {
        float *at = mixed + (row + r) * hd + c;
        put(at, fma16(bytes_total(sums[r]), all(state->unit[row + r]),
                      mul(load(at), all(state->keep[row + r]))));
    }
}

LM_INLINE void mix_block(const int kv, int rows, const uint8_t *const *values, int hd, int from,
                         int to, const lm_attend_state *state, float *mixed)
{
    for (int c = 0; c < hd; c += 16)
        for (int r = 0, some; r < rows; r += some) {
            some = kv == LM_KV_BF16 && rows - r >= 4 ? 4 : rows - r >= 2 ? 2 : 1;
            if (some == 4)
                mix_floats(4, state, r, hd, values, c, from, to, mixed);
            else if (kv == LM_KV_BF16)
                some == 2 ? mix_floats(2, state, r, hd, values, c, from, to, mixed)
                          : mix_floats(1, state, r, hd, values, c, from, to, mixed);
            else
                some == 2 ? mix_bytes(2, state, r, hd, values, c, from, to, mixed)
                          : mix_bytes(1, state, r, hd, values, c, from, to, mixed);
        }
}
