/* Products of grouped 4- and 8-bit matrices for processors with AVX2, compiled a second time for
 * those whose AVX2 has dot products of bytes (the path avxvnni).
 *
 * Plain AVX2 has vpmaddubsw: unsigned times signed bytes, sums of two, which must fit 16 bits.
 * 4-bit codes: 8 of at most 2 * 15 * 127 fit, so 32 inputs are summed before they are widened.
 * 8-bit codes: |code - 128| times the activation with the sign of code - 128, and 2 * 128 * 127
 * just fits. Such a sum is that of code - 128 already, so it does not start where lm.h says.
 * What a codebook gives is 8 bits: nibbles are looked up by a byte shuffle, and treated alike.
 * Of many rows, 8-bit codes whose neighbours are small need no signs: see `narrow` below.
 *
 * A panel stays in the L1 cache while blocks of rows go by. Floats are added as lm.h asks. */
#include <immintrin.h>

#include "path.h"

#define INLINE static inline __attribute__((always_inline))

enum { BLOCK = 4 };                   /* rows whose sums are registers */
enum { NIBBLES, BYTES, LOOKED_UP }; /* what codes are */

/* Outputs 0 to 7 and 8 to 15. */
typedef struct {
    __m256i low, high;
} halves;

typedef struct {
    __m256 low, high;
} floats;

INLINE halves load(const uint8_t *codes)
{
    return (halves){_mm256_loadu_si256((const __m256i *)codes),
                    _mm256_loadu_si256((const __m256i *)(codes + 32))};
}

INLINE __m256i inputs(const int8_t *codes)
{
    int32_t four;
    memcpy(&four, codes, sizeof four);
    return _mm256_set1_epi32(four);
}

INLINE __m256 bytes_to_floats(const int8_t *codes)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)codes)));
}

/* Scales or mins of a group: those of its super-block, times its codes. */
INLINE floats group_scales(const uint16_t *shared, const int8_t *codes, lm_scales_at at)
{
    const uint16_t *f16 = shared + at.shared;
    floats found = {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)f16)),
                    _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(f16 + 8)))};
    if (codes) {
        found.low = _mm256_mul_ps(found.low, bytes_to_floats(codes + at.own));
        found.high = _mm256_mul_ps(found.high, bytes_to_floats(codes + at.own + 8));
    }
    return found;
}

INLINE halves low_nibbles(halves c)
{
    __m256i mask = _mm256_set1_epi8(15);
    return (halves){_mm256_and_si256(c.low, mask), _mm256_and_si256(c.high, mask)};
}

INLINE halves high_nibbles(halves c)
{
    return low_nibbles((halves){_mm256_srli_epi16(c.low, 4), _mm256_srli_epi16(c.high, 4)});
}

INLINE __m256i flipped(__m256i codes)
{
    return _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
}

INLINE __m256i table_of(const lm_matrix *w)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)w->codebook));
}

INLINE halves looked_up(__m256i table, halves nibbles)
{
    return (halves){_mm256_shuffle_epi8(table, nibbles.low),
                    _mm256_shuffle_epi8(table, nibbles.high)};
}

/* ---------------------------------------------------------------- the sums of one group ------ */

/* All add the products of a group's codes with `rows` rows of activations, `apart` bytes from
 * each other, to sums that hold the rows' offsets. */
#ifdef __AVXVNNI__

INLINE void add(halves *sum, halves c, __m256i x)
{
    sum->low = _mm256_dpbusd_avx_epi32(sum->low, c.low, x);
    sum->high = _mm256_dpbusd_avx_epi32(sum->high, c.high, x);
}

INLINE void group_of_4_bits(const uint8_t *codes, int stored, const int8_t *x, ptrdiff_t apart,
                            int rows, halves *sums)
{
    for (int s = 0; s < stored; s++) {
        halves c = load(codes + s * 64), low = low_nibbles(c), high = high_nibbles(c);
        for (int r = 0; r < rows; r++) {
            add(&sums[r], low, inputs(x + r * apart + s * 4));
            add(&sums[r], high, inputs(x + r * apart + (s + stored) * 4));
        }
    }
}

INLINE void group_looked_up(const lm_matrix *w, const uint8_t *codes, const int8_t *x,
                            ptrdiff_t apart, int rows, halves *sums)
{
    __m256i table = table_of(w);
    int stored = w->group / 8;
    for (int s = 0; s < stored; s++) {
        halves c = load(codes + s * 64), low = looked_up(table, low_nibbles(c));
        halves high = looked_up(table, high_nibbles(c));
        for (int r = 0; r < rows; r++) {
            add(&sums[r], low, inputs(x + r * apart + s * 4));
            add(&sums[r], high, inputs(x + r * apart + (s + stored) * 4));
        }
    }
}

INLINE void group_of_8_bits(const lm_matrix *w, const uint8_t *codes, const int8_t *x,
                            ptrdiff_t apart, int rows, halves *sums)
{
    for (int s = 0; s < w->group / 4; s++) {
        halves c = load(codes + s * 64);
        for (int r = 0; r < rows; r++)
            add(&sums[r], c, inputs(x + r * apart + s * 4));
    }
}

#else

INLINE __m256i widened(__m256i pairs)
{
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

INLINE void add_narrow(halves *sum, halves c, __m256i x)
{
    sum->low = _mm256_add_epi16(sum->low, _mm256_maddubs_epi16(c.low, x));
    sum->high = _mm256_add_epi16(sum->high, _mm256_maddubs_epi16(c.high, x));
}

INLINE void add_wide(halves *sum, halves pairs)
{
    sum->low = _mm256_add_epi32(sum->low, widened(pairs.low));
    sum->high = _mm256_add_epi32(sum->high, widened(pairs.high));
}

INLINE void group_of_4_bits(const uint8_t *codes, int stored, const int8_t *x, ptrdiff_t apart,
                            int rows, halves *sums)
{
    for (int first = 0; first < stored; first += 4) {
        int end = first + 4 < stored ? first + 4 : stored;
        halves narrow[BLOCK];
        for (int r = 0; r < rows; r++)
            narrow[r] = (halves){_mm256_setzero_si256(), _mm256_setzero_si256()};
        for (int s = first; s < end; s++) {
            halves c = load(codes + s * 64), low = low_nibbles(c), high = high_nibbles(c);
            for (int r = 0; r < rows; r++) {
                add_narrow(&narrow[r], low, inputs(x + r * apart + s * 4));
                add_narrow(&narrow[r], high, inputs(x + r * apart + (s + stored) * 4));
            }
        }
        for (int r = 0; r < rows; r++)
            add_wide(&sums[r], narrow[r]);
    }
}

/* What the products of code - 128 lack: 128 - zero times the sum of the activations' codes. */
INLINE __m256i start(const lm_matrix *w, const int8_t *x)
{
    int32_t sum = 0;
    for (int k = 0; w->zero != 128 && k < w->group; k++)
        sum += x[k];
    return _mm256_set1_epi32((128 - w->zero) * sum);
}

/* Codes less 128, by four inputs of each row. */
INLINE void add_signed(halves c, const int8_t *x, ptrdiff_t apart, int rows, halves *sums)
{
    halves size = {_mm256_abs_epi8(c.low), _mm256_abs_epi8(c.high)};
    for (int r = 0; r < rows; r++) {
        __m256i of = inputs(x + r * apart);
        halves pairs = {_mm256_maddubs_epi16(size.low, _mm256_sign_epi8(of, c.low)),
                        _mm256_maddubs_epi16(size.high, _mm256_sign_epi8(of, c.high))};
        add_wide(&sums[r], pairs);
    }
}

INLINE void group_looked_up(const lm_matrix *w, const uint8_t *codes, const int8_t *x,
                            ptrdiff_t apart, int rows, halves *sums)
{
    __m256i table = flipped(table_of(w));
    int stored = w->group / 8;
    for (int r = 0; r < rows; r++)
        sums[r].low = sums[r].high = _mm256_setzero_si256();
    for (int s = 0; s < stored; s++) {
        halves c = load(codes + s * 64);
        add_signed(looked_up(table, low_nibbles(c)), x + s * 4, apart, rows, sums);
        add_signed(looked_up(table, high_nibbles(c)), x + (s + stored) * 4, apart, rows, sums);
    }
}

INLINE void group_of_8_bits(const lm_matrix *w, const uint8_t *codes, const int8_t *x,
                            ptrdiff_t apart, int rows, halves *sums)
{
    for (int r = 0; r < rows; r++)
        sums[r].low = sums[r].high = start(w, x + r * apart);
    for (int s = 0; s < w->group / 4; s++) {
        halves c = load(codes + s * 64);
        c = (halves){flipped(c.low), flipped(c.high)};
        add_signed(c, x + s * 4, apart, rows, sums);
    }
}

#endif

/* --------------------------------------------------------------------------- rows and panels -- */

INLINE void add_floats(halves sum, float x_scale, floats scale, floats *acc)
{
    __m256 by = _mm256_set1_ps(x_scale);
    acc->low = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sum.low), by), scale.low, acc->low);
    acc->high =
        _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sum.high), by), scale.high, acc->high);
}

INLINE void add_mins(float x_sum, floats min, floats *acc)
{
    __m256 by = _mm256_set1_ps(x_sum);
    acc->low = _mm256_fmadd_ps(by, min.low, acc->low);
    acc->high = _mm256_fmadd_ps(by, min.high, acc->high);
}

/* One panel by `rows` rows from `row` on; `kind`, `plain` (scales) and `rows` are constants where
 * it is inlined. */
INLINE void multiply_block(const lm_matrix *w, int kind, int plain, int panel, const lm_acts *x,
                           int row, int rows, float *out, ptrdiff_t stride)
{
    floats acc[BLOCK];
    for (int r = 0; r < rows; r++)
        acc[r] = (floats){_mm256_setzero_ps(), _mm256_setzero_ps()};
    ptrdiff_t bytes = (ptrdiff_t)w->group * LM_PANEL / (kind == BYTES ? 1 : 2);
    ptrdiff_t apart = (ptrdiff_t)w->groups * w->group;
    const int8_t *scale_codes = plain ? NULL : w->scale_codes;
    const int8_t *min_codes = plain ? NULL : w->min_codes;
    lm_scales_at scales_at = {0, 0, 0};
    if (!plain)
        scales_at = lm_scales_of(w, panel, 0);
    for (int g = 0; g < w->groups; g++) {
        ptrdiff_t at = (ptrdiff_t)panel * w->groups + g, from = (ptrdiff_t)row * w->groups + g;
        if (plain)
            scales_at.shared = at * LM_PANEL;
        halves sums[BLOCK];
        for (int r = 0; r < rows; r++)
            sums[r].low = sums[r].high = _mm256_set1_epi32(x->offsets[from + r * w->groups]);
        const int8_t *codes = x->codes + from * w->group;
        if (kind == NIBBLES)
            group_of_4_bits(w->codes + at * bytes, w->group / 8, codes, apart, rows, sums);
        else if (kind == LOOKED_UP)
            group_looked_up(w, w->codes + at * bytes, codes, apart, rows, sums);
        else
            group_of_8_bits(w, w->codes + at * bytes, codes, apart, rows, sums);
        floats scale = group_scales(w->scales, scale_codes, scales_at);
        for (int r = 0; r < rows; r++)
            add_floats(sums[r], x->scales[from + r * w->groups], scale, &acc[r]);
        if (w->mins) {
            floats min = group_scales(w->mins, min_codes, scales_at);
            for (int r = 0; r < rows; r++)
                add_mins(x->sums[from + r * w->groups], min, &acc[r]);
        }
        if (!plain)
            lm_next_scales(w, &scales_at);
    }
    for (int r = 0; r < rows; r++) {
        _mm256_storeu_ps(out + r * stride, acc[r].low);
        _mm256_storeu_ps(out + r * stride + 8, acc[r].high);
    }
}

INLINE void multiply_panel(const lm_matrix *w, int kind, int plain, int panel, const lm_acts *x,
                           int row, int count, float *out, ptrdiff_t stride)
{
    int r = 0;
    for (; r + BLOCK <= count; r += BLOCK)
        multiply_block(w, kind, plain, panel, x, row + r, BLOCK, out + r * stride, stride);
    if (r + 2 <= count) {
        multiply_block(w, kind, plain, panel, x, row + r, 2, out + r * stride, stride);
        r += 2;
    }
    if (r < count)
        multiply_block(w, kind, plain, panel, x, row + r, 1, out + r * stride, stride);
}

INLINE void multiply_kind(const lm_matrix *w, int plain, int panel, const lm_acts *x, int row,
                          int count, float *out, ptrdiff_t stride)
{
    if (w->codebook)
        multiply_panel(w, LOOKED_UP, plain, panel, x, row, count, out, stride);
    else if (w->bits == 4)
        multiply_panel(w, NIBBLES, plain, panel, x, row, count, out, stride);
    else
        multiply_panel(w, BYTES, plain, panel, x, row, count, out, stride);
}

static void multiply_any(const lm_matrix *w, int panel, const lm_acts *x, int row, int count,
                         float *out, ptrdiff_t stride)
{
    if (lm_plain_scales(w))
        multiply_kind(w, 1, panel, x, row, count, out, stride);
    else
        multiply_kind(w, 0, panel, x, row, count, out, stride);
}

#ifndef __AVXVNNI__

/* ------------------------------------------------------ many rows of narrow panels of 8 bits - */

/* A panel is narrow where of inputs i, i + 1, i + 4 and i + 5 (i even, of each eight) the positive
 * codes - 128 add up to at most 128, and so do the negative ones. Activations + 128 are unsigned
 * then, and the four products with code - 128 fit 16 bits: 255 * 128. `lmstack.model.quant.quantize`
 * makes the matrices of encoders so. What the sums have too much is 128 times the sum of code -
 * 128. */
enum { NARROW_PANELS = 8, NARROW_GROUPS = 32, NARROW_ROWS = 32, SHIFTED = 1 << 16 };

INLINE halves signed_codes(const uint8_t *codes)
{
    halves c = load(codes);
    return (halves){flipped(c.low), flipped(c.high)};
}

/* The larger of what the positive and the negative ones of four inputs add up to. */
INLINE __m256i fours(__m256i c, __m256i next)
{
    __m256i zero = _mm256_setzero_si256(), one = _mm256_set1_epi8(1);
    __m256i more = _mm256_add_epi16(_mm256_maddubs_epi16(_mm256_max_epi8(c, zero), one),
                                    _mm256_maddubs_epi16(_mm256_max_epi8(next, zero), one));
    c = _mm256_abs_epi8(_mm256_min_epi8(c, zero));
    next = _mm256_abs_epi8(_mm256_min_epi8(next, zero));
    __m256i less =
        _mm256_add_epi16(_mm256_maddubs_epi16(c, one), _mm256_maddubs_epi16(next, one));
    return _mm256_max_epi16(more, less);
}

/* Of unsigned `x` and what follows it with signed codes and those that follow them. */
INLINE halves products(__m256i x, __m256i after, halves c, halves next)
{
    __m256i low = _mm256_maddubs_epi16(x, c.low), high = _mm256_maddubs_epi16(x, c.high);
    return (halves){_mm256_add_epi16(low, _mm256_maddubs_epi16(after, next.low)),
                    _mm256_add_epi16(high, _mm256_maddubs_epi16(after, next.high))};
}

/* Whether the panel is narrow, and minus what its sums have too much, for each group. */
static int is_narrow(const lm_matrix *w, int panel, halves *start)
{
    __m256i one = _mm256_set1_epi8(1), largest = _mm256_setzero_si256();
    const uint8_t *codes = w->codes + (ptrdiff_t)panel * w->groups * w->group * LM_PANEL;
    for (int g = 0; g < w->groups; g++) {
        halves sum = {_mm256_setzero_si256(), _mm256_setzero_si256()};
        for (int k = 0; k < w->group; k += 8, codes += 128) {
            halves c = signed_codes(codes), next = signed_codes(codes + 64);
            __m256i both = _mm256_max_epi16(fours(c.low, next.low), fours(c.high, next.high));
            largest = _mm256_max_epi16(largest, both);
            add_wide(&sum, products(one, one, c, next));
        }
        __m256i by = _mm256_set1_epi32(-128);
        start[g] = (halves){_mm256_mullo_epi32(sum.low, by), _mm256_mullo_epi32(sum.high, by)};
        if (_mm256_movemask_epi8(_mm256_cmpgt_epi16(largest, _mm256_set1_epi16(128))))
            return 0;
    }
    return 1;
}

/* One narrow panel by BLOCK rows from `row` on, whose codes + 128 lie in `shifted`. */
static void multiply_narrow_block(const lm_matrix *w, int panel, const halves *start,
                                const lm_acts *x, int row, const uint8_t *shifted, float *out,
                                ptrdiff_t stride)
{
    floats acc[BLOCK];
    for (int r = 0; r < BLOCK; r++)
        acc[r] = (floats){_mm256_setzero_ps(), _mm256_setzero_ps()};
    ptrdiff_t apart = (ptrdiff_t)w->groups * w->group;
    for (int g = 0; g < w->groups; g++) {
        ptrdiff_t at = (ptrdiff_t)panel * w->groups + g, from = (ptrdiff_t)row * w->groups + g;
        const uint8_t *codes = w->codes + at * w->group * LM_PANEL;
        halves sums[BLOCK];
        for (int r = 0; r < BLOCK; r++)
            sums[r] = start[g];
        for (int k = 0; k < w->group; k += 8) {
            halves c = signed_codes(codes + k * 16), next = signed_codes(codes + k * 16 + 64);
            for (int r = 0; r < BLOCK; r++) {
                const int8_t *at_k = (const int8_t *)shifted + r * apart + g * w->group + k;
                add_wide(&sums[r], products(inputs(at_k), inputs(at_k + 4), c, next));
            }
        }
        floats scale = group_scales(w->scales, NULL, (lm_scales_at){at * LM_PANEL, 0, 0});
        for (int r = 0; r < BLOCK; r++)
            add_floats(sums[r], x->scales[from + r * w->groups], scale, &acc[r]);
    }
    for (int r = 0; r < BLOCK; r++) {
        _mm256_storeu_ps(out + r * stride, acc[r].low);
        _mm256_storeu_ps(out + r * stride + 8, acc[r].high);
    }
}

/* At most NARROW_PANELS panels by a multiple of BLOCK rows. */
static void multiply_some(const lm_matrix *w, int panel, int end, const lm_acts *x, int row,
                          int count, float *out, ptrdiff_t stride)
{
    halves start[NARROW_PANELS][NARROW_GROUPS];
    uint8_t shifted[SHIFTED];
    int narrow[NARROW_PANELS];
    for (int p = panel; p < end; p++)
        narrow[p - panel] = is_narrow(w, p, start[p - panel]);
    ptrdiff_t apart = (ptrdiff_t)w->groups * w->group;
    int fit = (int)(SHIFTED / apart) / BLOCK * BLOCK;
    for (int done = 0; done < count; done += fit) {
        int rows = count - done < fit ? count - done : fit;
        const int8_t *codes = x->codes + (row + done) * apart;
        for (ptrdiff_t i = 0; i < rows * apart; i++)
            shifted[i] = (uint8_t)(codes[i] + 128);
        for (int p = panel; p < end; p++) {
            float *to = out + done * stride + (ptrdiff_t)(p - panel) * LM_PANEL;
            if (!narrow[p - panel])
                multiply_any(w, p, x, row + done, rows, to, stride);
            for (int r = 0; narrow[p - panel] && r < rows; r += BLOCK)
                multiply_narrow_block(w, p, start[p - panel], x, row + done + r,
                                    shifted + r * apart, to + r * stride, stride);
        }
    }
}

/* As many of the rows as are worth it; how many those are. */
static int multiply_many(const lm_matrix *w, int panel, int end, const lm_acts *x, int row,
                         int count, float *out, ptrdiff_t stride)
{
    ptrdiff_t apart = (ptrdiff_t)w->groups * w->group;
    int able = w->bits == 8 && w->zero == 128 && !w->mins && lm_plain_scales(w)
               && w->groups <= NARROW_GROUPS;
    if (!able || count < NARROW_ROWS || apart * BLOCK > SHIFTED)
        return 0;
    int rows = count / BLOCK * BLOCK;
    for (int p = panel; p < end; p += NARROW_PANELS) {
        int last = p + NARROW_PANELS < end ? p + NARROW_PANELS : end;
        multiply_some(w, p, last, x, row, rows, out + (ptrdiff_t)(p - panel) * LM_PANEL, stride);
    }
    return rows;
}

#endif

void LM_NAME(multiply)(const lm_matrix *w, int panel, int end, const lm_acts *x, int row,
                       int count, float *out, ptrdiff_t stride)
{
#ifndef __AVXVNNI__
    int done = multiply_many(w, panel, end, x, row, count, out, stride);
    row += done;
    count -= done;
    out += done * stride;
#endif
    for (int p = panel; p < end; p++) {
        float *to = out + (ptrdiff_t)(p - panel) * LM_PANEL;
        multiply_any(w, p, x, row, count, to, stride);
    }
}
