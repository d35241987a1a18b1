/* Attention of sequences that lie end to end, forwards and backwards, in float32: scores of one
 * sequence and key-value head at a time, so that they stay in the cache. For some hundred tokens.
 *
 * Legend: B sequences, T queries of one, S keys of one (T <= S: the queries are those of its last
 * tokens), Hkv key-value heads, G query heads of each, hd channels (a multiple of 32). */
#include "native.h"

#ifdef LMT_NATIVE
#include <math.h>
#include <stdatomic.h>

typedef struct {
    int64_t sequences, kv_heads, group, head_dim, causal, parts;
    int64_t q_stride, k_stride, v_stride; /* from token to token */
    const int64_t *queries, *keys;        /* (B + 1,): where sequences begin, of q and of k and v */
    const float *q, *k, *v;
    float *out; /* (queries, Hkv * G, hd) */
    float *sums; /* (queries, Hkv * G): log sum exp of the scores */
    const float *grad;             /* backwards: as out */
    float *of_q, *of_k, *of_v;     /* backwards: dense; as q, k and v */
    float scale;
    atomic_int *next; /* which sequence and head is not begun yet, 0 */
} attention;

/* Sequences and heads go to whoever is free: what is computed depends on nothing else. */
typedef struct {
    int64_t T, S, wide; /* wide: S in whole panels */
    const float *k, *v;
    int64_t query, key, kv_head;
    float *turned, *values; /* K^T and V^T (hd, wide), zeros behind S */
    float *scores, *slopes; /* (rows, wide) */
    float *some;            /* (GROUP, hd) */
    float *grad;            /* (GROUP, hd) */
} work;

static int64_t whole(int64_t n, int64_t of)
{
    return (n + of - 1) / of * of;
}

/* x (S, hd), `stride` apart, as (hd, wide). */
static void transposed(const float *x, int64_t stride, int64_t S, int64_t hd, int64_t wide,
                       float *out)
{
    for (int64_t c = 0; c < hd; c++)
        memset(out + c * wide + S, 0, (size_t)(wide - S) * sizeof *out);
    for (int64_t s = 0; s < S; s++)
        for (int64_t c = 0; c < hd; c++)
            out[c * wide + s] = x[s * stride + c];
}

/* `rows` rows of x, `stride` apart, times scale, as GROUP dense rows of hd, the rest zeros. */
static void gathered(const float *x, int64_t stride, int64_t rows, int64_t hd, float scale,
                     float *out)
{
    __m512 by = _mm512_set1_ps(scale);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = 0; c < hd; c += LANES)
            _mm512_storeu_ps(out + i * hd + c,
                             _mm512_mul_ps(_mm512_loadu_ps(x + i * stride + c), by));
    memset(out + rows * hd, 0, (size_t)((GROUP - rows) * hd) * sizeof *out);
}

/* out (GROUP, wide) = x (GROUP, hd) by turned (hd, wide), for columns below `seen`. */
static void products(const float *x, int64_t hd, const float *turned, int64_t wide, int64_t seen,
                     float *out)
{
    float panel[GROUP * PANEL] __attribute__((aligned(64)));
    for (int64_t c = 0; c < seen; c += PANEL) {
        lmt_panel(x, hd, 1, hd, turned + c, wide, panel);
        for (int i = 0; i < GROUP; i++)
            memcpy(out + i * wide + c, panel + i * PANEL, PANEL * sizeof *panel);
    }
}

/* `rows` rows of out, `stride` apart, (+)= the first `rows` of x^(T) (GROUP, k) by y (k, hd). */
static void combined(const float *x, int64_t row, int64_t step, int64_t k, const float *y,
                     int64_t y_stride, int64_t rows, int64_t hd, float scale, int adds, float *out,
                     int64_t stride)
{
    float panel[GROUP * PANEL] __attribute__((aligned(64)));
    __m512 by = _mm512_set1_ps(scale);
    for (int64_t c = 0; c < hd; c += PANEL) {
        lmt_panel(x, row, step, k, y + c, y_stride, panel);
        for (int64_t i = 0; i < rows; i++)
            for (int half = 0; half < PANEL; half += LANES) {
                float *at = out + i * stride + c + half;
                __m512 sum = _mm512_mul_ps(_mm512_load_ps(panel + i * PANEL + half), by);
                _mm512_storeu_ps(at, adds ? _mm512_add_ps(sum, _mm512_loadu_ps(at)) : sum);
            }
    }
}

/* Which of `columns` from `from` are below `end`. */
INLINE __mmask16 below(int64_t from, int64_t end)
{
    return end - from >= LANES ? 0xffff : end <= from ? 0 : (__mmask16)((1u << (end - from)) - 1);
}

/* A row of scores, of which `seen` count, to probabilities; zeros behind them up to `all`. Gives
 * the log of the sum of their exponentials. */
static float softmax(float *x, int64_t seen, int64_t all)
{
    __m512 most = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
    for (int64_t c = 0; c < seen; c += LANES)
        most = _mm512_mask_max_ps(most, below(c, seen), most, _mm512_loadu_ps(x + c));
    float largest = _mm512_reduce_max_ps(most);
    for (int64_t c = 0; c < seen; c += LANES) {
        __m512 e = lmt_exp(_mm512_sub_ps(_mm512_loadu_ps(x + c), _mm512_set1_ps(largest)));
        e = _mm512_maskz_mov_ps(below(c, seen), e);
        sum = _mm512_add_ps(sum, e);
        _mm512_storeu_ps(x + c, e);
    }
    float total = _mm512_reduce_add_ps(sum);
    __m512 by = _mm512_set1_ps(1 / total);
    for (int64_t c = 0; c < seen; c += LANES)
        _mm512_storeu_ps(x + c, _mm512_mul_ps(_mm512_loadu_ps(x + c), by));
    for (int64_t c = whole(seen, LANES); c < all; c += LANES)
        _mm512_storeu_ps(x + c, _mm512_setzero_ps());
    return largest + logf(total);
}

/* How many keys the query at `i` of its sequence sees. */
INLINE int64_t seen_by(const attention *a, const work *w, int64_t i)
{
    return a->causal ? w->S - w->T + i + 1 : w->S;
}

/* Scores are kept for `rows` queries at a time. */
static work begun(const attention *a, int64_t job, int64_t rows, float *memory)
{
    int64_t hd = a->head_dim, sequence = job / a->kv_heads;
    work w = {.kv_head = job % a->kv_heads,
              .query = a->queries[sequence],
              .key = a->keys[sequence]};
    w.T = a->queries[sequence + 1] - w.query;
    w.S = a->keys[sequence + 1] - w.key;
    w.wide = whole(w.S, PANEL);
    w.k = a->k + w.key * a->k_stride + w.kv_head * hd;
    w.v = a->v + w.key * a->v_stride + w.kv_head * hd;
    rows = rows ? rows : whole(w.T, GROUP);
    w.turned = memory;
    w.values = w.turned + hd * w.wide;
    w.some = w.values + hd * w.wide;
    w.grad = w.some + GROUP * hd;
    w.scores = w.grad + GROUP * hd;
    w.slopes = w.scores + rows * w.wide;
    transposed(w.k, a->k_stride, w.S, hd, w.wide, w.turned);
    return w;
}

/* For the longest sequence. */
static float *memory_for(const attention *a, int64_t rows)
{
    int64_t T = 0, S = 0;
    for (int64_t i = 0; i < a->sequences; i++) {
        int64_t queries = a->queries[i + 1] - a->queries[i], keys = a->keys[i + 1] - a->keys[i];
        T = queries > T ? queries : T;
        S = keys > S ? keys : S;
    }
    rows = rows ? rows : whole(T, GROUP);
    int64_t wide = whole(S, PANEL), hd = a->head_dim;
    /* A group of keys may end behind the last row. */
    return lmt_scratch((size_t)(2 * hd * wide + 2 * GROUP * hd + 2 * rows * wide + GROUP)
                       * sizeof(float));
}

static void forwards_part(const void *data, int part)
{
    (void)part;
    const attention *a = data;
    int64_t hd = a->head_dim, heads = a->kv_heads * a->group;
    float *memory = memory_for(a, GROUP);
    for (int64_t job; (job = atomic_fetch_add(a->next, 1)) < a->sequences * a->kv_heads;) {
        work w = begun(a, job, GROUP, memory);
        for (int64_t g = 0; g < a->group; g++)
            for (int64_t i = 0; i < w.T; i += GROUP) {
                int64_t rows = w.T - i < GROUP ? w.T - i : GROUP, head = w.kv_head * a->group + g;
                int64_t seen = whole(seen_by(a, &w, i + rows - 1), PANEL);
                gathered(a->q + (w.query + i) * a->q_stride + head * hd, a->q_stride, rows, hd,
                         a->scale, w.some);
                products(w.some, hd, w.turned, w.wide, seen, w.scores);
                for (int64_t r = 0; r < rows; r++)
                    a->sums[(w.query + i + r) * heads + head] =
                        softmax(w.scores + r * w.wide, seen_by(a, &w, i + r), seen);
                seen = seen < w.S ? seen : w.S; /* there are no more values */
                combined(w.scores, w.wide, 1, seen, w.v, a->v_stride, rows, hd, 1, 0,
                         a->out + ((w.query + i) * heads + head) * hd, heads * hd);
            }
    }
}

void lmt_attention(attention *a)
{
    atomic_int next = 0;
    a->next = &next;
    lmt_run(forwards_part, a, (int)a->parts);
}

/* Rows of scores again to probabilities, and with the products of the gradient and the values to
 * the gradient of scores: p * (dp - sum(p * dp)). */
static void slopes_of(float *p, float *dp, float sum, int64_t seen, int64_t all, int64_t wide)
{
    __m512 of_all = _mm512_setzero_ps();
    for (int64_t c = 0; c < all; c += LANES) {
        __m512 e = lmt_exp(_mm512_sub_ps(_mm512_loadu_ps(p + c), _mm512_set1_ps(sum)));
        e = _mm512_maskz_mov_ps(below(c, seen), e);
        of_all = _mm512_fmadd_ps(e, _mm512_loadu_ps(dp + c), of_all);
        _mm512_storeu_ps(p + c, e);
    }
    __m512 along = _mm512_set1_ps(_mm512_reduce_add_ps(of_all));
    for (int64_t c = 0; c < all; c += LANES)
        _mm512_storeu_ps(dp + c, _mm512_mul_ps(_mm512_loadu_ps(p + c),
                                               _mm512_sub_ps(_mm512_loadu_ps(dp + c), along)));
    /* A group of keys may begin below `all` and end behind it. */
    if (all < wide) {
        memset(p + all, 0, PANEL * sizeof *p);
        memset(dp + all, 0, PANEL * sizeof *dp);
    }
}

static void backwards_part(const void *data, int part)
{
    (void)part;
    const attention *a = data;
    int64_t hd = a->head_dim, heads = a->kv_heads * a->group;
    float *memory = memory_for(a, 0);
    for (int64_t job; (job = atomic_fetch_add(a->next, 1)) < a->sequences * a->kv_heads;) {
        work w = begun(a, job, 0, memory);
        transposed(w.v, a->v_stride, w.S, hd, w.wide, w.values);
        int64_t at = (w.key * a->kv_heads + w.kv_head) * hd, key_stride = a->kv_heads * hd;
        for (int64_t g = 0; g < a->group; g++) {
            int64_t head = w.kv_head * a->group + g;
            const float *q = a->q + w.query * a->q_stride + head * hd;
            const float *grad = a->grad + (w.query * heads + head) * hd;
            for (int64_t i = 0; i < w.T; i += GROUP) {
                int64_t rows = w.T - i < GROUP ? w.T - i : GROUP;
                int64_t all = whole(seen_by(a, &w, i + rows - 1), PANEL);
                float *p = w.scores + i * w.wide, *dp = w.slopes + i * w.wide;
                gathered(q + i * a->q_stride, a->q_stride, rows, hd, a->scale, w.some);
                products(w.some, hd, w.turned, w.wide, all, p);
                gathered(grad + i * heads * hd, heads * hd, rows, hd, 1, w.grad);
                products(w.grad, hd, w.values, w.wide, all, dp);
                for (int64_t r = 0; r < rows; r++) {
                    int64_t row = i + r;
                    slopes_of(p + r * w.wide, dp + r * w.wide,
                              a->sums[(w.query + row) * heads + head], seen_by(a, &w, row), all,
                              w.wide);
                }
                combined(dp, w.wide, 1, all < w.S ? all : w.S, w.k, a->k_stride, rows, hd,
                         a->scale, 0, a->of_q + ((w.query + i) * heads + head) * hd, heads * hd);
            }
            for (int64_t i = 0; i < w.S; i += GROUP) {
                /* By queries that see key i: with causal ones those of groups from its own on. */
                int64_t rows = w.S - i < GROUP ? w.S - i : GROUP, from = 0;
                if (a->causal && i > w.S - w.T)
                    from = (i - (w.S - w.T)) / GROUP * GROUP;
                int64_t left = w.T - from;
                combined(w.slopes + from * w.wide + i, 1, w.wide, left, q + from * a->q_stride,
                         a->q_stride, rows, hd, a->scale, g > 0, a->of_k + at + i * key_stride,
                         key_stride);
                combined(w.scores + from * w.wide + i, 1, w.wide, left, grad + from * heads * hd,
                         heads * hd, rows, hd, 1, g > 0, a->of_v + at + i * key_stride, key_stride);
            }
        }
    }
}

void lmt_attention_backwards(attention *a)
{
    atomic_int next = 0;
    a->next = &next;
    lmt_run(backwards_part, a, (int)a->parts);
}

#endif
