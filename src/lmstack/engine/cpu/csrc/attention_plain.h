/* Products of attention in plain C: bfloat16 as floats, bytes as integers. What each function
 * does is said in attention_avx512.h. */
#define LM_INLINE static inline
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
    for (int t = 0; t < 4; t++)
        put_codes((int8_t *)row + t * LM_TILE, weights[t]);
}

/* sums += pieces * row for pieces of two bfloat16 and a row of floats. */
static inline void multiply_floats(const uint8_t *pieces, size_t step, int steps, const float *row,
                                   float sums[16])
{
    for (int s = 0; s < steps; s++, pieces += step) {
        uint32_t pairs[16];
        memcpy(pairs, pieces, sizeof pairs);
        float first = row[2 * s], second = row[2 * s + 1];
        for (int i = 0; i < 16; i++) {
            sums[i] += first * lm_float((int32_t)(pairs[i] << 16));
            sums[i] += second * lm_float((int32_t)(pairs[i] & 0xffff0000));
        }
    }
}

/* The same of four signed bytes and a row of 16 bits. */
static inline void multiply_bytes(const uint8_t *pieces, size_t step, int steps,
                                  const int16_t *row, int32_t sums[16])
{
    for (int s = 0; s < steps; s++, pieces += step)
        for (int i = 0; i < 16; i++)
            for (int k = 0; k < 4; k++)
                sums[i] += (int8_t)pieces[4 * i + k] * row[4 * s + k];
}

static inline void score_block(int kv, int rows, const uint8_t *queries, int hd,
                               const uint8_t *const *keys, int from, int to,
                               lm_attend_state *state, const int32_t *start)
{
    (void)start;
    for (int r = 0; r < rows; r++) {
        for (int t = from; t < to; t++) {
            float sums[16] = {0};
            int32_t counts[16] = {0};
            if (kv == LM_KV_BF16)
                multiply_floats(keys[t], 64, hd / 2, (const float *)queries + (size_t)r * hd,
                                sums);
            else
                multiply_bytes(keys[t], 64, hd / 4, (const int16_t *)queries + (size_t)r * hd,
                               counts);
            const float *scales = (const float *)(keys[t] + (size_t)hd * LM_TILE * 2);
            for (int i = 0; kv == LM_KV_INT8 && i < 16; i++)
                sums[i] = (float)counts[i] * scales[i];
            memcpy(state->scores[r] + t * LM_TILE, sums, sizeof sums);
        }
    }
}

static inline void mix_block(int kv, int rows, const uint8_t *const *values, int hd, int from,
                             int to, const lm_attend_state *state, float *mixed)
{
    for (int r = 0; r < rows; r++) {
        int16_t codes[LM_BLOCK];
        for (int i = 0; kv == LM_KV_INT8 && i < LM_BLOCK; i++)
            codes[i] = state->weights[r][i];
        for (int c = 0; c < hd; c += 16) {
            float sums[16] = {0};
            int32_t counts[16] = {0};
            for (int t = from; t < to; t++) {
                const uint8_t *pieces = values[t] + c * 4;
                if (kv == LM_KV_BF16)
                    multiply_floats(pieces, (size_t)hd * 4, 8,
                                    (const float *)state->weights[r] + t * LM_TILE, sums);
                else
                    multiply_bytes(pieces, (size_t)hd * 4, 4, codes + t * LM_TILE, counts);
            }
            float *at = mixed + (size_t)r * hd + c;
            for (int i = 0; i < 16; i++)
                at[i] = kv == LM_KV_BF16
                            ? at[i] * state->keep[r] + sums[i]
                            : lm_fma((float)counts[i], state->unit[r], at[i] * state->keep[r]);
        }
    }
}
