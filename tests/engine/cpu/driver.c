/* Runs every op of every path of this processor on made-up numbers of awkward sizes and prints a
 * hash of what each gives: `path op hash`. Built for several processors, whose lines must agree. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lm.h"

static uint32_t state;

static uint32_t next(void)
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

static void *get(size_t bytes)
{
    void *memory = malloc(bytes);
    if (!memory)
        exit(1);
    return memory;
}

/* Between -4 and 4, and now and then a hundred times that. */
static float *floats(size_t n)
{
    float *x = get(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = ((float)(next() >> 8) / 2097152.0f - 4.0f) * (next() % 50 ? 1.0f : 100.0f);
    return x;
}

static uint16_t *halves(size_t n)
{
    uint16_t *x = get(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = (uint16_t)(next() % 0x7c00 | (next() & 0x8000));
    return x;
}

static uint64_t hash(uint64_t so_far, const void *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        so_far = (so_far ^ ((const uint8_t *)data)[i]) * 1099511628211u;
    return so_far;
}

static void say(const char *path, const char *op, uint64_t value)
{
    printf("%s %s %016llx\n", path, op, (unsigned long long)value);
}

/* What a matrix has beside codes and a scale for each group. */
enum { MINS = 1, DOUBLE = 2, CODEBOOK = 4, ORDER = 8, SCHEMES = 16 };

static void *bytes_of(size_t n)
{
    uint8_t *x = get(n);
    for (size_t i = 0; i < n; i++)
        x[i] = (uint8_t)(next() >> 7);
    return x;
}

/* Any permutation. */
static int32_t *order_of(int n)
{
    int32_t *order = get((size_t)n * sizeof *order);
    for (int i = 0; i < n; i++) {
        int j = (int)(next() % (unsigned)(i + 1));
        order[i] = order[j];
        order[j] = i;
    }
    return order;
}

static lm_matrix matrix(int rows, int cols, int group, int bits, int scheme)
{
    lm_matrix w = {.rows = rows, .panels = (rows + 15) / 16, .cols = cols, .group = group,
                   .groups = (cols + group - 1) / group, .bits = bits,
                   .superblock = scheme & DOUBLE ? 3 : 1};
    size_t parts = (size_t)w.panels * w.groups;
    size_t blocks = (size_t)w.panels * ((w.groups + w.superblock - 1) / w.superblock);
    w.codes = bytes_of(parts * group * 16 * bits / 8);
    w.scales = halves(blocks * 16);
    w.mins = scheme & MINS ? halves(blocks * 16) : NULL;
    w.scale_codes = scheme & DOUBLE ? bytes_of(parts * 16) : NULL;
    w.min_codes = scheme & DOUBLE && w.mins ? bytes_of(parts * 16) : NULL;
    w.codebook = scheme & CODEBOOK ? bytes_of(16) : NULL;
    w.order = scheme & ORDER ? order_of(cols) : NULL;
    w.zero = scheme & MINS ? 0 : bits == 4 && !w.codebook ? 8 : 128;
    return w;
}

static void products(const lm_path *path, int group, int bits, int scheme)
{
    static const int sizes[][3] = {{1, 1, 1}, {2, 17, 100}, {5, 40, 64}, {7, 16, 333}, {33, 5, 31},
                                   {20, 33, 600}};
    uint64_t given = 0, acts_hash = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int rows = sizes[i][0];
        lm_matrix w = matrix(sizes[i][1], sizes[i][2], group, bits, scheme);
        size_t parts = (size_t)rows * w.groups, wide = (size_t)w.panels * 16;
        lm_acts acts = {get(parts * group), get(parts * 4), get(parts * 4), get(parts * 4)};
        float *x = floats((size_t)rows * w.cols), *out = get(rows * wide * 4);
        for (int r = 0; r < rows; r++)
            path->quantize(x + (size_t)r * w.cols, &w, &acts, r);
        path->multiply(&w, 0, w.panels, &acts, 0, rows, out, (ptrdiff_t)wide);
        acts_hash = hash(acts_hash, acts.codes, parts * group);
        acts_hash = hash(acts_hash, acts.scales, parts * 4);
        acts_hash = hash(acts_hash, acts.offsets, parts * 4);
        acts_hash = hash(acts_hash, acts.sums, parts * 4);
        given = hash(given, out, rows * wide * 4);
        void *all[] = {acts.codes, acts.scales, acts.offsets, acts.sums, x, out,
                       (void *)w.codes, (void *)w.scales, (void *)w.mins,
                       (void *)w.scale_codes, (void *)w.min_codes, (void *)w.codebook,
                       (void *)w.order};
        for (size_t j = 0; j < sizeof all / sizeof *all; j++)
            free(all[j]);
    }
    char op[64];
    snprintf(op, sizeof op, "quantize-%d-%d-%d", group, bits, scheme);
    say(path->name, op, acts_hash);
    snprintf(op, sizeof op, "multiply-%d-%d-%d", group, bits, scheme);
    say(path->name, op, given);
}

static void rows(const lm_path *path, int n)
{
    int wide = (n + LM_PANEL - 1) / LM_PANEL * LM_PANEL * 2;
    float *x = floats(n), *y = floats(n), *product = floats(wide), *out = get(n * sizeof *out);
    char op[64];
    path->rms_norm(x, y, n, 1e-6f, 1, out);
    uint64_t found = hash(0, out, n * 4);
    path->layer_norm(x, y, x, n, 1e-6f, out);
    found = hash(found, out, n * 4);
    snprintf(op, sizeof op, "norms-%d", n);
    say(path->name, op, found);
    for (int kind = LM_SILU; kind <= LM_QUICK_GELU; kind++) {
        path->activate(kind, x, n, out);
        found = hash(0, out, n * 4);
        lm_after after = {.bias = y, .base = x, .out = out, .act = kind};
        path->finish(&after, product, n, 1, n);
        found = hash(found, out, n * 4);
        after = (lm_after){.bias = y, .up_bias = x, .out = out, .act = kind, .paired = 1};
        path->finish(&after, product, wide, 1, n);
        snprintf(op, sizeof op, "activation-%d-%d", kind, n);
        say(path->name, op, hash(found, out, n * 4));
    }
    path->rotate(x, y, out, n / 2 * 2);
    snprintf(op, sizeof op, "rotate-%d", n);
    say(path->name, op, hash(0, x, n * 4));
    free(x), free(y), free(product), free(out);
}

static void attention(const lm_path *path, int kv, int head_dim, int tokens, float softcap)
{
    lm_attention a = {.heads = 6, .kv_heads = 2, .head_dim = head_dim, .causal = 1, .window = 40,
                      .kv = kv, .scale = 0.1f, .softcap = softcap};
    int num_tiles = (tokens + 15) / 16;
    size_t tile = (size_t)lm_tile_bytes(head_dim, kv), wide = (size_t)head_dim * 6;
    uint8_t *cache = aligned_alloc(64, num_tiles * 2 * tile);
    void *scratch = aligned_alloc(64, (lm_attend_scratch(&a) + 63) / 64 * 64);
    int32_t *table = get(num_tiles * sizeof *table);
    if (!cache || !scratch)
        exit(1);
    memset(cache, 0, num_tiles * 2 * tile);
    for (int i = 0; i < num_tiles; i++)
        table[i] = num_tiles - 1 - i;
    float *q = floats(tokens * wide), *out = get(tokens * wide * 4);
    for (int t = 0; t < tokens; t++)
        for (int h = 0; h < 2; h++) {
            float *k = floats(head_dim), *v = floats(head_dim);
            path->store(&a, k, v, cache + (table[t / 16] * 2 + h) * tile, t % 16);
            free(k), free(v);
        }
    for (int h = 0; h < 2; h++)
        path->attend(&a, cache, table, tokens, 0, tokens, h, q + h * 3 * head_dim, (ptrdiff_t)wide,
                     out + h * 3 * head_dim, (ptrdiff_t)wide, scratch);
    char op[64];
    snprintf(op, sizeof op, "store-%d-%d-%d", kv, head_dim, tokens);
    say(path->name, op, hash(0, cache, num_tiles * 2 * tile));
    snprintf(op, sizeof op, "attend-%d-%d-%d", kv, head_dim, tokens);
    say(path->name, op, hash(0, out, tokens * wide * 4));
    free(cache), free(scratch), free(table), free(q), free(out);
}

int main(void)
{
    const char *name;
    for (int i = 0; (name = lm_available(i)); i++) {
        lm_select(name);
        const lm_path *path = lm_path_now();
        state = 2463534242u;
        for (int scheme = 0; scheme < SCHEMES; scheme++)
            for (int group = 16; group <= LM_GROUP; group += group < 64 ? group : 64) {
                if (!(scheme & CODEBOOK))
                    products(path, group, 8, scheme);
                if (!(scheme & CODEBOOK && scheme & MINS))
                    products(path, group, 4, scheme);
            }
        for (int n = 1; n < 400; n = n * 5 / 2 + 1)
            rows(path, n);
        for (int kv = LM_KV_BF16; kv <= LM_KV_INT8; kv++)
            for (int tokens = 1; tokens < 100; tokens = tokens * 4 + 3)
                attention(path, kv, tokens % 8 ? 20 : 64, tokens, tokens > 30 ? 5.0f : 0.0f);
    }
    return 0;
}
