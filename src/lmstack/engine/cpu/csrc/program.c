/* Runs a program: every thread walks the same list of ops, takes pieces of each, and waits for the
 * others at its end. Ops between two attentions go through the rows a tile at a time, so that what
 * they hand on stays in the cache.
 *
 * No result depends on how rows fall into tiles or which thread takes what: see lm.h. */
#include "program.h"

#include <string.h>

enum {
    SLAB_PANELS = 8,  /* of a product that a thread has at hand, for all rows of a tile */
    WIDE_SLAB = 48,   /* the same with adapters, which are read faster the more of one at a time */
    MOST_PANELS = 96, /* the same for fewer rows: as much memory, so that streams are longer */
    TILE_ROWS = 128,     /* rows that go through a segment together */
    ROW_BLOCK = 4,       /* rows that most paths multiply together */
    OWN_ROWS = 12,      /* from so many for each thread on, every thread takes tiles of its own */
    ALONE_ROWS = 2,     /* up to here every thread prepares all rows itself: dearer is a barrier */
    QUERY_TOKENS = 32,  /* tokens of a prompt whose attention is one piece of work */
    PIECES_A_THREAD = 8, /* of a product: enough that no thread waits long for another */
    ROWS_A_PIECE = 4,    /* of an op on rows */
    FEW_TIMES = 4,       /* as often codes on lines are read rather than unpacked for one tile */
    TOGETHER = 2,        /* panels that are unpacked, then multiplied */
    MOST_STRETCHES = 4   /* of wanted rows: more of them are no faster than all rows */
};

typedef struct {
    int32_t span, first, count, head;
} piece;

/* Rows side by side. */
typedef struct {
    int first, count;
} stretch;

typedef struct {
    const lm_program *program;
    const lm_step *step;
    const lm_path *path;
    float *all, *local;  /* buffers of all rows; of a tile: shared, then one a thread */
    float *slabs;        /* a product's part, before what follows it; one a thread */
    size_t local_floats, slab_floats;
    uint8_t *acts_memory; /* quantized rows, and behind them what adapters make of each: shared,
                             then one a thread */
    size_t acts_bytes;
    uint8_t *scratch; /* attention's, one a thread */
    size_t scratch_bytes;
    uint8_t *unpacked; /* two panels of codes that are on lines, one a thread */
    size_t unpacked_bytes;
    int32_t *span_of; /* of each row */
    piece *pieces, *last_pieces; /* of attention: of all rows, of those that are wanted */
    int num_pieces, num_last_pieces;
    stretch wanted[MOST_STRETCHES];
    int num_wanted;
} run;

/* A tile of rows on its way through a segment. All threads share one where there are few rows.
 * Else each has its own: rows that stay on a core need not be fetched by another, and nobody waits
 * before the segment's end. */
typedef struct {
    const run *run;
    lm_team *team; /* NULL: this thread alone */
    int thread, threads;
    int taken; /* pieces of the op at work, of a thread alone */
    int first, rows;
    float *local;
} tile;

/* Rows [first, end) of a tile, and what their adapter adds; NULL: nothing. */
typedef struct {
    const lm_delta *delta;
    int first, end;
} adapted;

/* Rows on their way into a product. `thin`: the same for the matrices of adapters, whose offsets
 * may be others; `low`: what these make of the rows. */
typedef struct {
    lm_acts acts, thin;
    float *low;
    adapted parts[TILE_ROWS]; /* of all rows, in order */
    int num_parts;
} quantized;

static int least(int a, int b) { return a < b ? a : b; }

static int most(int a, int b) { return a > b ? a : b; }

static int slab_panels(const lm_step *s) { return s->adapter_of ? WIDE_SLAB : SLAB_PANELS; }

static int pieces_of(int whole, int size) { return (whole + size - 1) / size; }

/* The next of an op's pieces that is this thread's; -1 when none is left. */
static int next_piece(tile *t, int count) {
    if (t->team) return lm_team_take(t->team, t->thread, count);
    return t->taken < count ? t->taken++ : -1;
}

static void op_done(tile *t) {
    t->taken = 0;
    if (t->team) lm_team_wait(t->team);
}

/* `t`: NULL for a buffer of all rows. */
static float *place(const run *r, const tile *t, int buffer, int at, int row, int64_t *stride) {
    const lm_program *p = r->program;
    if (buffer == p->out_buffer && r->step->out) {
        *stride = r->step->out_stride;
        return r->step->out + row * *stride + at;
    }
    if (buffer == p->in_buffer && r->step->in) {
        *stride = r->step->in_stride;
        return (float *)r->step->in + row * *stride + at;
    }
    const lm_buffer *b = &p->buffers[buffer];
    *stride = b->width;
    if (b->local) return t->local + b->at * TILE_ROWS + (row - t->first) * *stride + at;
    return r->all + b->at * r->step->rows + row * *stride + at;
}

/* -- ops that treat each row by itself ------------------------------------------------------- */

static void apply_norm(const run *r, const lm_op *op, const float *x, int n, float *out) {
    if (op->norm == LM_NORM_LAYER)
        r->path->layer_norm(x, op->norm_weight, op->norm_bias, n, op->eps, out);
    else
        r->path->rms_norm(x, op->norm_weight, n, op->eps, op->norm == LM_NORM_RMS_FROM_ONE, out);
}

static float half_to_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, e = (h >> 10) & 31, m = h & 1023, bits;
    float f;
    if (e == 0) {
        f = (float)m * 0x1p-24f;
        return sign ? -f : f;
    }
    bits = sign | (e == 31 ? 0x7f800000u : (e + 112) << 23) | m << 13;
    memcpy(&f, &bits, 4);
    return f;
}

static float scale_of(const uint16_t *shared, const int8_t *codes, lm_scales_at at, int lane) {
    return half_to_float(shared[at.shared + lane]) * (codes ? (float)codes[at.own + lane] : 1);
}

/* The code of 8 bits that a nibble is, column k of a group whose lines these are. */
static int on_line(const uint8_t *lines, int lane, int group, int k, int nibble) {
    int half = k >= group / 2;
    return lines[half * LM_PANEL + lane] * nibble + lines[2 * LM_PANEL + 2 * lane + half];
}

/* Row `id` of a quantized table. */
static void dequantize_row(const lm_matrix *w, int id, float *out) {
    int panel = id / LM_PANEL, lane = id % LM_PANEL, steps = w->group / (w->bits == 8 ? 4 : 8);
    lm_scales_at at = lm_scales_of(w, panel, 0);
    for (int g = 0; g < w->groups; g++, lm_next_scales(w, &at)) {
        const uint8_t *codes = w->codes + ((int64_t)panel * w->groups + g) * steps * 64;
        const uint8_t *lines = w->lines ? w->lines + ((int64_t)panel * w->groups + g) * 64 : NULL;
        float scale = scale_of(w->scales, w->scale_codes, at, lane);
        float min = w->mins ? scale_of(w->mins, w->min_codes, at, lane) : 0;
        int end = w->cols - g * w->group < w->group ? w->cols - g * w->group : w->group;
        for (int k = 0; k < end; k++) {
            int step = k / 4, code, column = g * w->group + k;
            if (w->bits == 8)
                code = codes[step * 64 + lane * 4 + k % 4];
            else if (step < steps)
                code = codes[step * 64 + lane * 4 + k % 4] & 15;
            else
                code = codes[(step - steps) * 64 + lane * 4 + k % 4] >> 4;
            if (w->codebook) code = w->codebook[code];
            if (lines) code = on_line(lines, lane, w->group, k, code);
            if (w->order) column = w->order[column];
            out[column] = scale * (float)(code - w->zero) + min;
        }
    }
}

static void embed(const tile *t, const lm_op *op, int row) {
    const run *r = t->run;
    const lm_step *s = r->step;
    int64_t stride;
    float *out = place(r, t, op->out, op->out_at, row, &stride);
    const int32_t *stream = op->stream == LM_STREAM_IDS         ? s->ids
                            : op->stream == LM_STREAM_POSITIONS ? s->positions
                                                                : s->types;
    int id = (stream ? stream[row] : 0) + op->offset;
    if (op->matrix >= 0)
        dequantize_row(&r->program->matrices[op->matrix], id, out);
    else
        memcpy(out, op->table + (int64_t)id * op->table_cols, sizeof(float) * (size_t)op->cols);
}

/* Queries and keys of a row rotated, keys and values put in the cache. */
static void store(const tile *t, const lm_op *op, int row) {
    const run *r = t->run;
    const lm_step *s = r->step;
    const lm_attention *a = &r->program->layers[op->layer];
    const lm_span *span = &s->spans[r->span_of[row]];
    int64_t stride;
    float *q = place(r, t, op->in, op->in_at, row, &stride);
    float *k = place(r, t, op->other, op->other_at, row, &stride);
    float *v = place(r, t, op->third, op->third_at, row, &stride);
    if (op->rope >= 0) {
        int width = s->rotary_widths[op->rope];
        const float *cosine = s->cosines[op->rope] + (int64_t)s->positions[row] * width;
        const float *sine = s->sines[op->rope] + (int64_t)s->positions[row] * width;
        for (int h = 0; h < a->heads; h++)
            r->path->rotate(q + h * a->head_dim, cosine, sine, width);
        for (int h = 0; h < a->kv_heads; h++)
            r->path->rotate(k + h * a->head_dim, cosine, sine, width);
    }
    int position = span->start + row - span->row;
    int64_t bytes = lm_tile_bytes(a->head_dim, a->kv);
    uint8_t *tile = s->cache + op->layer * s->layer_bytes +
                    span->table[position / LM_TILE] * bytes * a->kv_heads;
    for (int h = 0; h < a->kv_heads; h++)
        r->path->store(a, k + h * a->head_dim, v + h * a->head_dim, tile + h * bytes,
                       position % LM_TILE);
}

static void elementwise(const tile *t, const lm_op *op, int row) {
    const run *r = t->run;
    int64_t stride;
    int n = op->cols;
    float *out = place(r, t, op->out, op->out_at, row, &stride);
    const float *x = place(r, t, op->in, op->in_at, row, &stride);
    const float *y = op->other >= 0 ? place(r, t, op->other, op->other_at, row, &stride) : NULL;
    switch (op->kind) {
    case LM_OP_NORM:
        for (int i = 0; i < op->inner; i++)
            apply_norm(r, op, x + i * (n / op->inner), n / op->inner, out + i * (n / op->inner));
        break;
    case LM_OP_ADD:
        for (int i = 0; i < n; i++) out[i] = x[i] + y[i];
        break;
    case LM_OP_SHIFT:
        for (int i = 0; i < n; i++) out[i] = x[i] + op->bias[i];
        break;
    case LM_OP_SCALE:
        for (int i = 0; i < n; i++) out[i] = x[i] * op->a;
        break;
    case LM_OP_CLAMP:
        for (int i = 0; i < n; i++) out[i] = x[i] < op->a ? op->a : x[i] > op->b ? op->b : x[i];
        break;
    case LM_OP_SOFTCAP:
        for (int i = 0; i < n; i++) out[i] = x[i] / op->a;
        r->path->activate(LM_TANH, out, n, out);
        for (int i = 0; i < n; i++) out[i] *= op->a;
        break;
    case LM_OP_ACT:
        r->path->activate(op->act, x, n, out);
        break;
    case LM_OP_COPY:
        memmove(out, x, sizeof(float) * (size_t)n);
        break;
    default:
        break;
    }
}

static void one_row(const tile *t, const lm_op *op, int row) {
    if (op->kind == LM_OP_EMBED)
        embed(t, op, row);
    else if (op->kind == LM_OP_STORE)
        store(t, op, row);
    else
        elementwise(t, op, row);
}

/* -- products -------------------------------------------------------------------------------- */

static size_t up64(size_t n) { return (n + 63) & ~(size_t)63; }

/* Where `rows` quantized rows for `w` lie in `memory`. */
static lm_acts acts_in(uint8_t *memory, const lm_matrix *w, int rows) {
    size_t groups = (size_t)w->groups * (size_t)rows;
    lm_acts acts = {.codes = (int8_t *)memory};
    memory += up64(groups * (size_t)w->group);
    acts.scales = (float *)memory;
    memory += up64(groups * 4);
    acts.offsets = (int32_t *)memory;
    memory += up64(groups * 4);
    acts.sums = (float *)memory;
    memory += up64(groups * 4);
    acts.halves = (int32_t *)memory;
    return acts;
}

static size_t acts_size(const lm_matrix *w, int rows) {
    size_t groups = (size_t)w->groups * (size_t)rows;
    return up64(groups * (size_t)w->group) + 4 * up64(groups * 4);
}

/* The same for what adapters need of them: other offsets, and room for what they make of them. */
static size_t adapted_size(const run *r, const lm_matrix *w, int rows) {
    size_t low_floats = (size_t)r->step->low_floats;
    return up64((size_t)rows * (size_t)w->groups * 4) + up64((size_t)rows * low_floats * 4);
}

/* The rows of the tile, cut where the adapter changes. Gives the number of `parts`. */
static int by_adapter(const tile *t, const lm_op *op, adapted *parts) {
    const lm_step *s = t->run->step;
    int made = 0;
    for (int i = 0, before = -1; i < t->rows; i++) {
        int adapter = s->adapter_of ? s->adapter_of[t->first + i] : -1;
        if (!made || adapter != before) {
            const lm_delta *delta = adapter < 0 ? NULL : &s->adapters[adapter][op->matrix];
            parts[made++] = (adapted){delta && delta->down.panels ? delta : NULL, i, i};
            before = adapter;
        }
        parts[made - 1].end = i + 1;
    }
    return made;
}

/* Rows [i, end) of the tile, normed where the op says so (in `normed`, one at a time), quantized,
 * and the first half of what adapters make of them. */
static void prepare(const tile *t, const lm_op *op, quantized *x, int i, int end, float *normed) {
    const run *r = t->run;
    const lm_matrix *w = &r->program->matrices[op->matrix];
    lm_matrix thin = *w;
    thin.zero = 128;
    int64_t stride, low_floats = r->step->low_floats;
    const float *rows = place(r, t, op->in, op->in_at, t->first, &stride);
    for (int j = i; j < end; j++) {
        const float *row = rows + j * stride;
        if (op->norm != LM_NORM_NONE) {
            apply_norm(r, op, row, op->cols, normed);
            row = normed;
        }
        r->path->quantize(row, w, &x->acts, j);
        if (r->step->adapter_of && w->zero != 128) r->path->quantize(row, &thin, &x->thin, j);
    }
    for (int k = 0; k < x->num_parts; k++) {
        const adapted *part = &x->parts[k];
        int from = most(part->first, i), to = least(part->end, end);
        if (part->delta && from < to)
            r->path->shrink(part->delta, &x->thin, from, to - from, x->low + from * low_floats,
                            low_floats);
    }
}

/* Panels [panel, end) of a matrix whose codes of 8 bits begin at `codes`, as a matrix. */
static lm_matrix part_of_8_bits(const lm_matrix *w, int panel, int end, const uint8_t *codes) {
    lm_matrix part = *w;
    part.bits = 8;
    part.lines = NULL;
    part.codes = codes;
    part.scales += lm_scales_of(w, panel, 0).shared;
    part.panels = end - panel;
    return part;
}

/* Bytes of a panel with 8 bits. */
static size_t panel_bytes(const lm_matrix *w) {
    return (size_t)w->groups * (size_t)w->group * LM_PANEL;
}

/* Panels [panel, end) by the rows of the tile. Codes on lines are multiplied as they are, or as
 * the codes of 8 bits that they stand for: the integers are the same. */
static void plain_product(const tile *t, const lm_matrix *w, const lm_acts *acts, int panel,
                          int end, float *out, ptrdiff_t stride) {
    const run *r = t->run;
    int few = r->path->line_rows, most = w->expanded ? few : FEW_TIMES * few;
    if (!w->lines || t->rows <= most) {
        int height = w->lines ? few : t->rows;
        for (int i = 0; i < t->rows; i += height)
            r->path->multiply(w, panel, end, acts, i, least(height, t->rows - i), out + i * stride,
                              stride);
        return;
    }
    if (w->expanded) {
        const uint8_t *codes = w->expanded + (size_t)panel * panel_bytes(w);
        lm_matrix part = part_of_8_bits(w, panel, end, codes);
        r->path->multiply(&part, 0, end - panel, acts, 0, t->rows, out, stride);
        return;
    }
    uint8_t *unpacked = r->unpacked + (size_t)t->thread * r->unpacked_bytes;
    for (int next; panel < end; out += (next - panel) * LM_PANEL, panel = next) {
        next = least(panel + TOGETHER, end);
        r->path->unpack(w, panel, next, unpacked);
        lm_matrix part = part_of_8_bits(w, panel, next, unpacked);
        r->path->multiply(&part, 0, next - panel, acts, 0, t->rows, out, stride);
    }
}

/* Panels [panel, end) of the product by the rows of the tile, with what their adapters add. */
static void product(const tile *t, const lm_op *op, const quantized *x, int panel, int end,
                    float *out, ptrdiff_t stride) {
    const run *r = t->run;
    plain_product(t, &r->program->matrices[op->matrix], &x->acts, panel, end, out, stride);
    int64_t low_floats = r->step->low_floats;
    for (int k = 0; k < x->num_parts; k++) {
        const adapted *part = &x->parts[k];
        const lm_delta *next = k + 1 < x->num_parts ? x->parts[k + 1].delta : NULL;
        if (part->delta)
            r->path->expand(part->delta, next, panel, end, x->low + part->first * low_floats,
                            low_floats, part->end - part->first, out + part->first * stride,
                            stride);
    }
}

/* Whether nothing follows the product, so that it may be written where it belongs. */
static int plain(const lm_op *op, const lm_matrix *w) {
    return op->act < 0 && !op->bias && op->other < 0 && !w->paired && w->rows % LM_PANEL == 0;
}

/* Panels [panel, end) of a product by the rows of the tile, and what follows it. `slab`: room for
 * the product. */
static void multiply(const tile *t, const lm_op *op, const quantized *x, int panel, int end,
                     float *slab) {
    const run *r = t->run;
    const lm_matrix *w = &r->program->matrices[op->matrix];
    int n = (end - panel) * LM_PANEL, column = panel * LM_PANEL, width = w->rows;
    ptrdiff_t stride = n;
    int64_t out_stride, base_stride = 0;
    if (w->paired) {
        n /= 2;
        column /= 2;
        width /= 2;
    }
    float *out = place(r, t, op->out, op->out_at + column, t->first, &out_stride);
    if (plain(op, w)) {
        product(t, op, x, panel, end, out, out_stride);
        return;
    }
    lm_after after = {.out = out, .out_stride = out_stride, .act = op->act, .paired = w->paired};
    if (op->bias) {
        after.bias = op->bias + column;
        after.up_bias = op->bias + width + column;
    }
    if (op->other >= 0)
        after.base = place(r, t, op->other, op->other_at + column, t->first, &base_stride);
    after.base_stride = base_stride;
    product(t, op, x, panel, end, slab, stride);
    r->path->finish(&after, slab, stride, t->rows, least(n, width - column));
}

static int panels_a_piece(const tile *t, const lm_matrix *w) {
    int room = least(slab_panels(t->run->step) * (TILE_ROWS / t->rows), MOST_PANELS);
    if (!t->team || t->threads == 1) return room;
    int pieces = t->threads * PIECES_A_THREAD;
    int panels = pieces_of(w->panels, pieces);
    panels += panels & 1; /* gate and up stay together */
    return least(panels, room);
}

static void linear(tile *t, const lm_op *op) {
    const run *r = t->run;
    const lm_matrix *w = &r->program->matrices[op->matrix];
    float *slab = r->slabs + (size_t)t->thread * r->slab_floats;
    int alone = !t->team || t->threads == 1 || t->rows <= ALONE_ROWS;
    uint8_t *memory = r->acts_memory + (alone ? (size_t)(t->thread + 1) * r->acts_bytes : 0);
    quantized x;
    x.acts = x.thin = acts_in(memory, w, t->rows);
    memory += acts_size(w, t->rows);
    if (w->zero != 128) {
        x.thin.offsets = (int32_t *)memory;
        memory += up64((size_t)t->rows * (size_t)w->groups * 4);
    }
    x.low = (float *)memory;
    x.num_parts = by_adapter(t, op, x.parts);
    if (alone) {
        prepare(t, op, &x, 0, t->rows, slab);
    } else {
        for (int piece; (piece = next_piece(t, pieces_of(t->rows, ROWS_A_PIECE))) >= 0;) {
            int i = piece * ROWS_A_PIECE;
            prepare(t, op, &x, i, least(i + ROWS_A_PIECE, t->rows), slab);
        }
        op_done(t);
    }
    int step = panels_a_piece(t, w);
    for (int piece; (piece = next_piece(t, pieces_of(w->panels, step))) >= 0;) {
        int panel = piece * step;
        multiply(t, op, &x, panel, least(panel + step, w->panels), slab);
    }
    op_done(t);
}

/* -- attention ------------------------------------------------------------------------------- */

static void attend(const run *r, const lm_op *op, const piece *each, void *scratch) {
    const lm_step *s = r->step;
    const lm_span *span = &s->spans[each->span];
    int cross = op->kind == LM_OP_CROSS;
    const lm_attention *a = &r->program->layers[op->layer + (cross ? r->program->num_layers : 0)];
    int64_t q_stride, out_stride;
    int head = each->head * (a->heads / a->kv_heads) * a->head_dim, row = span->row + each->first;
    const float *q = place(r, NULL, op->in, op->in_at + head, row, &q_stride);
    float *out = place(r, NULL, op->out, op->out_at + head, row, &out_stride);
    const uint8_t *cache = s->cache + op->layer * s->layer_bytes;
    int keys = cross ? span->cross_keys : span->start + span->count;
    r->path->attend(a, cache, cross ? span->cross_table : span->table, keys,
                    span->start + each->first, each->count, each->head, q, q_stride, out,
                    out_stride, scratch);
}

/* The rows that are wanted, or all where these are too scattered. Gives whether some are not. */
static int find_wanted(run *r) {
    const lm_step *s = r->step;
    int rows = 0;
    for (int i = 0; i < s->num_spans; i++) {
        const lm_span *span = &s->spans[i];
        if (span->wanted == 0) continue;
        int first = span->row + span->count - span->wanted;
        stretch *last = r->num_wanted ? &r->wanted[r->num_wanted - 1] : NULL;
        rows += span->wanted;
        if (last && last->first + last->count == first)
            last->count += span->wanted;
        else if (r->num_wanted < MOST_STRETCHES)
            r->wanted[r->num_wanted++] = (stretch){first, span->wanted};
        else
            rows = s->rows;
    }
    if (s->num_spans && rows < s->rows) return 1;
    r->wanted[0] = (stretch){0, s->rows};
    r->num_wanted = 1;
    return 0;
}

/* Pieces of attention, in the order of rows: the same for every layer, since all have equally many
 * KV heads. */
static int cut(const lm_step *s, int kv_heads, int wanted, piece *pieces) {
    int made = 0;
    for (int i = 0; i < s->num_spans; i++) {
        const lm_span *span = &s->spans[i];
        int first = wanted ? span->count - span->wanted : 0;
        for (; first < span->count; first += QUERY_TOKENS)
            for (int h = 0; h < kv_heads; h++)
                pieces[made++] = (piece){i, first, least(QUERY_TOKENS, span->count - first), h};
    }
    return made;
}

static int count_pieces(const lm_step *s, int kv_heads) {
    int count = 0;
    for (int i = 0; i < s->num_spans; i++)
        count += pieces_of(s->spans[i].count, QUERY_TOKENS) * kv_heads;
    return count;
}

/* -- the walk -------------------------------------------------------------------------------- */

static int looks_around(const lm_op *op) {
    return op->kind == LM_OP_ATTEND || op->kind == LM_OP_CROSS;
}

static void over_tile(tile *t, int from, int to) {
    for (int i = from; i < to; i++) {
        const lm_op *op = &t->run->program->ops[i];
        if (op->kind == LM_OP_LINEAR) {
            linear(t, op);
            continue;
        }
        for (int piece; (piece = next_piece(t, pieces_of(t->rows, ROWS_A_PIECE))) >= 0;) {
            int row = piece * ROWS_A_PIECE;
            for (int end = least(row + ROWS_A_PIECE, t->rows); row < end; row++)
                one_row(t, op, t->first + row);
        }
        op_done(t);
    }
}

/* Rows through the ops from `from` to `to`, which treat each row by itself. */
static void segment(const run *r, lm_team *team, int thread, stretch some, int from, int to) {
    int threads = lm_team_size(team), rows = some.count, end = some.first + rows;
    tile t = {.run = r, .thread = thread, .threads = threads, .local = r->local};
    if (threads == 1 || rows < threads * OWN_ROWS) {
        t.team = team;
        for (t.first = some.first; t.first < end; t.first += TILE_ROWS) {
            t.rows = least(TILE_ROWS, end - t.first);
            over_tile(&t, from, to);
        }
        return;
    }
    /* As many tiles for each thread, of about the same size: whole blocks of rows but at the end. */
    int tiles = threads * pieces_of(rows, threads * TILE_ROWS);
    int blocks = pieces_of(rows, ROW_BLOCK);
    t.local += (size_t)(thread + 1) * r->local_floats;
    for (int i; (i = lm_team_take(team, thread, tiles)) >= 0;) {
        int before = (int)((int64_t)blocks * i / tiles) * ROW_BLOCK;
        int after = (int)((int64_t)blocks * (i + 1) / tiles) * ROW_BLOCK;
        t.rows = least(after, rows) - before;
        t.first = some.first + before;
        over_tile(&t, from, to);
    }
    lm_team_wait(team);
}

/* From the last op on that looks around, a row is of use to itself alone: only those that are
 * wanted go on. */
static void walk(lm_team *team, int thread, void *argument) {
    const run *r = argument;
    int num_ops = r->program->num_ops, last = num_ops;
    void *scratch = r->scratch + (size_t)thread * r->scratch_bytes;
    while (last > 0 && !looks_around(&r->program->ops[last - 1])) last--;
    for (int from = 0; from < num_ops;) {
        const lm_op *op = &r->program->ops[from];
        int late = last > 0 && from >= last - 1;
        if (looks_around(op)) {
            const piece *pieces = late ? r->last_pieces : r->pieces;
            int count = late ? r->num_last_pieces : r->num_pieces;
            for (int i; (i = lm_team_take(team, thread, count)) >= 0;)
                attend(r, op, &pieces[i], scratch);
            lm_team_wait(team);
            from++;
            continue;
        }
        int to = from;
        while (to < num_ops && !looks_around(&r->program->ops[to])) to++;
        for (int i = 0; late && i < r->num_wanted; i++)
            segment(r, team, thread, r->wanted[i], from, to);
        if (!late) segment(r, team, thread, (stretch){0, r->step->rows}, from, to);
        from = to;
    }
}

/* -- memory ---------------------------------------------------------------------------------- */

static void measure(run *r) {
    const lm_program *p = r->program;
    int most_cols = 0;
    for (int i = 0; i < p->num_matrices; i++) {
        const lm_matrix *w = &p->matrices[i];
        size_t bytes = acts_size(w, TILE_ROWS);
        if (r->step->adapter_of) bytes += adapted_size(r, w, TILE_ROWS);
        if (bytes > r->acts_bytes) r->acts_bytes = bytes;
        size_t unpacked = w->lines && !w->expanded ? TOGETHER * panel_bytes(w) : 0;
        if (unpacked > r->unpacked_bytes) r->unpacked_bytes = unpacked;
        int cols = w->groups * w->group;
        if (cols > most_cols) most_cols = cols;
    }
    for (int i = 0; i < 2 * p->num_layers; i++) {
        size_t bytes = up64(lm_attend_scratch(&p->layers[i]));
        if (bytes > r->scratch_bytes) r->scratch_bytes = bytes;
    }
    r->unpacked_bytes = up64(r->unpacked_bytes);
    r->local_floats = up64(TILE_ROWS * (size_t)p->local_floats * 4) / 4;
    /* It is room for a row to norm as well. */
    r->slab_floats = (size_t)slab_panels(r->step) * LM_PANEL * TILE_ROWS;
    if (r->slab_floats < (size_t)most_cols) r->slab_floats = up64((size_t)most_cols);
}

static void *taken(uint8_t **at, size_t bytes) {
    void *found = *at;
    *at += up64(bytes);
    return found;
}

int32_t lm_run(lm_team *team, const lm_program *program, const lm_step *step) {
    if (step->rows < 1) return 0;
    run r = {.program = program, .step = step, .path = lm_path_now()};
    size_t threads = (size_t)lm_team_size(team), rows = (size_t)step->rows;
    int kv_heads = program->num_layers ? program->layers[0].kv_heads : 0;
    size_t num_pieces = (size_t)count_pieces(step, kv_heads);
    measure(&r);
    size_t sizes[] = {
        rows * (size_t)program->row_floats * 4,
        (threads + 1) * r.local_floats * 4,
        threads * r.slab_floats * 4,
        (threads + 1) * r.acts_bytes,
        threads * r.scratch_bytes,
        threads * r.unpacked_bytes,
        rows * 4,
        num_pieces * sizeof(piece),
        num_pieces * sizeof(piece),
    };
    size_t total = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) total += up64(sizes[i]);
    uint8_t *memory = lm_team_enter(team, total), *at = memory;
    if (!memory) return -1;
    r.all = taken(&at, sizes[0]);
    r.local = taken(&at, sizes[1]);
    r.slabs = taken(&at, sizes[2]);
    r.acts_memory = taken(&at, sizes[3]);
    r.scratch = taken(&at, sizes[4]);
    r.unpacked = taken(&at, sizes[5]);
    r.span_of = taken(&at, sizes[6]);
    r.pieces = taken(&at, sizes[7]);
    r.last_pieces = taken(&at, sizes[8]);
    for (int i = 0; i < step->num_spans; i++)
        for (int j = 0; j < step->spans[i].count; j++) r.span_of[step->spans[i].row + j] = i;
    int trimmed = find_wanted(&r);
    r.num_pieces = cut(step, kv_heads, 0, r.pieces);
    r.num_last_pieces = cut(step, kv_heads, trimmed, r.last_pieces);
    lm_team_run(team, walk, &r);
    lm_team_leave(team);
    return 0;
}
