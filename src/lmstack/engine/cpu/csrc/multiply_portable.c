/* The product in plain C, for any compiler and processor: the truth that the others are tested
 * against bit by bit. */
#include "path.h"

/* Codes of one panel and group as [input][output], so that outputs are neighbours. */
static void unpack(const lm_matrix *w, const uint8_t *codes, int16_t *into)
{
    int steps = w->group / 4, stored = w->bits == 4 ? steps / 2 : steps;
    for (int s = 0; s < steps; s++) {
        const uint8_t *step = codes + (s % stored) * 64;
        int shift = s < stored ? 0 : 4, mask = w->bits == 4 ? 15 : 255;
        for (int o = 0; o < LM_PANEL; o++)
            for (int i = 0; i < 4; i++) {
                int code = (step[o * 4 + i] >> shift) & mask;
                into[(s * 4 + i) * LM_PANEL + o] = w->codebook ? w->codebook[code] : (int16_t)code;
            }
    }
}

/* out += the part of one group, for one row. */
static inline void add_group(const int16_t *codes, const int8_t *x, int group, int32_t offset,
                             float x_scale, const float *scales, float *out)
{
    int32_t sums[LM_PANEL];
    for (int o = 0; o < LM_PANEL; o++)
        sums[o] = offset;
    /* Two inputs at a time: compilers make one instruction of it. */
    for (int k = 0; k < group; k += 2)
        for (int o = 0; o < LM_PANEL; o++)
            sums[o] += codes[k * LM_PANEL + o] * (int16_t)x[k]
                       + codes[(k + 1) * LM_PANEL + o] * (int16_t)x[k + 1];
    for (int o = 0; o < LM_PANEL; o++)
        out[o] = lm_fma((float)sums[o] * x_scale, scales[o], out[o]);
}

/* Of a group of a panel: `shared` of its super-block times its codes. */
static void group_scales(const uint16_t *shared, const int8_t *codes, lm_scales_at at, float *to)
{
    for (int o = 0; o < LM_PANEL; o++)
        to[o] = lm_half(shared[at.shared + o]) * (codes ? (float)codes[at.own + o] : 1.0f);
}

static void multiply_panel(const lm_matrix *w, int panel, const lm_acts *x, int row, int count,
                           float *out, ptrdiff_t stride)
{
    size_t bytes = (size_t)w->group * LM_PANEL * (size_t)w->bits / 8;
    for (int r = 0; r < count; r++)
        for (int o = 0; o < LM_PANEL; o++)
            out[r * stride + o] = 0.0f;
    lm_scales_at scales_at = lm_scales_of(w, panel, 0);
    for (int g = 0; g < w->groups; g++, lm_next_scales(w, &scales_at)) {
        size_t at = (size_t)panel * w->groups + g;
        int16_t codes[LM_GROUP * LM_PANEL];
        float scales[LM_PANEL], mins[LM_PANEL];
        unpack(w, w->codes + at * bytes, codes);
        group_scales(w->scales, w->scale_codes, scales_at, scales);
        if (w->mins)
            group_scales(w->mins, w->min_codes, scales_at, mins);
        for (int r = 0; r < count; r++) {
            size_t from = (size_t)(row + r) * w->groups + g;
            float *acc = out + r * stride;
            add_group(codes, x->codes + from * w->group, w->group, x->offsets[from],
                      x->scales[from], scales, acc);
            if (w->mins)
                for (int o = 0; o < LM_PANEL; o++)
                    acc[o] = lm_fma(x->sums[from], mins[o], acc[o]);
        }
    }
}

void LM_NAME(multiply)(const lm_matrix *w, int panel, int end, const lm_acts *x, int row,
                       int count, float *out, ptrdiff_t stride)
{
    for (int p = panel; p < end; p++)
        multiply_panel(w, p, x, row, count, out + (ptrdiff_t)(p - panel) * LM_PANEL, stride);
}
