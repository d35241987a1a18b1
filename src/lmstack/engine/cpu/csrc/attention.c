/* attend: queries against the tiles of a sequence, by an online softmax.
 *
 * A row is a head of a token. Rows visit the keys they see in blocks of 64 that begin at
 * multiples of 64, and every sum of a row follows the places of its keys alone: whichever rows
 * are computed beside it, its result has the same bits. Keys that a row does not see weigh
 * exactly 0, and bfloat16 values that are not numbers are kept from meeting such a weight. */
#include "attention.h"
#include "lanes.h"


#if defined(__AVX512BF16__)
#include "attention_avx512.h"
#elif defined(__AVX2__)
#include "attention_avx2.h"
#else
#include "attention_plain.h"
#endif

#define LOG2E 1.44269504f
/* Below every score, yet a number when multiplied with what makes scores of it. */
#define NO_SCORE (-1e20f)
/* A row's best score follows its scores when they are above it by so many powers of two. */
#define SLACK 8.0f

/* Keys [from, to). */
typedef struct {
    int from, to;
} span;

typedef struct {
    const lm_attention *a;
    const uint8_t *cache;
    const int32_t *table;
    int keys, kv_head, hd, simple;
    size_t tile_bytes;
    lm_attend_state *state;
    uint8_t *queries;
    float *mixed;
    uint8_t *copies; /* of tiles with values that must not be met */
    span copied_seen, copied_shared; /* for which rows these were made */
} job;

static inline int least(int a, int b)
{
    return a < b ? a : b;
}

static inline int most(int a, int b)
{
    return a > b ? a : b;
}

static inline int same(span a, span b)
{
    return a.from == b.from && a.to == b.to;
}

static inline span seen_from(const job *j, int position)
{
    const lm_attention *a = j->a;
    span s = {0, j->keys};
    if (a->causal)
        s.to = least(s.to, position + 1);
    if (a->window > 0) {
        s.from = most(0, position - a->window + 1);
        if (a->window < s.to - position)
            s.to = position + a->window;
    }
    return s;
}

/* ------------------------------------------------------------------------------- queries -- */

static void prepare_row(const job *j, int row, const float *q)
{
    lm_attend_state *s = j->state;
    const lm_attention *a = j->a;
    float scale = a->scale;
    void *query = j->queries + (size_t)row * j->hd * LM_QUERY_BYTES(a->kv);
    if (a->kv == LM_KV_BF16) {
        put_query(q, a->head_dim, query);
        s->start[row] = 0;
    } else {
        int8_t codes[256];
        float unit = quantize_head(q, a->head_dim, j->hd, codes);
        scale *= unit == 0.0f ? 1.0f : unit; /* all codes are 0 then */
        int32_t sum = 0;
        for (int i = 0; i < j->hd; i++)
            sum += codes[i];
        put_query_codes(codes, j->hd, query);
        s->start[row] = -128 * sum;
    }
    s->best[row] = NO_SCORE;
    s->scale[row] = scale;
    s->factor[row] = j->simple ? scale * LOG2E : LOG2E;
    s->slack[row] = SLACK / s->factor[row];
    s->limit[row] = NO_SCORE;
    put(s->sums[row], all(0.0f));
    memset(j->mixed + (size_t)row * j->hd, 0, (size_t)j->hd * sizeof(float));
}

/* -------------------------------------------------------------------------------- scores -- */

/* Scores of a row that softcap or bias change, in place: from then on they count as they are. */
static void change_scores(const job *j, int row, float *scores, int block, int from, int to)
{
    const lm_attention *a = j->a;
    float scale = j->state->scale[row];
    int distance = block - j->state->position[row];
    const float *bias = a->bias;
    if (bias)
        bias += (size_t)j->state->head[row] * (2 * (size_t)a->reach + 1) + a->reach;
    for (int i = from; i < to; i++) {
        float x = scores[i] * scale;
        if (a->softcap > 0)
            x = lm_tanh(x / a->softcap) * a->softcap;
        scores[i] = x;
    }
    for (int i = from; bias && i < to; i++)
        scores[i] += bias[least(most(distance + i, -a->reach), a->reach)];
}

/* Of rows [row, row + count): what is not seen becomes -infinity, the rest final. */
static void finish_scores(const job *j, int row, int count, int block, int from, int to)
{
    for (int r = 0; r < count; r++) {
        float *scores = j->state->scores[r];
        span seen = seen_from(j, j->state->position[row + r]);
        int first = least(most(seen.from - block, from), to);
        int end = most(least(seen.to - block, to), first);
        if (!j->simple)
            change_scores(j, row + r, scores, block, first, end);
        for (int i = from; i < first; i++)
            scores[i] = -INFINITY;
        for (int i = end; i < to; i++)
            scores[i] = -INFINITY;
    }
}

/* ------------------------------------------------------------------------------- softmax -- */

/* The best scores of rows follow those of a block where they are far above: so rarely must a
 * result be multiplied again, and no weight exceeds 2^SLACK. */
LM_INLINE void follow_best(const job *j, int row, int count, const int from, const int to)
{
    lm_attend_state *s = j->state;
    int risen = 0;
    for (int r = 0; r < count; r++) {
        lanes top = load(s->scores[r] + from * LM_TILE);
        for (int t = from + 1; t < to; t++)
            top = larger(top, load(s->scores[r] + t * LM_TILE));
        if (any_above(top, all(s->limit[row + r]))) {
            if (!risen)
                put(s->block_best, all(NO_SCORE));
            risen = 1;
            s->block_best[r] = maximum(top);
        }
    }
    if (!risen) {
        put(s->keep, all(1.0f));
        return;
    }
    lanes before = load(s->best + row), factor = load(s->factor + row);
    lanes best = larger(load(s->block_best), before);
    put(s->best + row, best);
    put(s->limit + row, add(best, load(s->slack + row)));
    put(s->keep, power_of_two(mul(sub(before, best), factor)));
}

/* Weights of a row, 0 beyond tiles [from, to). */
LM_INLINE void weigh(const lm_attend_state *s, int r, int row, const int from, const int to,
                     lanes weights[LM_BLOCK_TILES])
{
    lanes factor = all(s->factor[row + r]), best = all(s->best[row + r]);
    for (int t = 0; t < LM_BLOCK_TILES; t++)
        weights[t] = t < from || t >= to ? all(0.0f)
                                         : power_of_two(mul(sub(load(s->scores[r] + t * LM_TILE),
                                                                best), factor));
}

/* Weights as bfloat16 (or floats), summed as they were rounded. */
LM_INLINE void weigh_floats(const job *j, int row, int count, const int from, const int to)
{
    lm_attend_state *s = j->state;
    follow_best(j, row, count, from, to);
    for (int r = 0; r < count; r++) {
        lanes weights[LM_BLOCK_TILES];
        weigh(s, r, row, from, to, weights);
        lanes sum = put_weights(weights, s->weights[r]);
        put(s->sums[row + r], fma16(load(s->sums[row + r]), all(s->keep[r]), sum));
    }
}

/* Weights times their values' scales as bytes, in units of the block's largest / 255. */
LM_INLINE void weigh_codes(const job *j, int row, int count, const int from, const int to,
                           const uint8_t *const *tiles)
{
    lm_attend_state *s = j->state;
    size_t scales = (size_t)j->hd * LM_TILE * 2 + LM_TILE * sizeof(float);
    follow_best(j, row, count, from, to);
    for (int r = 0; r < count; r++) {
        lanes weights[LM_BLOCK_TILES];
        weigh(s, r, row, from, to, weights);
        lanes sum = add(add(weights[0], weights[1]), add(weights[2], weights[3]));
        put(s->sums[row + r], fma16(load(s->sums[row + r]), all(s->keep[r]), sum));
        lanes largest = all(0.0f);
        for (int t = from; t < to; t++) {
            weights[t] = mul_unless_0(weights[t], load((const float *)(tiles[t] + scales)));
            largest = larger(weights[t], largest);
        }
        float top = maximum(largest), by = top > 0x1p-100f ? 255.0f / top : 0.0f;
        for (int t = from; t < to; t++)
            weights[t] = mul(weights[t], all(by));
        put_weight_codes(weights, s->weights[r]);
        s->unit[r] = by > 0.0f ? top * (1.0f / 255.0f) : 0.0f;
    }
}

/* ------------------------------------------------------------------------------ bfloat16 -- */

/* A copy of a tile's values (pairs of tokens side by side) with zeros outside [from, to). Says
 * whether a value within, but outside `shared`, is infinite or NaN. */
static int copy_values(const uint8_t *values, int hd, span seen, span shared, uint8_t *copy)
{
    uint32_t met = 0;
    for (int pair = 0; pair < LM_TILE / 2; pair++) {
        uint32_t wanted = 0, risky = 0;
        for (int i = 0; i < 2; i++) {
            int token = 2 * pair + i;
            uint32_t half = (uint32_t)0xffff << (16 * i);
            wanted |= token >= seen.from && token < seen.to ? half : 0;
            risky |= token < shared.from || token >= shared.to ? half : 0;
        }
        risky &= wanted & 0x80008000;
        const uint32_t *from = (const uint32_t *)values + (size_t)pair * hd;
        uint32_t *to = (uint32_t *)copy + (size_t)pair * hd;
        for (int i = 0; i < hd; i++) {
            /* The carry out of an exponent of ones, in both halves. */
            met |= ((from[i] & 0x7f807f80) + 0x00800080) & risky;
            to[i] = from[i] & wanted;
        }
    }
    return met != 0;
}

/* Values of tiles [from, to) of a block that rows seeing `seen`, all of them `shared`, may be
 * multiplied with; 0 where the rows must go one by one. */
static int safe_values(job *j, const uint8_t *const *tiles, int block, int from, int to, span seen,
                       span shared, const uint8_t **values)
{
    size_t offset = (size_t)j->hd * LM_TILE * 2, bytes = offset;
    int ready = same(seen, j->copied_seen) && same(shared, j->copied_shared);
    for (int t = from; t < to; t++) {
        int first = block + t * LM_TILE;
        values[t] = tiles[t] + offset;
        if (shared.from <= first && shared.to >= first + LM_TILE)
            continue;
        span within = {seen.from - first, seen.to - first};
        span by_all = {shared.from - first, shared.to - first};
        uint8_t *copy = j->copies + t * bytes;
        if (!ready && copy_values(values[t], j->hd, within, by_all, copy)) {
            j->copied_seen.to = 0;
            return 0;
        }
        values[t] = copy;
    }
    j->copied_seen = seen;
    j->copied_shared = shared;
    return 1;
}

/* ---------------------------------------------------------------------------------- steps -- */

static void find_tiles(const job *j, int block, int from, int to, const uint8_t **tiles)
{
    for (int t = from; t < to; t++) {
        size_t tile = (size_t)j->table[block / LM_TILE + t];
        tiles[t] = j->cache + (tile * j->a->kv_heads + j->kv_head) * j->tile_bytes;
    }
}

/* Rows [row, row + count) against a block. */
static void step(job *j, int row, int count, int block)
{
    lm_attend_state *s = j->state;
    span low = seen_from(j, s->position[row]), high = seen_from(j, s->position[row + count - 1]);
    span seen = {most(low.from, block), least(high.to, block + LM_BLOCK)};
    span shared = {high.from, low.to};
    if (seen.from >= seen.to)
        return;
    int from = (seen.from - block) / LM_TILE;
    int to = (seen.to - block + LM_TILE - 1) / LM_TILE;
    const uint8_t *tiles[LM_BLOCK_TILES], *values[LM_BLOCK_TILES];
    find_tiles(j, block, from, to, tiles);
    int kv = j->a->kv;
    if (kv == LM_KV_BF16 && !safe_values(j, tiles, block, from, to, seen, shared, values)) {
        for (int r = 0; r < count; r++)
            step(j, row + r, 1, block);
        return;
    }
    const uint8_t *queries = j->queries + (size_t)row * j->hd * LM_QUERY_BYTES(kv);
    float *mixed = j->mixed + (size_t)row * j->hd;
    if (kv == LM_KV_BF16)
        score_block(LM_KV_BF16, count, queries, j->hd, tiles, from, to, s, s->start + row);
    else
        score_block(LM_KV_INT8, count, queries, j->hd, tiles, from, to, s, s->start + row);
    int whole = shared.from <= seen.from / LM_TILE * LM_TILE && shared.to >= block + to * LM_TILE;
    if (!whole || !j->simple)
        finish_scores(j, row, count, block, from * LM_TILE, to * LM_TILE);
    if (kv == LM_KV_BF16) {
        if (to - from == LM_BLOCK_TILES)
            weigh_floats(j, row, count, 0, LM_BLOCK_TILES);
        else
            weigh_floats(j, row, count, from, to);
        mix_block(LM_KV_BF16, count, values, j->hd, from, to, s, mixed);
    } else {
        if (to - from == LM_BLOCK_TILES)
            weigh_codes(j, row, count, 0, LM_BLOCK_TILES, tiles);
        else
            weigh_codes(j, row, count, from, to, tiles);
        for (int t = from; t < to; t++)
            values[t] = tiles[t] + (size_t)j->hd * LM_TILE;
        mix_block(LM_KV_INT8, count, values, j->hd, from, to, s, mixed);
    }
}

static void finish_row(const job *j, int row, float *out)
{
    float sum = total(load(j->state->sums[row]));
    float by = sum == 0.0f ? 0.0f : 1.0f / sum;
    const float *mixed = j->mixed + (size_t)row * j->hd;
    for (int i = 0; i < j->a->head_dim; i++)
        out[i] = mixed[i] * by + 0.0f; /* no negative zeros: what is added could leave either */
}

static job begin(const lm_attention *a, const uint8_t *cache, const int32_t *table, int keys,
                 int kv_head, void *scratch)
{
    job j = {.a = a, .cache = cache, .table = table, .keys = keys, .kv_head = kv_head};
    j.hd = LM_PADDED(a->head_dim);
    j.simple = !(a->softcap > 0) && !a->bias && a->scale > 0;
    j.tile_bytes = (size_t)lm_tile_bytes(a->head_dim, a->kv);
    j.state = scratch;
    j.queries = (uint8_t *)scratch + (sizeof(lm_attend_state) + 63) / 64 * 64;
    j.mixed = (float *)(j.queries + (size_t)LM_ROWS * j.hd * 4);
    j.copies = (uint8_t *)(j.mixed + (size_t)LM_ROWS * j.hd);
    return j;
}

void LM_NAME(attend)(const lm_attention *a, const uint8_t *cache, const int32_t *table, int keys,
                     int position, int count, int kv_head, const float *q, ptrdiff_t q_stride,
                     float *out, ptrdiff_t out_stride, void *scratch)
{
    job j = begin(a, cache, table, keys, kv_head, scratch);
    int group = a->heads / a->kv_heads, rows = count * group;
    for (int row = 0, some; row < rows; row += some) {
        some = least(LM_ROWS, rows - row);
        for (int r = 0; r < some; r++) {
            int token = (row + r) / group, head = (row + r) % group;
            j.state->position[r] = position + token;
            j.state->head[r] = kv_head * group + head;
            prepare_row(&j, r, q + token * q_stride + (ptrdiff_t)head * a->head_dim);
        }
        int first = seen_from(&j, j.state->position[0]).from / LM_BLOCK * LM_BLOCK;
        int end = seen_from(&j, j.state->position[some - 1]).to;
        for (int block = first; block < end; block += LM_BLOCK)
            for (int r = 0; r < some; r += LM_STEP)
                step(&j, r, least(LM_STEP, some - r), block);
        for (int r = 0; r < some; r++) {
            int token = (row + r) / group, head = (row + r) % group;
            finish_row(&j, r, out + token * out_stride + (ptrdiff_t)head * a->head_dim);
        }
    }
}
