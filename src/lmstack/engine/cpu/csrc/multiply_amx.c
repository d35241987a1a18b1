/* Products of grouped 4- and 8-bit matrices with int8 activations for processors with AMX tiles.
 *
 * A group of an 8-bit panel is laid out as tdpbsud wants its second factor: rows of 16 outputs x
 * 4 inputs. So 64 inputs of two panels are two tiles, those of 16 rows of activations are one, and
 * 2 x 2 tiles of integer sums go through memory to be scaled there as on every path, into float
 * sums that stay in the L1 cache for up to TILE rows. Integer sums start at zero and get the row's
 * offset afterwards, which is the same integer. Fewer than 16 rows go to the AVX-512 product.
 *
 * The last 16 rows are always a whole tile: it overlaps the one before, and rows that are done are
 * left out when it is scaled. With LM_AMX_EMULATED plain C stands in for the tiles (tests). */
#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#include "lm.h"

#define INLINE static inline __attribute__((always_inline))

enum { ROWS = 16, TILE = 128, PAIR = 2 * LM_PANEL, INPUTS = 64 /* of a tile of activations */ };

void lm_multiply_avx512(const lm_matrix *, int, int, const lm_acts *, int, int, float *, ptrdiff_t);
void lm_multiply_amx(const lm_matrix *, int, int, const lm_acts *, int, int, float *, ptrdiff_t);
bool lm_amx_ready(void);

/* -- tiles: 0 to 3 integer sums [rows][panel], 4 and 5 activations, 6 and 7 weights ------------ */

/* As the processor reads it. */
typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_shapes;

#ifdef LM_AMX_EMULATED
static _Thread_local struct {
    tile_shapes shapes;
    uint8_t bytes[8][16][64];
} tiles;

static void tiles_open(const tile_shapes *shapes) {
    memset(&tiles, 0, sizeof tiles);
    tiles.shapes = *shapes;
}

static void tile_move(int t, uint8_t *memory, ptrdiff_t stride, bool load) {
    for (int r = 0; r < tiles.shapes.rows[t]; r++) {
        uint8_t *here = tiles.bytes[t][r], *there = memory + r * stride;
        memcpy(load ? here : there, load ? there : here, tiles.shapes.row_bytes[t]);
    }
}

static void tile_dot(int sums, int signed_, int unsigned_) {
    const tile_shapes *s = &tiles.shapes;
    for (int m = 0; m < s->rows[sums]; m++)
        for (int n = 0; n < s->row_bytes[sums] / 4; n++) {
            int32_t sum;
            memcpy(&sum, tiles.bytes[sums][m] + n * 4, 4);
            for (int k = 0; k < s->row_bytes[signed_]; k++)
                sum += (int8_t)tiles.bytes[signed_][m][k] *
                       tiles.bytes[unsigned_][k / 4][n * 4 + k % 4];
            memcpy(tiles.bytes[sums][m] + n * 4, &sum, 4);
        }
}

#define TILE_LOAD(t, from, stride) tile_move(t, (uint8_t *)(from), stride, true)
#define TILE_STORE(t, to, stride) tile_move(t, (uint8_t *)(to), stride, false)
#define TILE_ZERO(t) memset(tiles.bytes[t], 0, sizeof tiles.bytes[t])
#define TILE_DOT(sums, acts, weights) tile_dot(sums, acts, weights)
#define TILES_CLOSE() (void)0
#else
/* Assembly, as GCC's tile loads do not say that they read memory. */
static void tiles_open(const tile_shapes *shapes) {
    __asm__ volatile("ldtilecfg %0" : : "m"(*shapes));
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
#define TILE_ZERO(t) __asm__ volatile("tilezero %%tmm" #t :)
#define TILE_DOT(sums, acts, weights)                                                              \
    __asm__ volatile("tdpbsud %%tmm" #weights ", %%tmm" #acts ", %%tmm" #sums :)
#define TILES_CLOSE() __asm__ volatile("tilerelease" :)
#endif

/* Each call sets the shapes anew: other libraries use the tiles of a thread too. */
static void tiles_of(int inputs) {
    tile_shapes shapes __attribute__((aligned(64))) = {.palette = 1};
    for (int t = 0; t < 8; t++) {
        shapes.rows[t] = (uint8_t)(t < 6 ? ROWS : inputs / 4);
        shapes.row_bytes[t] = (uint16_t)(t == 4 || t == 5 ? inputs : 64);
    }
    tiles_open(&shapes);
}

/* -- one group of two panels ------------------------------------------------------------------ */

typedef int32_t tile_sums[2 * ROWS][PAIR];

/* A group of two panels: codes in the layout of 8 bits, scales and mins. */
typedef struct {
    const uint8_t *codes[2];
    __m512 scales[2], mins[2];
    int inputs;
    bool with_mins;
} group_view;

/* Scales or mins of a group: those of its super-block, times its codes. */
INLINE __m512 group_scales(const uint16_t *shared, const int8_t *codes, lm_scales_at at) {
    __m512 found = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(shared + at.shared)));
    if (!codes) return found;
    __m512i wide = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(codes + at.own)));
    return _mm512_mul_ps(found, _mm512_cvtepi32_ps(wide));
}

/* A group of a panel in the layout of 8 bits: in place, or in `buffer` when it has 4. */
static const uint8_t *group_codes(const lm_matrix *w, ptrdiff_t at, uint8_t *buffer) {
    const uint8_t *codes = w->codes + at * w->group * 2 * w->bits;
    if (w->bits == 8) return codes;
    const __m512i low = _mm512_set1_epi8(15);
    const __m512i table = w->codebook ? _mm512_broadcast_i32x4(_mm_loadu_si128(
                                            (const __m128i *)w->codebook))
                                      : _mm512_setzero_si512();
    const int half = w->group / 8 * 64;
    for (int b = 0; b < half; b += 64) {
        __m512i code = _mm512_loadu_si512(codes + b);
        __m512i high = _mm512_and_si512(_mm512_srli_epi16(code, 4), low);
        code = _mm512_and_si512(code, low);
        if (w->codebook) {
            code = _mm512_shuffle_epi8(table, code);
            high = _mm512_shuffle_epi8(table, high);
        }
        _mm512_store_si512(buffer + b, code);
        _mm512_store_si512(buffer + half + b, high);
    }
    return buffer;
}

/* 16 or, with a second tile of activations, 32 rows by a group of P panels, INPUTS at a time. */
INLINE void products(const int P, const group_view *w, const int8_t *first, const int8_t *second,
                     ptrdiff_t stride, tile_sums sums) {
    const ptrdiff_t bytes = sizeof sums[0];
    TILE_ZERO(0);
    if (P == 2) TILE_ZERO(1);
    if (second) {
        TILE_ZERO(2);
        if (P == 2) TILE_ZERO(3);
    }
    for (int k = 0; k < w->inputs; k += INPUTS) {
        TILE_LOAD(6, w->codes[0] + k * LM_PANEL, 64);
        TILE_LOAD(4, first + k, stride);
        TILE_DOT(0, 4, 6);
        if (P == 2) {
            TILE_LOAD(7, w->codes[1] + k * LM_PANEL, 64);
            TILE_DOT(1, 4, 7);
        }
        if (second) {
            TILE_LOAD(5, second + k, stride);
            TILE_DOT(2, 5, 6);
            if (P == 2) TILE_DOT(3, 5, 7);
        }
    }
    TILE_STORE(0, sums[0], bytes);
    if (P == 2) TILE_STORE(1, sums[0] + LM_PANEL, bytes);
    if (second) {
        TILE_STORE(2, sums[ROWS], bytes);
        if (P == 2) TILE_STORE(3, sums[ROWS] + LM_PANEL, bytes);
    }
}

/* Adds one row's sums of a group; `at` is the row's place in the activations' scales. */
INLINE void add_row(const int P, const group_view *w, const lm_acts *x, ptrdiff_t at,
                    const int32_t *sums, float *acc) {
    const __m512i offset = _mm512_set1_epi32(x->offsets[at]);
    const __m512 scale = _mm512_set1_ps(x->scales[at]), sum = _mm512_set1_ps(x->sums[at]);
    for (int p = 0; p < P; p++) {
        __m512i whole = _mm512_add_epi32(_mm512_load_si512(sums + p * LM_PANEL), offset);
        __m512 value = _mm512_load_ps(acc + p * LM_PANEL);
        value = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(whole), scale), w->scales[p],
                                value);
        if (w->with_mins) value = _mm512_fmadd_ps(sum, w->mins[p], value);
        _mm512_store_ps(acc + p * LM_PANEL, value);
    }
}

/* Rows [row, row + count) of a tile, 16 <= count <= TILE, by group `g` of P panels. The tiles of
 * the next rows work while these are scaled. */
INLINE void add_group(const int P, const lm_matrix *w, int g, const group_view *panels,
                      const lm_acts *x, int row, int count, float (*acc)[PAIR]) {
    tile_sums sums[2] __attribute__((aligned(64)));
    const ptrdiff_t stride = (ptrdiff_t)w->groups * w->group;
    const int8_t *codes = x->codes + row * stride + (ptrdiff_t)g * w->group;
    const int last = count - ROWS, blocks = (count + 2 * ROWS - 1) / (2 * ROWS);
    for (int b = 0; b <= blocks; b++) {
        if (b < blocks) {
            int r = b * 2 * ROWS, next = r + ROWS < last ? r + ROWS : last;
            const int8_t *second = r + ROWS < count ? codes + next * stride : NULL;
            const int8_t *rows = codes + (r < last ? r : last) * stride;
            products(P, panels, rows, second, stride, sums[b & 1]);
        }
        if (b == 0) continue;
        for (int i = 0; i < 2 * ROWS; i++) {
            int r = (b - 1) * 2 * ROWS + i, tile = r - i % ROWS;
            if (r >= count) break;
            int late = tile > last ? tile - last : 0; /* rows that this tile shares with another */
            add_row(P, panels, x, (ptrdiff_t)(row + r) * w->groups + g,
                    sums[(b - 1) & 1][i + late], acc[r]);
        }
    }
}

INLINE void multiply_panels(const int P, const lm_matrix *w, int panel, const lm_acts *x, int row,
                            int count, float *out, ptrdiff_t stride) {
    float acc[TILE][PAIR] __attribute__((aligned(64)));
    uint8_t buffers[2][LM_GROUP * LM_PANEL] __attribute__((aligned(64)));
    memset(acc, 0, sizeof acc[0] * (size_t)count);
    lm_scales_at scales_at[2] = {lm_scales_of(w, panel, 0), lm_scales_of(w, panel + P - 1, 0)};
    for (int g = 0; g < w->groups; g++) {
        group_view panels = {.inputs = w->group, .with_mins = w->mins != NULL};
        for (int p = 0; p < P; p++) {
            ptrdiff_t at = (ptrdiff_t)(panel + p) * w->groups + g;
            panels.codes[p] = group_codes(w, at, buffers[p]);
            panels.scales[p] = group_scales(w->scales, w->scale_codes, scales_at[p]);
            if (w->mins) panels.mins[p] = group_scales(w->mins, w->min_codes, scales_at[p]);
            lm_next_scales(w, &scales_at[p]);
        }
        add_group(P, w, g, &panels, x, row, count, acc);
    }
    for (int r = 0; r < count; r++)
        for (int p = 0; p < P; p++)
            _mm512_storeu_ps(out + r * stride + p * LM_PANEL,
                             _mm512_load_ps(acc[r] + p * LM_PANEL));
}

void lm_multiply_amx(const lm_matrix *w, int panel, int end, const lm_acts *x, int row, int count,
                     float *out, ptrdiff_t stride) {
    int done = 0;
    if (count >= ROWS) tiles_of(w->group < INPUTS ? w->group : INPUTS);
    while (count - done >= ROWS) {
        int rows = count - done < TILE ? count - done : TILE;
        float *into = out + done * stride;
        int p = panel;
        for (; p + 2 <= end; p += 2)
            multiply_panels(2, w, p, x, row + done, rows, into + (p - panel) * LM_PANEL, stride);
        if (p < end)
            multiply_panels(1, w, p, x, row + done, rows, into + (p - panel) * LM_PANEL, stride);
        done += rows;
    }
    if (count >= ROWS) TILES_CLOSE();
    if (done < count)
        lm_multiply_avx512(w, panel, end, x, row + done, count - done, out + done * stride, stride);
}

/* -- check at the start ------------------------------------------------------------------------ */

enum { CHECK_ROWS = 51, CHECK_GROUPS = 3, CHECK_PANELS = 3, CHECK_GROUP = 192 };

/* Whether the tiles give what AVX-512 gives, on numbers of every form of matrix. Asked once, after
 * the processor and the system have allowed tiles; a path that fails is not offered. */
bool lm_amx_ready(void) {
    static const int forms[][2] = {{4, 16}, {4, 32}, {4, 64},  {4, 192},
                                   {8, 16}, {8, 32}, {8, 64}, {8, 192}};
    static const uint16_t f16[] = {0x2e66, 0x3266, 0xb000, 0x2c01}; /* about 0.1, 0.2, -0.1, 0.06 */
    uint8_t codes[CHECK_PANELS * CHECK_GROUPS * CHECK_GROUP * LM_PANEL];
    uint16_t scales[CHECK_PANELS * CHECK_GROUPS * LM_PANEL];
    int8_t inputs[CHECK_ROWS * CHECK_GROUPS * CHECK_GROUP];
    float row_scales[CHECK_ROWS * CHECK_GROUPS], sums[CHECK_ROWS * CHECK_GROUPS];
    int32_t offsets[CHECK_ROWS * CHECK_GROUPS];
    static const int width = CHECK_PANELS * LM_PANEL;
    float got[CHECK_ROWS * CHECK_PANELS * LM_PANEL], wanted[CHECK_ROWS * CHECK_PANELS * LM_PANEL];
    uint32_t seed = 1;
    for (size_t i = 0; i < sizeof codes; i++)
        codes[i] = (uint8_t)((seed = seed * 1664525 + 1013904223) >> 24);
    for (size_t i = 0; i < sizeof inputs; i++) {
        int code = (int)((seed = seed * 1664525 + 1013904223) >> 24) - 128;
        inputs[i] = (int8_t)(code < -127 ? -127 : code);
    }
    for (int i = 0; i < CHECK_PANELS * CHECK_GROUPS * LM_PANEL; i++) scales[i] = f16[i % 7 % 4];
    for (int i = 0; i < CHECK_ROWS * CHECK_GROUPS; i++) {
        offsets[i] = i * 97 - 9000;
        row_scales[i] = 0.01f * (float)(i % 11);
        sums[i] = 0.3f * (float)(i % 13 - 6);
    }
    const lm_acts acts = {inputs, row_scales, offsets, sums};
    for (int i = 0; i < 16; i++) {
        const lm_matrix w = {.codes = codes, .scales = scales, .mins = i % 2 ? scales : NULL,
                             .rows = width, .panels = CHECK_PANELS, .groups = CHECK_GROUPS,
                             .cols = CHECK_GROUPS * forms[i / 2][1], .bits = forms[i / 2][0],
                             .group = forms[i / 2][1], .superblock = 1};
        lm_multiply_amx(&w, 0, CHECK_PANELS, &acts, 0, CHECK_ROWS, got, width);
        lm_multiply_avx512(&w, 0, CHECK_PANELS, &acts, 0, CHECK_ROWS, wanted, width);
        if (memcmp(got, wanted, sizeof got) != 0) return false;
    }
    return true;
}
