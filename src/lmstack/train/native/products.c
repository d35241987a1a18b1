/* The products of a frozen matrix with the terms of an adapter beside it, forwards and backwards: a
 * tile of rows at a time, so that a row is read once, written once, and in the cache between. See
 * __init__.py, which says what is computed.
 *
 * Legend: n rows, in and out columns (multiples of 32), r rank. */
#include "native.h"

#ifdef LMT_NATIVE
#include <math.h>

enum { TILE = 96 };

/* -- what Python hands over (native/__init__.py mirrors these) ---------------------------------- */

typedef struct {
    int64_t start, stop, rank; /* of the columns of y that it changes; multiples of 32 */
    const float *A, *B;        /* (r, in), (stop - start, r) */
    const float *At, *Bt;      /* forwards: A^T and scale * B^T */
    const uint16_t *kept;      /* a bit for each of (n, in), or NULL: what dropout keeps */
    float *low;                /* (n, r): x' A^T */
    float *of_A, *of_B;        /* backwards: (parts, r, in) and (parts, stop - start, r), zeros */
    float scale;               /* backwards: of the gradient of `low` */
} term;

typedef struct {
    int64_t n, in, out;
    const float *x;        /* (n, in) */
    const float *grad;     /* backwards: (n, out) */
    const uint8_t *packed; /* codes + 128 in panels; forwards of (out, in), backwards of (in, out);
                              NULL: the product is in `result` already */
    const float *scales;   /* of the columns of the result */
    const float *bias;     /* forwards: (out,) or NULL */
    float *result;         /* (n, out) forwards, (n, in) backwards; NULL: not wanted */
    const term *terms;
    int64_t count, parts;
} product;

/* Rows [*first, *end) of a part: whole groups, but for the last. */
static void rows_of(const product *p, int part, int64_t *first, int64_t *end)
{
    int64_t groups = (p->n + GROUP - 1) / GROUP;
    *first = groups * part / p->parts * GROUP;
    *end = groups * (part + 1) / p->parts * GROUP;
    *end = *end < p->n ? *end : p->n;
}

/* -- the product in 8 bits ---------------------------------------------------------------------- */

typedef struct {
    float scale;
    int32_t offset; /* -128 * sum of the codes */
} row_code;

/* x (n) by its largest value into codes of [-126, 126]; by a NaN where one is among them. */
static row_code quantized(const float *x, int64_t n, int8_t *codes)
{
    __m512 most = _mm512_setzero_ps();
    __mmask16 unequal = 0;
    for (int64_t i = 0; i < n; i += LANES) {
        __m512 value = _mm512_loadu_ps(x + i);
        unequal |= _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
        most = _mm512_max_ps(most, _mm512_abs_ps(value));
    }
    float largest = _mm512_reduce_max_ps(most);
    float inverse = 126 / (largest > 1e-30f ? largest : 1e-30f);
    __m512 by = _mm512_set1_ps(inverse);
    __m512i sum = _mm512_setzero_si512();
    for (int64_t i = 0; i < n; i += LANES) {
        __m512i code = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i), by));
        sum = _mm512_add_epi32(sum, code);
        _mm_storeu_si128((__m128i *)(codes + i), _mm512_cvtsepi32_epi8(code));
    }
    return (row_code){unequal ? NAN : 1 / inverse, -128 * _mm512_reduce_add_epi32(sum)};
}

/* Four codes of a row by four rows of the panel's two halves. */
#define STEP(i, at)                                                                                \
    __asm__("vpdpbusd %2%{1to16%}, %1, %0"                                                         \
            : "+v"(sums[2 * (i)])                                                                  \
            : "v"(left), "m"(*(const int32_t *)(at)));                                             \
    __asm__("vpdpbusd %2%{1to16%}, %1, %0"                                                         \
            : "+v"(sums[2 * (i) + 1])                                                              \
            : "v"(right), "m"(*(const int32_t *)(at)))

/* GROUP rows of codes (GROUP, k) by a panel: whole sums of products, of each row two halves. A
 * function of its own, as the others below: inlined, the compiler finds no registers for sums. */
NOINLINE void multiplied(const int8_t *codes, int64_t k,
                                                 const uint8_t *panel, __m512i *out)
{
    __m512i sums[2 * GROUP];
    UNROLLED
    for (int i = 0; i < 2 * GROUP; i++)
        sums[i] = _mm512_setzero_si512();
    const int8_t *a = codes, *b = a + 3 * k, *c = b + 3 * k, *d = c + 3 * k;
    for (const int8_t *end = a + k; a < end; a += 4, b += 4, c += 4, d += 4, panel += 4 * PANEL) {
        __m512i left = _mm512_load_si512(panel), right = _mm512_load_si512(panel + 64);
        STEP(0, a); STEP(1, a + k); STEP(2, a + 2 * k);
        STEP(3, b); STEP(4, b + k); STEP(5, b + 2 * k);
        STEP(6, c); STEP(7, c + k); STEP(8, c + 2 * k);
        STEP(9, d); STEP(10, d + k); STEP(11, d + 2 * k);
    }
    UNROLLED
    for (int i = 0; i < 2 * GROUP; i++)
        _mm512_store_si512(out + i, sums[i]);
}

/* -- the same by AMX tiles ---------------------------------------------------------------------- */

#if __GNUC__ >= 11 /* which comes with an assembler that knows them */
/* A panel lies as a tile of weights is read: rows of 16 columns x 4 rows of the matrix. Tiles 0 and
 * 1: sums of a panel's two halves; 2: 64 codes of each row; 3 and 4: the halves; 5 to 7: the same
 * for the last 32 codes, where there are such. */
static void tiles_open(void)
{
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shapes __attribute__((aligned(64))) = {
        1, 0, {0}, {64, 64, 64, 64, 64, 32, 64, 64}, {GROUP, GROUP, GROUP, 16, 16, GROUP, 8, 8},
    };
    __asm__ volatile("ldtilecfg %0" : : "m"(shapes));
}

#define TILE_LOAD(t, from, stride)                                                                 \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t                                               \
                     :                                                                             \
                     : "r"(from), "r"((ptrdiff_t)(stride))                                         \
                     : "memory")
#define TILE_STORE(t, to, stride)                                                                  \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)"                                           \
                     :                                                                             \
                     : "r"(to), "r"((ptrdiff_t)(stride))                                           \
                     : "memory")
#define TILE_DOT(sums, codes, panel)                                                               \
    __asm__ volatile("tdpbsud %%tmm" #panel ", %%tmm" #codes ", %%tmm" #sums :)

/* `multiplied`, between tiles_open and tilerelease. */
static void multiplied_in_tiles(const int8_t *codes, int64_t k, const uint8_t *panel, __m512i *out)
{
    enum { STRIDE = 4 * PANEL };
    int64_t i = 0;
    __asm__ volatile("tilezero %%tmm0; tilezero %%tmm1" :);
    for (; i + 64 <= k; i += 64, panel += 16 * STRIDE) {
        TILE_LOAD(2, codes + i, k);
        TILE_LOAD(3, panel, STRIDE);
        TILE_DOT(0, 2, 3);
        TILE_LOAD(4, panel + 64, STRIDE);
        TILE_DOT(1, 2, 4);
    }
    if (i < k) {
        TILE_LOAD(5, codes + i, k);
        TILE_LOAD(6, panel, STRIDE);
        TILE_DOT(0, 5, 6);
        TILE_LOAD(7, panel + 64, STRIDE);
        TILE_DOT(1, 5, 7);
    }
    TILE_STORE(0, out, STRIDE);
    TILE_STORE(1, out + 1, STRIDE);
}

static void tiles_close(void)
{
    __asm__ volatile("tilerelease" :);
}
#else
#define tiles_open() (void)0
#define tiles_close() (void)0
#define multiplied_in_tiles multiplied
#endif

int lmt_with_tiles = 0;

/* Turns them on where they are wanted and there. They are not used before they have given the right
 * integers: a machine may only say that it has them. Returns whether they are on. */
int lmt_use_tiles(int wanted)
{
    enum { K = 160 };
    static int8_t codes[GROUP * K];
    static uint8_t panel[K * PANEL];
    __m512i sums[2 * GROUP], right[2 * GROUP];
    lmt_with_tiles = wanted && __GNUC__ >= 11 && lmt_has_tiles();
    if (!lmt_with_tiles)
        return 0;
    for (int i = 0; i < K * PANEL; i++)
        panel[i] = (uint8_t)(i * 89 + i / 256);
    for (int i = 0; i < GROUP * K; i++)
        codes[i] = (int8_t)(uint8_t)(i * 57 + i / 256);
    tiles_open();
    multiplied_in_tiles(codes, K, panel, sums);
    tiles_close();
    multiplied(codes, K, panel, right);
    lmt_with_tiles = memcmp(sums, right, sizeof sums) == 0;
    return lmt_with_tiles;
}

/* -- products of floats with the thin matrices of the terms --------------------------------------- */

/* x (GROUP, k), `stride` apart, by LANES columns of thin (k, r): into out, LANES apart. */
NOINLINE void shrunk(const float *x, int64_t stride, int64_t k,
                                             const float *thin, int64_t r, __mmask16 columns,
                                             float *out)
{
    __m512 sums[GROUP];
    UNROLLED
    for (int i = 0; i < GROUP; i++)
        sums[i] = _mm512_setzero_ps();
    const float *a = x, *b = a + 3 * stride, *c = b + 3 * stride, *d = c + 3 * stride;
#define MORE(i, at) sums[i] = _mm512_fmadd_ps(_mm512_set1_ps(*(at)), column, sums[i])
    for (const float *end = a + k; a < end; a++, b++, c++, d++, thin += r) {
        __m512 column = _mm512_maskz_loadu_ps(columns, thin);
        MORE(0, a); MORE(1, a + stride); MORE(2, a + 2 * stride);
        MORE(3, b); MORE(4, b + stride); MORE(5, b + 2 * stride);
        MORE(6, c); MORE(7, c + stride); MORE(8, c + 2 * stride);
        MORE(9, d); MORE(10, d + stride); MORE(11, d + 2 * stride);
    }
    UNROLLED
    for (int i = 0; i < GROUP; i++)
        _mm512_storeu_ps(out + i * LANES, sums[i]);
}

/* scale * (x by thin) for GROUP rows into low (GROUP, r). */
static void narrowed(const float *x, int64_t stride, int64_t k, const float *thin, int64_t r,
                     float scale, float *low)
{
    float found[GROUP * LANES];
    for (int64_t j = 0; j < r; j += LANES) {
        int64_t count = r - j < LANES ? r - j : LANES;
        __mmask16 columns = (__mmask16)((1u << count) - 1);
        shrunk(x, stride, k, thin + j, r, columns, found);
        for (int i = 0; i < GROUP; i++)
            _mm512_mask_storeu_ps(low + i * r + j, columns,
                                  _mm512_mul_ps(_mm512_loadu_ps(found + i * LANES),
                                                _mm512_set1_ps(scale)));
    }
}

INLINE __mmask16 kept_of(const uint16_t *kept, int64_t at)
{
    return kept ? kept[at / LANES] : 0xffff;
}

/* of_A (RANKS of r, a panel's columns of in) += of_low^T x' over rows of one tile. */
enum { RANKS = 8 };
NOINLINE void add_of_A(const product *p, const term *t, int64_t row,
                                               int64_t rows, int64_t column, const float *of_low,
                                               int64_t rank, float *of_A)
{
    int64_t last = t->rank - 1 - rank;
    __m512 sums[2 * RANKS];
    UNROLLED
    for (int i = 0; i < RANKS; i++)
        for (int half = 0; half < 2; half++)
            sums[2 * i + half] =
                _mm512_loadu_ps(of_A + (i < last ? i : last) * p->in + half * LANES);
    of_low += rank;
    for (int64_t end = row + rows; row < end; row++, of_low += t->rank) {
        int64_t at = row * p->in + column;
        __m512 left = _mm512_maskz_loadu_ps(kept_of(t->kept, at), p->x + at);
        __m512 right = _mm512_maskz_loadu_ps(kept_of(t->kept, at + LANES), p->x + at + LANES);
        UNROLLED
        for (int i = 0; i < RANKS; i++) {
            /* Past the last rank lies the next row, or room behind the last one: not stored. */
            __m512 low = _mm512_set1_ps(of_low[i]);
            sums[2 * i] = _mm512_fmadd_ps(low, left, sums[2 * i]);
            sums[2 * i + 1] = _mm512_fmadd_ps(low, right, sums[2 * i + 1]);
        }
    }
    UNROLLED
    for (int i = 0; i < RANKS; i++)
        for (int half = 0; half < 2; half++)
            if (i <= last)
                _mm512_storeu_ps(of_A + i * p->in + half * LANES, sums[2 * i + half]);
}

/* of_B (LANES of the columns, LANES of r) += grad^T low over rows of one tile. */
NOINLINE void add_of_B(const float *grad, int64_t out, const float *low,
                                               int64_t r, int64_t rows, __mmask16 ranks,
                                               float *of_B)
{
    __m512 sums[LANES];
    UNROLLED
    for (int i = 0; i < LANES; i++)
        sums[i] = _mm512_maskz_loadu_ps(ranks, of_B + i * r);
    for (int64_t row = 0; row < rows; row++, grad += out, low += r) {
        __m512 x = _mm512_maskz_loadu_ps(ranks, low);
        UNROLLED
        for (int i = 0; i < LANES; i++)
            sums[i] = _mm512_fmadd_ps(_mm512_set1_ps(grad[i]), x, sums[i]);
    }
    UNROLLED
    for (int i = 0; i < LANES; i++)
        _mm512_mask_storeu_ps(of_B + i * r, ranks, sums[i]);
}

/* -- a tile ------------------------------------------------------------------------------------- */

typedef struct {
    int8_t *codes;    /* (TILE, k) */
    row_code *made;   /* (TILE,) */
    float *rows;      /* (GROUP, k): a group as it is multiplied, zeros behind the last row */
    float **low;      /* of each term (TILE, r), and RANKS more */
} tile;

/* For rows of k columns. */
static tile tile_for(const product *p, int64_t k)
{
    size_t lows = 0;
    for (int64_t i = 0; i < p->count; i++)
        lows += TILE * (size_t)p->terms[i].rank + RANKS;
    size_t codes = TILE * (size_t)k, rows = GROUP * (size_t)k, count = (size_t)p->count;
    int8_t *next = lmt_scratch(codes + TILE * sizeof(row_code) + (rows + lows) * sizeof(float)
                               + count * sizeof(float *));
    tile t = {.codes = next, .low = (float **)(next + codes)};
    t.made = (row_code *)(t.low + count);
    t.rows = (float *)(t.made + TILE);
    float *low = t.rows + rows;
    for (size_t i = 0; i < count; low += TILE * p->terms[i].rank + RANKS, i++)
        t.low[i] = low;
    return t;
}

/* Codes of `rows` rows of x (n, k) from `first`, zeros up to a whole group. */
static void coded(const tile *t, const float *x, int64_t k, int64_t rows)
{
    int64_t whole = (rows + GROUP - 1) / GROUP * GROUP;
    for (int64_t i = 0; i < rows; i++)
        t->made[i] = quantized(x + i * k, k, t->codes + i * k);
    memset(t->codes + rows * k, 0, (size_t)((whole - rows) * k));
    memset(t->made + rows, 0, (size_t)(whole - rows) * sizeof *t->made);
}

/* What is added to columns [start, stop) of a result: low by up (r, stop - start), where kept. */
typedef struct {
    int64_t start, stop, rank;
    const float *up;
    const uint16_t *kept; /* of (n, width), or NULL */
} addition;

/* A panel of up to GROUP rows of the result: a product of 8 bits, or where there is none what
 * stands there, and the additions. */
static void finished(const product *p, const tile *t, int64_t row, int64_t g, int rows, int64_t k,
                     int64_t width, int64_t column, const addition *more)
{
    float *out = p->result + row * width + column;
    float sums[GROUP * PANEL] __attribute__((aligned(64))),
        added[GROUP * PANEL] __attribute__((aligned(64)));
    if (p->packed) {
        __m512i whole[2 * GROUP];
        (lmt_with_tiles ? multiplied_in_tiles : multiplied)(t->codes + g * k, k,
                                                            p->packed + column * k, whole);
        for (int i = 0; i < 2 * GROUP; i++) {
            const row_code *made = t->made + g + i / 2;
            __m512 scales = _mm512_loadu_ps(p->scales + column + i % 2 * LANES);
            __m512i sum = _mm512_add_epi32(whole[i], _mm512_set1_epi32(made->offset));
            __m512 by = _mm512_mul_ps(scales, _mm512_set1_ps(made->scale));
            __m512 found = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), by);
            if (p->bias)
                found = _mm512_add_ps(found, _mm512_loadu_ps(p->bias + column + i % 2 * LANES));
            _mm512_store_ps(sums + i * LANES, found);
        }
    } else {
        for (int i = 0; i < rows; i++)
            memcpy(sums + i * PANEL, out + i * width, PANEL * sizeof *sums);
    }
    for (int64_t m = 0; m < p->count; m++) {
        const addition *a = more + m;
        if (column < a->start || column >= a->stop)
            continue;
        lmt_panel(t->low[m] + g * a->rank, a->rank, 1, a->rank, a->up + column - a->start,
                  a->stop - a->start, added);
        for (int i = 0; i < 2 * rows; i++) {
            int64_t at = (row + i / 2) * width + column + i % 2 * LANES;
            __m512 sum = _mm512_load_ps(sums + i * LANES);
            _mm512_store_ps(sums + i * LANES,
                            _mm512_mask_add_ps(sum, kept_of(a->kept, at), sum,
                                               _mm512_load_ps(added + i * LANES)));
        }
    }
    for (int i = 0; i < rows; i++)
        memcpy(out + i * width, sums + i * PANEL, PANEL * sizeof *sums);
}

/* A tile's rows of the result, whose codes and narrowed rows are there. */
static void tile_finished(const product *p, const tile *t, int64_t first, int64_t rows, int64_t k,
                          int64_t width, const addition *more)
{
    for (int64_t column = 0; column < width; column += PANEL)
        for (int64_t g = 0; g < rows; g += GROUP) {
            int valid = rows - g < GROUP ? (int)(rows - g) : GROUP;
            finished(p, t, first + g, g, valid, k, width, column, more);
        }
}

/* `rows` rows of x (n, k) without what is not kept, as a whole group. */
static const float *group_of(const tile *t, const float *x, const uint16_t *kept, int64_t row,
                             int rows, int64_t from, int64_t stride, int64_t k)
{
    if (!kept && rows == GROUP)
        return NULL; /* as they lie */
    for (int i = 0; i < rows; i++)
        for (int64_t c = 0; c < k; c += LANES) {
            int64_t at = (row + i) * stride + from + c;
            _mm512_storeu_ps(t->rows + i * k + c,
                             _mm512_maskz_loadu_ps(kept_of(kept, at), x + at));
        }
    memset(t->rows + rows * k, 0, (size_t)((GROUP - rows) * k) * sizeof *t->rows);
    return t->rows;
}

/* scale * x (n, stride), its columns [from, from + k), of one tile by thin (k, r), into low. */
static void tile_narrowed(const tile *t, const float *x, const uint16_t *kept, int64_t first,
                          int64_t rows, int64_t from, int64_t stride, int64_t k,
                          const float *thin, int64_t r, float scale, float *low)
{
    for (int64_t g = 0; g < rows; g += GROUP) {
        int valid = rows - g < GROUP ? (int)(rows - g) : GROUP;
        const float *group = group_of(t, x, kept, first + g, valid, from, stride, k);
        narrowed(group ? group : x + (first + g) * stride + from, group ? k : stride, k, thin, r,
                 scale, low + g * r);
    }
}

/* -- forwards ----------------------------------------------------------------------------------- */

static void forwards_part(const void *data, int part)
{
    const product *p = data;
    int64_t first, end;
    rows_of(p, part, &first, &end);
    tile t = tile_for(p, p->in);
    addition more[p->count + 1];
    for (int64_t m = 0; m < p->count; m++) {
        const term *of = p->terms + m;
        more[m] = (addition){of->start, of->stop, of->rank, of->Bt, NULL};
    }
    if (lmt_with_tiles)
        tiles_open();
    for (; first < end; first += TILE) {
        int64_t rows = end - first < TILE ? end - first : TILE;
        if (p->packed)
            coded(&t, p->x + first * p->in, p->in, rows);
        for (int64_t m = 0; m < p->count; m++) {
            const term *of = p->terms + m;
            tile_narrowed(&t, p->x, of->kept, first, rows, 0, p->in, p->in, of->At, of->rank, 1,
                          t.low[m]);
            memcpy(of->low + first * of->rank, t.low[m],
                   (size_t)(rows * of->rank) * sizeof *of->low);
        }
        tile_finished(p, &t, first, rows, p->in, p->out, more);
    }
    if (lmt_with_tiles)
        tiles_close();
}

void lmt_forwards(const product *p)
{
    lmt_run(forwards_part, p, (int)p->parts);
}

/* -- backwards ---------------------------------------------------------------------------------- */

static void gradients(const product *p, const float *of_low, const term *of, int part, int64_t first,
                      int64_t rows)
{
    float *of_A = of->of_A + part * of->rank * p->in;
    float *of_B = of->of_B + part * of->rank * (of->stop - of->start);
    for (int64_t j = 0; j < of->rank; j += RANKS)
        for (int64_t c = 0; c < p->in; c += PANEL)
            add_of_A(p, of, first, rows, c, of_low, j, of_A + j * p->in + c);
    for (int64_t j = 0; j < of->rank; j += LANES) {
        int64_t count = of->rank - j < LANES ? of->rank - j : LANES;
        for (int64_t c = 0; c < of->stop - of->start; c += LANES)
            add_of_B(p->grad + first * p->out + of->start + c, p->out,
                     of->low + first * of->rank + j, of->rank, rows,
                     (__mmask16)((1u << count) - 1), of_B + c * of->rank + j);
    }
}

static void backwards_part(const void *data, int part)
{
    const product *p = data;
    int64_t first, end;
    rows_of(p, part, &first, &end);
    tile t = tile_for(p, p->out);
    addition more[p->count + 1];
    for (int64_t m = 0; m < p->count; m++)
        more[m] = (addition){0, p->in, p->terms[m].rank, p->terms[m].A, p->terms[m].kept};
    if (lmt_with_tiles)
        tiles_open();
    for (; first < end; first += TILE) {
        int64_t rows = end - first < TILE ? end - first : TILE;
        if (p->result)
            coded(&t, p->grad + first * p->out, p->out, rows);
        for (int64_t m = 0; m < p->count; m++) {
            const term *of = p->terms + m;
            tile_narrowed(&t, p->grad, NULL, first, rows, of->start, p->out,
                          of->stop - of->start, of->B, of->rank, of->scale, t.low[m]);
            gradients(p, t.low[m], of, part, first, rows);
        }
        if (p->result)
            tile_finished(p, &t, first, rows, p->out, p->in, more);
    }
    if (lmt_with_tiles)
        tiles_close();
}

void lmt_backwards(const product *p)
{
    lmt_run(backwards_part, p, (int)p->parts);
}

/* -- dropout ------------------------------------------------------------------------------------ */

typedef struct {
    uint16_t *kept;
    int64_t count, parts; /* of words of LANES bits */
    uint32_t seed, threshold;
} draw;

/* A bit for each number: its hash (Wellons' lowbias32 of its index and the seed) is above the
 * threshold. */
static void draw_part(const void *data, int part)
{
    const draw *d = data;
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i one = _mm512_set1_epi32(0x21f0aaad), two = _mm512_set1_epi32(0x735a2d97);
    const __m512i seed = _mm512_set1_epi32((int32_t)d->seed);
    const __m512i threshold = _mm512_set1_epi32((int32_t)d->threshold);
    int64_t first = d->count * part / d->parts, end = d->count * (part + 1) / d->parts;
    for (int64_t i = first; i < end; i++) {
        __m512i h = _mm512_add_epi32(lanes, _mm512_set1_epi32((int32_t)(uint32_t)(i * LANES)));
        h = _mm512_xor_si512(_mm512_mullo_epi32(h, _mm512_set1_epi32((int32_t)0x9e3779b1)), seed);
        h = _mm512_mullo_epi32(_mm512_xor_si512(h, _mm512_srli_epi32(h, 16)), one);
        h = _mm512_mullo_epi32(_mm512_xor_si512(h, _mm512_srli_epi32(h, 15)), two);
        h = _mm512_xor_si512(h, _mm512_srli_epi32(h, 15));
        d->kept[i] = _mm512_cmpge_epu32_mask(h, threshold);
    }
}

void lmt_draw(const draw *d)
{
    lmt_run(draw_part, d, (int)d->parts);
}

#endif
