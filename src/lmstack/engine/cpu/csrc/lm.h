/* The contract of the native kernels: what a matrix, a row of activations, a cache tile and a
 * processor path are. README.md in this folder leads from an op to its instructions.
 *
 * Two rules make a result independent of batch, chunk size and threads:
 * 1. integer sums are exact, whatever their order;
 * 2. every floating-point reduction of a row runs in one thread, in an order that is a function
 *    of that row alone.
 */
#ifndef LM_H
#define LM_H

#include <stddef.h>
#include <stdint.h>

#define LM_PANEL 16  /* outputs of a matrix that lie side by side */
#define LM_TILE 16   /* tokens of a cache tile */
#define LM_GROUP 256 /* most inputs of a group, a multiple of 64 beyond that */

/* -- matrices ----------------------------------------------------------------------------------
 * weight[o][order[k]] = scale[o][g] * (code[o][k] - zero) + min[o][g],    g = k / group
 * scale[o][g] = scales[o][g / superblock] * scale_codes[o][g]
 * min[o][g] = mins[o][g / superblock] * min_codes[o][g]
 *
 * Where a pointer is NULL: codes of scales and mins are 1, mins 0, order[k] is k. Both products
 * are exact in float. With a codebook a 4-bit code is codebook[nibble], and all that follows is
 * what 8-bit codes with zero 128 meet. With lines it is slope * nibble + start, from 0 to 255, of
 * the line of its half of the group; `expanded` holds these codes in the layout of 8 bits, or is
 * NULL: to be unpacked where they are wanted.
 *
 * Outputs are cut into panels of 16, inputs into groups, padded with zero weights. Per panel and
 * group, at (panel * groups + g):
 *   8 bits: group / 4 steps of 64 bytes; step s holds [16 outputs][4 inputs], inputs 4s to 4s + 3
 *   4 bits: group / 8 steps of 64 bytes; byte b of step s holds in its low nibble what step s of
 *           the 8-bit layout holds at b, in its high nibble what step s + group / 8 holds
 *   codes of scales and mins: 16 signed bytes
 *   lines: 16 slopes of the first half of the group's inputs, 16 of the second, then of each
 *           output the start of the first and of the second
 * Scales and mins: 16 float16 per panel and super-block. A matrix with `paired` has two halves of
 * rows (gate, up); panels alternate: gate's first, up's first, gate's second, ... Each half is
 * padded to whole panels. */
typedef struct {
    const uint8_t *codes;
    const uint16_t *scales; /* float16 */
    const uint16_t *mins;   /* float16, or NULL */
    const int8_t *scale_codes, *min_codes; /* or NULL */
    const uint8_t *codebook; /* [16], or NULL */
    const uint8_t *lines;    /* or NULL */
    const uint8_t *expanded; /* or NULL */
    const int32_t *order;    /* [cols], or NULL */
    int32_t rows;            /* real outputs */
    int32_t panels;
    int32_t cols;   /* real inputs */
    int32_t groups; /* ceil(cols / group) */
    int32_t group;  /* 16, 32, 64 or more 64s up to LM_GROUP */
    int32_t bits;   /* 4 or 8 */
    int32_t zero;   /* 128; 8 with 4 bits and neither codebook nor lines; 0 where there are mins */
    int32_t paired;
    int32_t superblock; /* groups that share a scale and a min, at least 1 */
} lm_matrix;

/* Where the scales and mins of a group of a panel lie: those of its super-block, and its codes. */
typedef struct {
    ptrdiff_t shared, own;
    int32_t left; /* groups of the super-block, this one included */
} lm_scales_at;

/* Whether each group has a float16 scale of its own, and that is all: a loop that knows it is
 * some percent faster. */
static inline int lm_plain_scales(const lm_matrix *w)
{
    return w->superblock == 1 && !w->scale_codes && !w->min_codes;
}

static inline lm_scales_at lm_scales_of(const lm_matrix *w, ptrdiff_t panel, int32_t group)
{
    int32_t blocks = (w->groups + w->superblock - 1) / w->superblock;
    int32_t block = group / w->superblock;
    return (lm_scales_at){(panel * blocks + block) * LM_PANEL,
                          (panel * w->groups + group) * LM_PANEL,
                          w->superblock - (group - block * w->superblock)};
}

/* To the next group of the same panel. */
static inline void lm_next_scales(const lm_matrix *w, lm_scales_at *at)
{
    at->own += LM_PANEL;
    if (--at->left == 0) {
        at->shared += LM_PANEL;
        at->left = w->superblock;
    }
}

/* -- activations -------------------------------------------------------------------------------
 * A row quantized for one matrix, its columns in the order of the matrix: per group x ~ scale *
 * code, code in [-127, 127], scale = max|x| / 127 (all zero: scale 0), rounded to nearest even.
 * Padding is 0. */
typedef struct {
    int8_t *codes;    /* [rows][groups * group] */
    float *scales;    /* [rows][groups] */
    int32_t *offsets; /* [rows][groups]: -zero * sum of the codes, what an integer sum starts at */
    float *sums;      /* [rows][groups]: scale * sum of the codes, what a min is multiplied by */
    int32_t *halves;  /* [rows][groups], of a matrix with lines: the sum of the codes of the first
                         half of the group in the low 16 bits, of the second in the high ones */
} lm_acts;

/* -- adapters ----------------------------------------------------------------------------------
 * What a LoRA adapter adds to the product of one matrix with a row x: up . (down . x). Its terms,
 * one for each projection, lie side by side, each with `ranks` ranks, zeros among them.
 *   down: a matrix of 8 bits in groups of the base's, so that it takes the same activations
 *   low = down . x is rounded to bytes again, each term by itself: scale = max|low| / 127
 *   up: a part for each panel of a term: bfloat16 scales [16], then codes [ranks / 4][16 outputs]
 *       [4 ranks], whose zero is 128
 *   gains, of DoRA: 16 a part, which the product is multiplied by; NULL: none */
typedef struct {
    int32_t first, end, step; /* its panels, every one or every other */
    int32_t part;             /* that of the first */
} lm_delta_term;

typedef struct {
    lm_matrix down; /* no panels: nothing is added */
    const uint8_t *up;
    const float *gains;
    const lm_delta_term *terms;
    int32_t num_terms, ranks; /* ranks: a multiple of 4 */
} lm_delta;

/* A row of `low`: signed codes at the place of `down.panels` panels of floats, and behind it for
 * each term: */
typedef struct {
    float scale;
    int32_t offset; /* -128 * sum of the codes */
} lm_low;

/* -- the KV cache ------------------------------------------------------------------------------
 * A tile holds 16 consecutive tokens of one KV head: keys, then values. hd is head_dim rounded up
 * to 16, the padding zero. A tile's bytes are a multiple of 64.
 *   bfloat16: keys [hd / 2][16 tokens][2 channels], values [16 / 2][hd channels][2 tokens]
 *   int8: keys [hd / 4][16 tokens][4 channels], values [16 / 4][hd channels][4 tokens], then
 *         float key_scales[16], value_scales[16]: max|x| / 127 of that token and head
 * A layer's cache is [tiles][kv_heads][tile bytes]; token i of a sequence is in tile
 * table[i / 16], place i % 16. Cross-attention and encoders use the same tiles. */
enum { LM_KV_BF16 = 0, LM_KV_INT8 = 1 };

typedef struct {
    int32_t heads, kv_heads, head_dim;
    int32_t causal;
    int32_t window; /* 0: none; else a query at i sees keys j with |i - j| < window */
    int32_t kv;     /* LM_KV_... */
    float scale;
    float softcap; /* 0: none; else tanh(score / softcap) * softcap, after the scale */
    /* Added to scores (after the softcap): bias[head * (2 * reach + 1) + clamp(j - i, -reach,
     * reach) + reach]; NULL: none. */
    const float *bias;
    int32_t reach;
} lm_attention;

/* -- one path ----------------------------------------------------------------------------------
 * What a processor does in its own way. All paths give the same integers; all but the bfloat16
 * products give the same floats too, by fused multiply-adds in a fixed order. */
enum { LM_NO_ACT = -1, LM_SILU, LM_GELU, LM_GELU_TANH, LM_RELU, LM_TANH, LM_QUICK_GELU };

/* What follows a product: out = [base +] act(product + bias), or, where its panels are `paired`,
 * [base +] act(gate + bias) * (up + up_bias). Pointers are to the first row and column; NULL: no
 * such part. */
typedef struct {
    const float *bias, *up_bias, *base;
    float *out;
    ptrdiff_t base_stride, out_stride;
    int32_t act, paired;
} lm_after;

typedef struct {
    const char *name;
    /* Up to how many rows `multiply` takes a matrix with lines as it is, fewer bytes for more
     * instructions; 0: it never does. */
    int32_t line_rows;
    /* out[(r - row) * stride + (p - panel) * 16 + lane] for panels [panel, end) and rows
     * [row, row + count); everything a panel computes is written, padding too. */
    void (*multiply)(const lm_matrix *w, int panel, int end, const lm_acts *x, int row, int count,
                     float *out, ptrdiff_t stride);
    /* Panels [panel, end) of a matrix with lines as codes of 8 bits. */
    void (*unpack)(const lm_matrix *w, int panel, int end, uint8_t *codes);
    /* One row: x (cols) into row `row` of acts laid out for w. */
    void (*quantize)(const float *x, const lm_matrix *w, lm_acts *acts, int row);
    /* x / sqrt(mean(x^2) + eps) * (weight [+ 1 if from_one]); in place allowed. */
    void (*rms_norm)(const float *x, const float *weight, int n, float eps, int from_one,
                     float *out);
    void (*layer_norm)(const float *x, const float *weight, const float *bias, int n, float eps,
                       float *out);
    void (*activate)(int kind, const float *x, int n, float *out);
    /* `rows` rows of a product, `stride` apart, into n columns: whole panels but the last. */
    void (*finish)(const lm_after *a, const float *product, ptrdiff_t stride, int rows, int n);
    /* Rows [row, row + count) by down, rounded: `lm_low`, `stride` floats apart. The activations'
     * zero is 128. */
    void (*shrink)(const lm_delta *d, const lm_acts *x, int row, int count, float *low,
                   ptrdiff_t stride);
    /* out[r * stride + (p - panel) * 16 + lane] += up . low for panels [panel, end). `next`: whose
     * numbers are wanted for the same panels soon; or NULL. */
    void (*expand)(const lm_delta *d, const lm_delta *next, int panel, int end, const float *low,
                   ptrdiff_t low_stride, int rows, float *out, ptrdiff_t stride);
    /* n channels of a head, as lmstack.model's rotary: x * cos + swapped halves * sin. */
    void (*rotate)(float *x, const float *cos, const float *sin, int n);
    /* Keys and values of one token and head into place `place` of a tile. */
    void (*store)(const lm_attention *a, const float *k, const float *v, uint8_t *tile, int place);
    /* Queries of `count` consecutive tokens at positions `position` ... of one sequence, the
     * heads / kv_heads heads that share KV head `kv_head`: q and out point at the first of them
     * for the first token; a token's heads lie head_dim apart, tokens `q_stride` and `out_stride`
     * apart. Keys are `keys` tokens (for causal ones a query sees those up to its own position).
     * cache: the layer's. scratch: at least attend_scratch() bytes, 64-aligned. */
    void (*attend)(const lm_attention *a, const uint8_t *cache, const int32_t *table, int keys,
                   int position, int count, int kv_head, const float *q, ptrdiff_t q_stride,
                   float *out, ptrdiff_t out_stride, void *scratch);
} lm_path;

int32_t lm_tile_bytes(int32_t head_dim, int32_t kv);
size_t lm_attend_scratch(const lm_attention *a);

/* NULL where this build or this processor has it not. */
const lm_path *lm_path_portable(void);
const lm_path *lm_path_avx2(void);
const lm_path *lm_path_avx512(void); /* with VNNI and BF16 */
const lm_path *lm_path_amx(void);
const lm_path *lm_path_neon(void);

/* -- exported to Python ------------------------------------------------------------------------
 * lm_select(name): use that path from now on, 0; -1 where it is missing. NULL: the best one.
 * lm_selected(): the name of the path in use. lm_available(i): name of the i-th, best first, or
 * NULL. lm_path_now(): the path in use. */
int32_t lm_select(const char *name);
const char *lm_selected(void);
const char *lm_available(int32_t index);
const lm_path *lm_path_now(void);

#endif
