/* Products of attention by VDPBF16PS and VPDPBUSD. A row's piece of four bytes (2 bfloat16 or 4
 * bytes: channels of a query, or weights of keys) is multiplied with sixteen such pieces that lie
 * side by side (tokens of a tile, or channels of values). */
#define LM_INLINE static inline __attribute__((always_inline))
#define LM_QUERY_BYTES(kv) ((kv) == LM_KV_BF16 ? 2 : 1)

/* Not the intrinsics: of 24 sums, gcc would copy and spill most. */
#define LM_ADD_PRODUCTS(name, sum, a, b) __asm__(name " %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))

/* Channels of a query, bfloat16 or bytes; `made` has room for whole sixteens. */
static inline void put_query(const float *q, int n, void *made)
{
    for (int i = 0; i < n; i += 16)
        _mm256_storeu_si256((__m256i *)((uint16_t *)made + i),
                            (__m256i)_mm512_cvtneps_pbh(load_some(q + i, n - i)));
}

static inline void put_query_codes(const int8_t *codes, int n, void *made)
{
    memcpy(made, codes, (size_t)n);
}

/* Weights of a block into a row of them; gives their sums as they were rounded. */
static inline lanes put_weights(const lanes weights[4], uint8_t *row)
{
    __m512i ones = _mm512_set1_epi32(0x3f803f80), sum = _mm512_setzero_si512();
    for (int i = 0; i < 2; i++) {
        __m512i made = (__m512i)_mm512_cvtne2ps_pbh(weights[2 * i + 1], weights[2 * i]);
        _mm512_store_si512(row + 64 * i, made);
        LM_ADD_PRODUCTS("vdpbf16ps", sum, made, ones);
    }
    return (lanes)sum;
}

/* Weights of a block as bytes: four tokens of tile t are number 4 * i + t of sixteen fours. */
static inline void put_weight_codes(const lanes weights[4], uint8_t *row)
{
    __m512i codes[4];
    for (int t = 0; t < 4; t++)
        codes[t] = _mm512_cvtps_epi32(weights[t]);
    _mm512_store_si512(row, _mm512_packus_epi16(_mm512_packus_epi32(codes[0], codes[1]),
                                                _mm512_packus_epi32(codes[2], codes[3])));
}

typedef struct {
    const uint8_t *row; /* the first row's pieces */
    size_t apart;       /* bytes between rows */
    size_t row_step;    /* and between pieces of a row */
    const uint8_t *pieces[4];
    size_t step; /* bytes from sixteen pieces to the next */
    int steps;
    int keys; /* pieces are keys: for bytes, these are the signed side made unsigned */
} lm_products;

LM_INLINE void multiply(const int kv, const int rows, const int vectors, const lm_products *p,
                        __m512i sums[LM_STEP][4])
{
    for (int s = 0; s < p->steps; s++) {
        __m512i pieces[4];
        for (int v = 0; v < vectors; v++) {
            pieces[v] = _mm512_loadu_si512(p->pieces[v] + s * p->step);
            if (kv == LM_KV_INT8 && p->keys)
                pieces[v] = _mm512_xor_si512(pieces[v], _mm512_set1_epi8((char)0x80));
        }
        for (int r = 0; r < rows; r++) {
            int32_t piece;
            memcpy(&piece, p->row + r * p->apart + s * p->row_step, 4);
            __m512i row = _mm512_set1_epi32(piece);
            for (int v = 0; v < vectors; v++) {
                if (kv == LM_KV_BF16)
                    LM_ADD_PRODUCTS("vdpbf16ps", sums[r][v], pieces[v], row);
                else if (p->keys)
                    LM_ADD_PRODUCTS("vpdpbusd", sums[r][v], pieces[v], row);
                else
                    LM_ADD_PRODUCTS("vpdpbusd", sums[r][v], row, pieces[v]);
            }
        }
    }
}

/* Scores of `rows` queries with the keys of `tiles` tiles. */
LM_INLINE void score(const int kv, const int rows, const int tiles, const uint8_t *queries, int hd,
                     const uint8_t *const *keys, const int32_t *start, float *scores)
{
    __m512i sums[LM_STEP][4];
    lm_products p = {.row = queries, .apart = (size_t)hd * LM_QUERY_BYTES(kv), .row_step = 4,
                     .step = 64, .steps = hd * LM_QUERY_BYTES(kv) / 4, .keys = 1};
    for (int t = 0; t < tiles; t++)
        p.pieces[t] = keys[t];
    for (int r = 0; r < rows; r++)
        for (int t = 0; t < tiles; t++)
            sums[r][t] = _mm512_set1_epi32(kv == LM_KV_BF16 ? 0 : start[r]);
    multiply(kv, rows, tiles, &p, sums);
    for (int t = 0; t < tiles; t++)
        for (int r = 0; r < rows; r++) {
            lanes made = (lanes)sums[r][t];
            if (kv == LM_KV_INT8)
                made = mul(_mm512_cvtepi32_ps(sums[r][t]),
                           load((const float *)(keys[t] + (size_t)hd * LM_TILE * 2)));
            put(scores + r * LM_BLOCK + t * LM_TILE, made);
        }
}

/* Adds the weighted values of tiles [from, to) to `rows` results, 16 * vectors channels. */
LM_INLINE void mix(const int kv, const int rows, const int vectors, const lm_attend_state *state,
                   int hd, const uint8_t *const *values, int from, int to, float *mixed)
{
    __m512i sums[LM_STEP][4];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            sums[r][v] = _mm512_setzero_si512();
    lm_products p = {.apart = sizeof state->weights[0], .row_step = kv == LM_KV_BF16 ? 4 : 16,
                     .step = (size_t)hd * 4, .steps = kv == LM_KV_BF16 ? 8 : 4, .keys = 0};
    for (int t = from; t < to; t++) {
        p.row = state->weights[0] + t * (kv == LM_KV_BF16 ? 32 : 4);
        for (int v = 0; v < vectors; v++)
            p.pieces[v] = values[t] + v * 64;
        multiply(kv, rows, vectors, &p, sums);
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) {
            float *at = mixed + r * hd + v * 16;
            lanes before = load(at), keep = all(state->keep[r]);
            if (kv == LM_KV_BF16)
                put(at, fma16(before, keep, (lanes)sums[r][v]));
            else
                put(at, fma16(_mm512_cvtepi32_ps(sums[r][v]), all(state->unit[r]),
                              mul(before, keep)));
        }
}

/* The two above for any number of rows up to LM_STEP (5 counts as 6), tiles and channels. */
#define LM_FOR_ROWS(rows, call)                                                                   \
    switch (rows) {                                                                               \
    case 1: call(1); break;                                                                       \
    case 2: call(2); break;                                                                       \
    case 3: call(3); break;                                                                       \
    case 4: call(4); break;                                                                       \
    default: call(6); break;                                                                      \
    }

LM_INLINE void score_block(const int kv, int rows, const uint8_t *queries, int hd,
                           const uint8_t *const *keys, int from, int to, lm_attend_state *state,
                           const int32_t *start)
{
    for (int t = from, tiles; t < to; t += tiles) {
        float *scores = state->scores[0] + t * LM_TILE;
        tiles = to - t >= 4 ? 4 : to - t >= 2 ? 2 : 1;
#define LM_CALL(n)                                                                                \
    tiles == 4   ? score(kv, n, 4, queries, hd, keys + t, start, scores)                          \
    : tiles == 2 ? score(kv, n, 2, queries, hd, keys + t, start, scores)                          \
                 : score(kv, n, 1, queries, hd, keys + t, start, scores)
        LM_FOR_ROWS(rows, LM_CALL)
#undef LM_CALL
    }
}

LM_INLINE void mix_block(const int kv, int rows, const uint8_t *const *values, int hd, int from,
                         int to, const lm_attend_state *state, float *mixed)
{
    for (int c = 0, vectors; c < hd; c += 16 * vectors) {
        const uint8_t *some[4];
        for (int t = from; t < to; t++)
            some[t] = values[t] + c * 4;
        vectors = hd - c >= 64 ? 4 : hd - c >= 32 ? 2 : 1;
#define LM_CALL(n)                                                                                \
    vectors == 4   ? mix(kv, n, 4, state, hd, some, from, to, mixed + c)                          \
    : vectors == 2 ? mix(kv, n, 2, state, hd, some, from, to, mixed + c)                          \
                   : mix(kv, n, 1, state, hd, some, from, to, mixed + c)
        LM_FOR_ROWS(rows, LM_CALL)
#undef LM_CALL
    }
}
