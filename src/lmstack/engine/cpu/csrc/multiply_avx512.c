/* Products of grouped 4- and 8-bit matrices with int8 activations for processors with AVX-512 VNNI.
 *
 * Few rows (up to FEW) are bound by memory: a panel at a time, codes unpacked in registers, what
 * comes next asked for ahead of time. More rows are bound by multiplications: two panels at a time,
 * in stretches of groups that stay in the L1 cache with 4-bit codes unpacked to bytes and scales to
 * floats, then blocks of up to BLOCK rows; sums wait in `out` between stretches, and each block
 * asks for its share of the next two panels.
 *
 * Per row, output and group, in the order of groups, on every path: the integer sum starts at the
 * row's offset; it is rounded to a float and multiplied by the row's scale; a fused multiply-add
 * applies the output's scale; where there are mins, another adds min * sum. */
#include <immintrin.h>
#include <string.h>

#include "path.h"

#define UNROLL _Pragma("GCC unroll 16")

enum { NIBBLES, BYTES, LOOKED_UP, ON_LINES }; /* what codes are */

enum {
    FEW = 8,        /* rows that are multiplied at once without a buffer */
    FEW_PACKED = 32, /* with 4 bits, up to here FEW at a time are faster than unpacking */
    BLOCK = 6,      /* rows of a block: 2 * 6 integer and 2 * 6 float sums are registers */
    TILE = 128,     /* rows whose codes stay in the L2 cache while the panels go by */
    STRETCH = 768,  /* most inputs of a panel that are unpacked at a time */
    SMALLEST = 16,  /* inputs of the smallest group */
    AHEAD = 4096,   /* bytes that few rows ask for ahead of their use */
    LINES_AHEAD = 1024, /* of lines */
    PAIR = 2 * LM_PANEL,
    MINS = STRETCH / SMALLEST * PAIR, /* floats from a scale to its min */
};

/* Two panels of a stretch, unpacked: codes in the layout of 8 bits. */
typedef struct {
    uint8_t codes[2][STRETCH * LM_PANEL];
    float scales[MINS * 2]; /* [group][panel][16 outputs], then mins in the same way */
} stretch __attribute__((aligned(64)));

/* What a block reads of the panels: groups of a stretch. */
typedef struct {
    const uint8_t *codes; /* in the layout of 8 bits */
    const float *scales;
    ptrdiff_t apart;             /* bytes from a panel's codes to the next one's */
    int steps, count;            /* of a group; groups */
    int with_mins, first;        /* first: these are a row's first groups */
    const uint8_t *ahead;        /* of the next panels: asked for, so many lines with each group */
    ptrdiff_t ahead_apart;
    int lines;
} panels_view;

/* What a block of rows reads of the activations: first row, first group. */
typedef struct {
    const int8_t *codes;
    const float *scales, *sums;
    const int32_t *offsets, *halves;
    ptrdiff_t inputs, groups; /* from row to row */
} rows_view;

INLINE rows_view view(const lm_matrix *w, const lm_acts *x, ptrdiff_t row, ptrdiff_t group) {
    ptrdiff_t at = row * w->groups + group;
    return (rows_view){x->codes + at * w->group, x->scales + at,
                       x->sums + at,             x->offsets + at,
                       w->lines ? x->halves + at : NULL,
                       (ptrdiff_t)w->groups * w->group, w->groups};
}

/* sum + 4 inputs of every output, `four` of a row against all. Written as assembly, as GCC 12
 * copies the sums around each intrinsic and so runs out of registers. */
INLINE __m512i dot(__m512i sum, __m512i code, const int8_t *four) {
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(code), "m"(*(const int32_t *)four));
    return sum;
}

/* Scales or mins of a group: those of its super-block, times its codes. */
INLINE __m512 group_scales(const uint16_t *shared, const int8_t *codes, lm_scales_at at) {
    __m512 found = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(shared + at.shared)));
    if (!codes) return found;
    __m512i wide = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(codes + at.own)));
    return _mm512_mul_ps(found, _mm512_cvtepi32_ps(wide));
}

INLINE __m512i table_of(const lm_matrix *w) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)w->codebook));
}

INLINE __m512i low_nibbles(__m512i code) { return _mm512_and_si512(code, _mm512_set1_epi8(15)); }

INLINE __m512i high_nibbles(__m512i code) { return low_nibbles(_mm512_srli_epi16(code, 4)); }

/* The sum of a group whose codes are on lines: of the sums of nibbles of its halves, and of its
 * activations' codes by the starts. */
INLINE __m512i on_lines(__m512i sum, __m512i high_sum, const uint8_t *lines, int32_t offset,
                        int32_t halves) {
    const __m128i *of = (const __m128i *)lines;
    __m512i slope = _mm512_cvtepu8_epi32(_mm_loadu_si128(of));
    __m512i high_slope = _mm512_cvtepu8_epi32(_mm_loadu_si128(of + 1));
    __m512i starts = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(of + 2)));
    __m512i all = _mm512_dpwssd_epi32(_mm512_set1_epi32(offset), starts, _mm512_set1_epi32(halves));
    all = _mm512_add_epi32(all, _mm512_mullo_epi32(sum, slope));
    return _mm512_add_epi32(all, _mm512_mullo_epi32(high_sum, high_slope));
}

INLINE __m512 scaled(__m512i sum, float row_scale, __m512 scale, __m512 acc) {
    return _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(row_scale)), scale,
                           acc);
}

/* -- few rows -------------------------------------------------------------------------------- */

/* R rows of one panel. `plain`: its scales are. */
INLINE void few(const int R, const int kind, const int plain, const lm_matrix *w, int panel, rows_view x, float *out,
                ptrdiff_t stride) {
    const __m512i table = kind == LOOKED_UP ? table_of(w) : _mm512_setzero_si512();
    const int code_steps = w->group / (kind == BYTES ? 4 : 8);
    const uint8_t *codes = w->codes + (ptrdiff_t)panel * w->groups * code_steps * 64;
    const int8_t *scale_codes = plain ? NULL : w->scale_codes;
    const int8_t *min_codes = plain ? NULL : w->min_codes;
    lm_scales_at scales_at = {(ptrdiff_t)panel * w->groups * LM_PANEL, 0, 0};
    if (!plain) scales_at = lm_scales_of(w, panel, 0);
    __m512 acc[8];
    UNROLL for (int r = 0; r < R; r++) acc[r] = _mm512_setzero_ps();
    for (int g = 0; g < w->groups; g++) {
        __m512i sum[8], high_sum[8];
        UNROLL for (int r = 0; r < R; r++) {
            sum[r] = _mm512_setzero_si512();
            if (kind != ON_LINES) sum[r] = _mm512_set1_epi32(x.offsets[r * x.groups + g]);
            high_sum[r] = _mm512_setzero_si512();
        }
        for (int s = 0; s < code_steps; s++) {
            __m512i code = _mm512_loadu_si512(codes);
            _mm_prefetch((const char *)codes + AHEAD, _MM_HINT_T0);
            codes += 64;
            const int8_t *xs = x.codes + s * 4;
            if (kind == BYTES) {
                UNROLL for (int r = 0; r < R; r++)
                    sum[r] = dot(sum[r], code, xs + r * x.inputs);
            } else {
                __m512i high = high_nibbles(code);
                code = low_nibbles(code);
                if (kind == LOOKED_UP) {
                    high = _mm512_shuffle_epi8(table, high);
                    code = _mm512_shuffle_epi8(table, code);
                }
                const int8_t *xh = xs + code_steps * 4;
                UNROLL for (int r = 0; r < R; r++) {
                    sum[r] = dot(sum[r], code, xs + r * x.inputs);
                    high_sum[r] =
                        dot(high_sum[r], high, xh + r * x.inputs);
                }
            }
        }
        const uint8_t *lines =
            kind == ON_LINES ? w->lines + ((ptrdiff_t)panel * w->groups + g) * 64 : NULL;
        if (kind == ON_LINES) _mm_prefetch((const char *)lines + LINES_AHEAD, _MM_HINT_T0);
        __m512 scale = group_scales(w->scales, scale_codes, scales_at);
        UNROLL for (int r = 0; r < R; r++) {
            if (kind == ON_LINES)
                sum[r] = on_lines(sum[r], high_sum[r], lines, x.offsets[r * x.groups + g],
                                  x.halves[r * x.groups + g]);
            else if (kind != BYTES)
                sum[r] = _mm512_add_epi32(sum[r], high_sum[r]);
            acc[r] = scaled(sum[r], x.scales[r * x.groups + g], scale, acc[r]);
        }
        if (w->mins) {
            __m512 min = group_scales(w->mins, min_codes, scales_at);
            UNROLL for (int r = 0; r < R; r++)
                acc[r] = _mm512_fmadd_ps(_mm512_set1_ps(x.sums[r * x.groups + g]), min, acc[r]);
        }
        x.codes += w->group;
        if (plain)
            scales_at.shared += LM_PANEL;
        else
            lm_next_scales(w, &scales_at);
    }
    UNROLL for (int r = 0; r < R; r++) _mm512_storeu_ps(out + r * stride, acc[r]);
}

/* -- many rows ------------------------------------------------------------------------------- */

/* `count` groups, from `group` on, of a panel: 4-bit codes and all scales into a buffer. */
static void unpack(const lm_matrix *w, int panel, int group, int count, stretch *to, int p) {
    if (w->bits == 4) {
        const __m512i table = w->codebook ? table_of(w) : _mm512_setzero_si512();
        const int half = w->group / 8;
        const uint8_t *codes = w->codes + ((ptrdiff_t)panel * w->groups + group) * half * 64;
        uint8_t *into = to->codes[p];
        for (int g = 0; g < count; g++, into += half * 64)
            for (int s = 0; s < half; s++, codes += 64, into += 64) {
                __m512i code = _mm512_loadu_si512(codes);
                __m512i low = low_nibbles(code), high = high_nibbles(code);
                if (w->codebook) {
                    low = _mm512_shuffle_epi8(table, low);
                    high = _mm512_shuffle_epi8(table, high);
                }
                _mm512_store_si512(into, low);
                _mm512_store_si512(into + half * 64, high);
            }
    }
    lm_scales_at at = lm_scales_of(w, panel, group);
    for (int g = 0; g < count; g++, lm_next_scales(w, &at)) {
        float *into = to->scales + g * PAIR + p * LM_PANEL;
        _mm512_store_ps(into, group_scales(w->scales, w->scale_codes, at));
        if (w->mins) _mm512_store_ps(into + MINS, group_scales(w->mins, w->min_codes, at));
    }
}

/* Keeps the compiler from deriving one pointer from another: each then costs a register, and the
 * rows are base + {0, 1, 2} * stride of two bases, which an x86 address holds. */
#define OWN(pointer) __asm__("" : "+r"(pointer))

#define ROW(base, r, stride)                                                                      \
    ((r) < 3 ? base##_0 + (r) * (stride) : base##_3 + ((r) - 3) * (stride))

/* R rows of a stretch of P panels, added to `out` or, where its groups are a row's first, put
 * there. */
INLINE void block(const int R, const int P, const panels_view *w, rows_view x, float *out,
                  ptrdiff_t stride) {
    const uint8_t *codes = w->codes;
    const float *scales = w->scales;
    const ptrdiff_t apart = w->apart;
    const int8_t *codes_0 = x.codes, *codes_3 = x.codes + 3 * x.inputs;
    const float *scales_0 = x.scales, *scales_3 = x.scales + 3 * x.groups;
    const float *sums_0 = x.sums, *sums_3 = x.sums + 3 * x.groups;
    const int32_t *offsets_0 = x.offsets, *offsets_3 = x.offsets + 3 * x.groups;
    float *out_0 = out, *out_3 = out + 3 * stride;
    OWN(out_3);
    OWN(codes_3);
    OWN(scales_3);
    OWN(sums_3);
    OWN(offsets_3);
    __m512 acc[BLOCK][2];
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int p = 0; p < P; p++)
        acc[r][p] = w->first ? _mm512_setzero_ps()
                             : _mm512_loadu_ps(ROW(out, r, stride) + p * LM_PANEL);
    const uint8_t *ahead = w->ahead;
    for (int g = 0; g < w->count; g++) {
        for (int line = 0; line < w->lines; line++, ahead += 64)
            UNROLL for (int p = 0; p < P; p++)
                _mm_prefetch((const char *)ahead + p * w->ahead_apart, _MM_HINT_T1);
        __m512i sum[BLOCK][2];
        UNROLL for (int r = 0; r < R; r++) UNROLL for (int p = 0; p < P; p++)
            sum[r][p] = _mm512_set1_epi32(*ROW(offsets, r, x.groups));
        const uint8_t *end = codes + w->steps * 64;
        do {
            __m512i code[2];
            UNROLL for (int p = 0; p < P; p++) code[p] = _mm512_loadu_si512(codes + p * apart);
            UNROLL for (int r = 0; r < R; r++) {
                UNROLL for (int p = 0; p < P; p++)
                    sum[r][p] = dot(sum[r][p], code[p], ROW(codes, r, x.inputs));
            }
            codes += 64;
            codes_0 += 4;
            codes_3 += 4;
        } while (codes != end);
        UNROLL for (int p = 0; p < P; p++) {
            __m512 scale = _mm512_load_ps(scales + p * LM_PANEL);
            UNROLL for (int r = 0; r < R; r++)
                acc[r][p] = scaled(sum[r][p], *ROW(scales, r, x.groups), scale, acc[r][p]);
        }
        if (w->with_mins) {
            UNROLL for (int p = 0; p < P; p++) {
                __m512 min = _mm512_load_ps(scales + MINS + p * LM_PANEL);
                UNROLL for (int r = 0; r < R; r++) {
                    __m512 row = _mm512_set1_ps(*ROW(sums, r, x.groups));
                    acc[r][p] = _mm512_fmadd_ps(row, min, acc[r][p]);
                }
            }
        }
        scales += PAIR;
        scales_0++;
        scales_3++;
        sums_0++;
        sums_3++;
        offsets_0++;
        offsets_3++;
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int p = 0; p < P; p++)
        _mm512_storeu_ps(ROW(out, r, stride) + p * LM_PANEL, acc[r][p]);
}

/* -- the shapes that are compiled ------------------------------------------------------------ */

#define FEW_ROWS(R, kind, plain)                                                                   \
    static void few_##R##_##kind##_##plain(const lm_matrix *w, int panel, const rows_view *x,      \
                                           float *out, ptrdiff_t stride) {                         \
        few(R, kind, plain, w, panel, *x, out, stride);                                            \
    }
#define FEW_KIND(R, kind) FEW_ROWS(R, kind, 0) FEW_ROWS(R, kind, 1)
#define FEW_OF(R)                                                                                  \
    FEW_KIND(R, NIBBLES) FEW_KIND(R, BYTES) FEW_KIND(R, LOOKED_UP) FEW_KIND(R, ON_LINES)
FEW_OF(1) FEW_OF(2) FEW_OF(3) FEW_OF(4) FEW_OF(5) FEW_OF(6) FEW_OF(7) FEW_OF(8)

#define BLOCK_ROWS(R, P)                                                                           \
    static void block_##R##_##P(const panels_view *w, const rows_view *x, float *out,              \
                                ptrdiff_t stride) {                                                \
        block(R, P, w, *x, out, stride);                                                           \
    }
#define BLOCK_OF(R) BLOCK_ROWS(R, 1) BLOCK_ROWS(R, 2)
BLOCK_OF(1) BLOCK_OF(2) BLOCK_OF(3) BLOCK_OF(4) BLOCK_OF(5) BLOCK_OF(6)

typedef void few_fn(const lm_matrix *, int, const rows_view *, float *, ptrdiff_t);
typedef void block_fn(const panels_view *, const rows_view *, float *, ptrdiff_t);

#define BOTH(R, kind) {few_##R##_##kind##_0, few_##R##_##kind##_1}
#define KINDS(R) {BOTH(R, NIBBLES), BOTH(R, BYTES), BOTH(R, LOOKED_UP), BOTH(R, ON_LINES)}
static few_fn *const few_table[FEW][4][2] = {
    KINDS(1), KINDS(2), KINDS(3), KINDS(4), KINDS(5), KINDS(6), KINDS(7), KINDS(8),
};
static block_fn *const block_table[BLOCK][2] = {
    {block_1_1, block_1_2}, {block_2_1, block_2_2}, {block_3_1, block_3_2},
    {block_4_1, block_4_2}, {block_5_1, block_5_2}, {block_6_1, block_6_2},
};

static void multiply_few(const lm_matrix *w, int panel, int end, const lm_acts *x, int row,
                         int count, float *out, ptrdiff_t stride) {
    const int parts = (count + FEW - 1) / FEW;
    const int kind = w->lines      ? ON_LINES
                     : w->codebook ? LOOKED_UP
                     : w->bits == 4 ? NIBBLES
                                    : BYTES;
    const int plain = lm_plain_scales(w);
    for (int p = panel; p < end; p++)
        for (int i = 0, r = 0; i < parts; i++) {
            int height = (count - r + parts - i - 1) / (parts - i);
            rows_view rows = view(w, x, row + r, 0);
            few_table[height - 1][kind][plain](
                w, p, &rows, out + r * stride + (p - panel) * LM_PANEL, stride);
            r += height;
        }
}

INLINE void ask(const void *memory, ptrdiff_t bytes) {
    for (ptrdiff_t i = 0; i < bytes; i += 64) _mm_prefetch((const char *)memory + i, _MM_HINT_T1);
}

/* For the scales of `count` groups of a panel. */
static void ask_scales(const lm_matrix *w, int panel, int group, int count) {
    const lm_scales_at at = lm_scales_of(w, panel, group);
    const ptrdiff_t own = count * LM_PANEL, shared = own / w->superblock * 2;
    ask(w->scales + at.shared, shared);
    if (w->mins) ask(w->mins + at.shared, shared);
    if (w->scale_codes) ask(w->scale_codes + at.own, own);
    if (w->min_codes) ask(w->min_codes + at.own, own);
}

/* Up to TILE rows of P panels. */
static void multiply_pair(const lm_matrix *w, int panel, int P, const lm_acts *x, int row,
                          int count, float *out, ptrdiff_t stride) {
    stretch unpacked;
    const int most = STRETCH / w->group, blocks = (count + BLOCK - 1) / BLOCK;
    const int stretches = (w->groups + most - 1) / most;
    const ptrdiff_t group_bytes = w->group * 2 * w->bits, panel_bytes = w->groups * group_bytes;
    for (int i = 0, group = 0; i < stretches; i++) {
        int groups = (w->groups - group + stretches - i - 1) / (stretches - i);
        const uint8_t *codes = w->codes + panel * panel_bytes + group * group_bytes;
        panels_view panels = {.codes = codes,
                              .scales = unpacked.scales,
                              .apart = panel_bytes,
                              .steps = w->group / 4,
                              .count = groups,
                              .with_mins = w->mins != NULL,
                              .first = group == 0,
                              .ahead = codes + P * panel_bytes,
                              .ahead_apart = panel_bytes};
        if (w->bits == 4) {
            panels.codes = unpacked.codes[0];
            panels.apart = sizeof unpacked.codes[0];
        }
        for (int p = 0; p < P; p++) unpack(w, panel + p, group, groups, &unpacked, p);
        for (int p = P; p < 2 * P; p++) ask_scales(w, panel + p, group, groups);
        const int lines = (int)(groups * group_bytes / 64), turns = blocks * groups;
        panels.lines = (lines + turns - 1) / turns;
        for (int b = 0, r = 0; b < blocks; b++) {
            int height = (count - r + blocks - b - 1) / (blocks - b);
            rows_view rows = view(w, x, row + r, group);
            block_table[height - 1][P - 1](&panels, &rows, out + r * stride, stride);
            panels.ahead += groups * panels.lines * 64;
            r += height;
        }
        group += groups;
    }
}

void LM_NAME(multiply)(const lm_matrix *w, int panel, int end, const lm_acts *x, int row,
                       int count, float *out, ptrdiff_t stride) {
    if (count <= (w->bits == 4 ? FEW_PACKED : FEW)) {
        multiply_few(w, panel, end, x, row, count, out, stride);
        return;
    }
    for (int r = 0; r < count; r += TILE) {
        int rows = count - r < TILE ? count - r : TILE;
        for (int p = panel; p < end; p += 2)
            multiply_pair(w, p, end - p > 1 ? 2 : 1, x, row + r, rows,
                          out + r * stride + (p - panel) * LM_PANEL, stride);
    }
}
