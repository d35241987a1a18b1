/* Products of grouped 4- and 8-bit matrices for ARM processors with dot products of bytes.
 *
 * Those of ARMv8.2 multiply signed bytes by signed ones. 4-bit codes are positive as they are, and
 * their sum starts where lm.h says. 8-bit codes are taken less 128: where their zero is 128 that
 * is the sum already; where it is 0, 128 times the sum of the activations' codes is missing. What
 * a codebook gives is 8 bits: nibbles are looked up in a table that is less 128 too.
 *
 * A panel stays in the L1 cache while blocks of rows go by. Floats are added as lm.h asks. */
#include <arm_neon.h>

#include "path.h"

#define INLINE static inline __attribute__((always_inline))

enum { BLOCK = 4, QUARTERS = 4 }; /* rows whose sums are registers; vectors of 4 outputs */
enum { NIBBLES, BYTES, LOOKED_UP }; /* what codes are */

INLINE int8x16_t inputs(const int8_t *codes)
{
    int32_t four;
    memcpy(&four, codes, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

/* Scales or mins of a group: those of its super-block, times its codes. */
INLINE void group_scales(const uint16_t *shared, const int8_t *codes, lm_scales_at at,
                         float32x4_t *to)
{
    for (int q = 0; q < QUARTERS; q++)
        to[q] = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(shared + at.shared + q * 4)));
    for (int half = 0; codes && half < 2; half++) {
        int16x8_t wide = vmovl_s8(vld1_s8(codes + at.own + half * 8));
        int32x4_t low = vmovl_s16(vget_low_s16(wide)), high = vmovl_s16(vget_high_s16(wide));
        to[half * 2] = vmulq_f32(to[half * 2], vcvtq_f32_s32(low));
        to[half * 2 + 1] = vmulq_f32(to[half * 2 + 1], vcvtq_f32_s32(high));
    }
}

/* ------------------------------------------------------------------ the sums of one group ---- */

/* All add the products of a group's codes with `rows` rows of activations, `apart` bytes from
 * each other, to sums that hold the rows' offsets. */
INLINE void group_of_4_bits(const uint8_t *codes, int stored, const int8_t *x, ptrdiff_t apart,
                            int rows, int32x4_t (*sums)[QUARTERS])
{
    for (int s = 0; s < stored; s++) {
        for (int q = 0; q < QUARTERS; q++) {
            uint8x16_t c = vld1q_u8(codes + s * 64 + q * 16);
            int8x16_t low = vreinterpretq_s8_u8(vandq_u8(c, vdupq_n_u8(15)));
            int8x16_t high = vreinterpretq_s8_u8(vshrq_n_u8(c, 4));
            for (int r = 0; r < rows; r++) {
                const int8_t *from = x + r * apart + s * 4;
                sums[r][q] = vdotq_s32(sums[r][q], low, inputs(from));
                sums[r][q] = vdotq_s32(sums[r][q], high, inputs(from + stored * 4));
            }
        }
    }
}

INLINE int32x4_t start(const lm_matrix *w, const int8_t *x)
{
    int32_t sum = 0;
    for (int k = 0; w->zero != 128 && k < w->group; k++)
        sum += x[k];
    return vdupq_n_s32((128 - w->zero) * sum);
}

INLINE void group_of_8_bits(const lm_matrix *w, const uint8_t *codes, const int8_t *x,
                            ptrdiff_t apart, int rows, int32x4_t (*sums)[QUARTERS])
{
    for (int r = 0; r < rows; r++)
        sums[r][0] = sums[r][1] = sums[r][2] = sums[r][3] = start(w, x + r * apart);
    for (int s = 0; s < w->group / 4; s++) {
        for (int q = 0; q < QUARTERS; q++) {
            uint8x16_t c = veorq_u8(vld1q_u8(codes + s * 64 + q * 16), vdupq_n_u8(128));
            for (int r = 0; r < rows; r++)
                sums[r][q] = vdotq_s32(sums[r][q], vreinterpretq_s8_u8(c),
                                       inputs(x + r * apart + s * 4));
        }
    }
}

INLINE void group_looked_up(const lm_matrix *w, const uint8_t *codes, const int8_t *x,
                            ptrdiff_t apart, int rows, int32x4_t (*sums)[QUARTERS])
{
    uint8x16_t table = veorq_u8(vld1q_u8(w->codebook), vdupq_n_u8(128));
    int stored = w->group / 8;
    for (int r = 0; r < rows; r++)
        sums[r][0] = sums[r][1] = sums[r][2] = sums[r][3] = vdupq_n_s32(0);
    for (int s = 0; s < stored; s++) {
        for (int q = 0; q < QUARTERS; q++) {
            uint8x16_t c = vld1q_u8(codes + s * 64 + q * 16);
            uint8x16_t low = vqtbl1q_u8(table, vandq_u8(c, vdupq_n_u8(15)));
            uint8x16_t high = vqtbl1q_u8(table, vshrq_n_u8(c, 4));
            for (int r = 0; r < rows; r++) {
                const int8_t *from = x + r * apart + s * 4;
                sums[r][q] = vdotq_s32(sums[r][q], vreinterpretq_s8_u8(low), inputs(from));
                sums[r][q] =
                    vdotq_s32(sums[r][q], vreinterpretq_s8_u8(high), inputs(from + stored * 4));
            }
        }
    }
}

/* --------------------------------------------------------------------------- rows and panels -- */

/* One panel by `rows` rows from `row` on; `kind`, `plain` (scales) and `rows` are constants where
 * it is inlined. */
INLINE void multiply_block(const lm_matrix *w, int kind, int plain, int panel, const lm_acts *x,
                           int row, int rows, float *out, ptrdiff_t stride)
{
    float32x4_t acc[BLOCK][QUARTERS];
    for (int r = 0; r < rows; r++)
        for (int q = 0; q < QUARTERS; q++)
            acc[r][q] = vdupq_n_f32(0);
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
        int32x4_t sums[BLOCK][QUARTERS];
        for (int r = 0; r < rows; r++)
            for (int q = 0; q < QUARTERS; q++)
                sums[r][q] = vdupq_n_s32(x->offsets[from + r * w->groups]);
        const int8_t *codes = x->codes + from * w->group;
        if (kind == NIBBLES)
            group_of_4_bits(w->codes + at * bytes, w->group / 8, codes, apart, rows, sums);
        else if (kind == LOOKED_UP)
            group_looked_up(w, w->codes + at * bytes, codes, apart, rows, sums);
        else
            group_of_8_bits(w, w->codes + at * bytes, codes, apart, rows, sums);
        float32x4_t scale[QUARTERS];
        group_scales(w->scales, scale_codes, scales_at, scale);
        for (int r = 0; r < rows; r++) {
            float32x4_t by = vdupq_n_f32(x->scales[from + r * w->groups]);
            for (int q = 0; q < QUARTERS; q++)
                acc[r][q] =
                    vfmaq_f32(acc[r][q], vmulq_f32(vcvtq_f32_s32(sums[r][q]), by), scale[q]);
        }
        if (w->mins) {
            group_scales(w->mins, min_codes, scales_at, scale);
            for (int r = 0; r < rows; r++)
                for (int q = 0; q < QUARTERS; q++)
                    acc[r][q] = vfmaq_f32(acc[r][q], vdupq_n_f32(x->sums[from + r * w->groups]),
                                          scale[q]);
        }
        if (!plain)
            lm_next_scales(w, &scales_at);
    }
    for (int r = 0; r < rows; r++)
        for (int q = 0; q < QUARTERS; q++)
            vst1q_f32(out + r * stride + q * 4, acc[r][q]);
}

INLINE void multiply_panel(const lm_matrix *w, int kind, int plain, int panel, const lm_acts *x,
                           int row, int count, float *out, ptrdiff_t stride)
{
    int r = 0;
    for (; r + BLOCK <= count; r += BLOCK)
        multiply_block(w, kind, plain, panel, x, row + r, BLOCK, out + r * stride, stride);
    for (; r < count; r++)
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

void LM_NAME(multiply)(const lm_matrix *w, int panel, int end, const lm_acts *x, int row,
                       int count, float *out, ptrdiff_t stride)
{
    for (int p = panel; p < end; p++) {
        float *to = out + (ptrdiff_t)(p - panel) * LM_PANEL;
        multiply_any(w, p, x, row, count, to, stride);
    }
}
