/* A forward pass as a list of ops, and what one step of it needs. lowering.py writes it. */
#ifndef LM_PROGRAM_H
#define LM_PROGRAM_H

#include "lm.h"
#include "team.h"

enum {
    LM_OP_EMBED,   /* out = row of a table, for each id of stream `stream` */
    LM_OP_NORM,    /* out = norm(in), each of `inner` neighbouring parts by itself */
    LM_OP_LINEAR,  /* out = [other +] act([norm](in) . matrix + bias) */
    LM_OP_ADD,     /* out = in + other */
    LM_OP_SHIFT,   /* out = in + bias */
    LM_OP_SCALE,   /* out = in * a */
    LM_OP_CLAMP,   /* out = min(max(in, a), b) */
    LM_OP_SOFTCAP, /* out = tanh(in / a) * a */
    LM_OP_ACT,     /* out = act(in) */
    LM_OP_COPY,    /* out = in */
    LM_OP_STORE,   /* rotates queries (in) and keys (other) in place, caches keys and values */
    LM_OP_ATTEND,  /* out = attention of the queries in `in` over the cache */
    LM_OP_CROSS,   /* the same over the encoder's part of the cache */
};

enum { LM_STREAM_IDS, LM_STREAM_POSITIONS, LM_STREAM_TYPES };

/* Which norm an op does, or does first: weight in `norm_weight`, bias in `norm_bias`. */
enum { LM_NORM_NONE, LM_NORM_RMS, LM_NORM_RMS_FROM_ONE, LM_NORM_LAYER };

/* A buffer has a row for each token: of `width` floats, a multiple of 16. A local one lives
 * within a tile of rows only, at column `at` of the tile's own memory. */
typedef struct {
    int32_t width, local;
    int64_t at; /* floats, from the start of a local row group or of all rows, a row's worth */
} lm_buffer;

typedef struct {
    int32_t kind, norm, act, inner;     /* act: -1 none; inner: parts, heads */
    int32_t in, other, third, out;      /* buffers; -1 none */
    int32_t in_at, other_at, third_at, out_at; /* first columns */
    int32_t cols, matrix, layer, stream;
    int32_t rope, offset; /* rope: index of tables, -1 none; offset: added to ids of a stream */
    float eps, a, b;
    int32_t table_cols; /* of a float table in an EMBED without a matrix */
    const float *norm_weight, *norm_bias, *bias, *table;
} lm_op;

/* One sequence of a step: rows [row, row + count) are its tokens from place `start` on. What comes
 * out is wanted of the last `wanted` of them: of the others it may be anything. */
typedef struct {
    int32_t row, count, start, cross_keys, wanted, padding;
    const int32_t *table, *cross_table; /* cache tiles */
} lm_span;

typedef struct {
    int32_t num_ops, num_buffers, num_matrices, num_layers;
    int64_t row_floats, local_floats; /* memory of a row: of all buffers of each kind */
    int32_t in_buffer, out_buffer;    /* the step's own memory; -1 none */
    const lm_op *ops;
    const lm_buffer *buffers;
    const lm_matrix *matrices;
    const lm_attention *layers; /* for each layer, then the same for cross-attention */
} lm_program;

typedef struct {
    int32_t rows, num_spans;
    const int32_t *ids, *positions, *types; /* types may be NULL: all 0 */
    const lm_span *spans;
    uint8_t *cache;
    int64_t layer_bytes;        /* from one layer's cache to the next; 0: all share one */
    const float *const *cosines; /* of each rope: [positions][rotary width] */
    const float *const *sines;
    const int32_t *rotary_widths;
    const float *in; /* rows of in_buffer and out_buffer, their strides in floats */
    float *out;
    int64_t in_stride, out_stride;
    /* Of each row its adapter, -1 none; NULL: of all. An adapter has a delta for each matrix of
     * the program; none makes more than `low_floats` of a row. */
    const int32_t *adapter_of;
    const lm_delta *const *adapters;
    int64_t low_floats;
} lm_step;

/* 0, or -1 when memory runs out. */
int32_t lm_run(lm_team *team, const lm_program *program, const lm_step *step);

#endif
