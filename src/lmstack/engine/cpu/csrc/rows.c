/* Ops on one row: quantize, norms, activations, rotary. Plain C that compilers vectorize, compiled
 * once per path. Equal bits everywhere: fused only by lm_fma, and a sum over a row is 16 sums
 * of every 16th element, added in a fixed tree. */
#include <math.h>

#include "activations.h"

#define LANES 16
/* Below this a group counts as zero: 127 / max would overflow, and no such value matters. */
#define SMALLEST 0x1p-100f

/* ---------------------------------------------------------------------------- quantization -- */

/* Bit patterns of floats without their signs order as the floats do, NaN last. */
static inline float largest(const float *x, int n)
{
    int32_t top = 0;
    for (int i = 0; i < n; i++) {
        int32_t size = lm_bits(x[i]) & INT32_MAX;
        top = size > top ? size : top;
    }
    return lm_float(top);
}

/* n codes with their sum; n is a constant where this is inlined. */
static inline float quantize_group(const float *x, int n, int8_t *codes, int32_t *sum)
{
    float top = largest(x, n);
    *sum = 0;
    if (!(top >= SMALLEST && top <= FLT_MAX)) {
        memset(codes, 0, (size_t)n);
        return top < SMALLEST ? 0.0f : NAN; /* an infinity or NaN spoils what it meets */
    }
    float inverse = 127.0f / top;
    int32_t total = 0;
    for (int i = 0; i < n; i++) {
        int32_t code = lm_bits(x[i] * inverse + 12582912.0f) - 0x4b400000;
        codes[i] = (int8_t)code;
        total += code;
    }
    *sum = total;
    return top / 127.0f;
}

static int32_t halves_of(const int8_t *codes, int n, int32_t sum)
{
    int32_t of_first = 0;
    for (int i = 0; i < n / 2; i++)
        of_first += codes[i];
    return (int32_t)((uint32_t)(sum - of_first) << 16 | (uint16_t)of_first);
}

static inline void quantize_groups(const float *x, const lm_matrix *w, int n, lm_acts *acts,
                                   int row)
{
    size_t first = (size_t)row * w->groups;
    for (int g = 0; g < w->groups; g++) {
        float padded[LM_GROUP];
        const float *from = x + (size_t)g * n;
        int real = w->cols - g * n;
        if (w->order) {
            for (int i = 0; i < n; i++)
                padded[i] = i < real ? x[w->order[g * n + i]] : 0.0f;
            from = padded;
        } else if (real < n) {
            for (int i = 0; i < n; i++)
                padded[i] = i < real ? from[i] : 0.0f;
            from = padded;
        }
        int32_t sum;
        float scale = quantize_group(from, n, acts->codes + (first + g) * n, &sum);
        acts->scales[first + g] = scale;
        acts->offsets[first + g] = -w->zero * sum;
        acts->sums[first + g] = scale * (float)sum;
        if (w->lines) acts->halves[first + g] = halves_of(acts->codes + (first + g) * n, n, sum);
    }
}

void LM_NAME(quantize)(const float *x, const lm_matrix *w, lm_acts *acts, int row)
{
    if (w->group == 32)
        quantize_groups(x, w, 32, acts, row);
    else if (w->group == 64)
        quantize_groups(x, w, 64, acts, row);
    else if (w->group == 16)
        quantize_groups(x, w, 16, acts, row);
    else
        quantize_groups(x, w, w->group, acts, row);
}

/* ----------------------------------------------------------------------------------- norms -- */

static inline float tree(const float *sums)
{
    float by[LANES];
    memcpy(by, sums, sizeof by);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            by[i] += by[i + half];
    return by[0];
}

static float sum(const float *x, int n)
{
    float sums[LANES] = {0};
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            sums[j] += x[i + j];
    for (int j = 0; i + j < n; j++)
        sums[j] += x[i + j];
    return tree(sums);
}

/* Of (x - mean)^2. */
static float sum_of_squares(const float *x, int n, float mean)
{
    float sums[LANES] = {0};
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            sums[j] += (x[i + j] - mean) * (x[i + j] - mean);
    for (int j = 0; i + j < n; j++)
        sums[j] += (x[i + j] - mean) * (x[i + j] - mean);
    return tree(sums);
}

void LM_NAME(rms_norm)(const float *x, const float *weight, int n, float eps, int from_one,
                       float *out)
{
    float by = 1.0f / sqrtf(sum_of_squares(x, n, 0.0f) / (float)n + eps);
    float more = from_one ? 1.0f : 0.0f;
    for (int i = 0; i < n; i++)
        out[i] = x[i] * by * (weight[i] + more);
}

void LM_NAME(layer_norm)(const float *x, const float *weight, const float *bias, int n, float eps,
                         float *out)
{
    float mean = sum(x, n) / (float)n;
    float by = 1.0f / sqrtf(sum_of_squares(x, n, mean) / (float)n + eps);
    if (bias)
        for (int i = 0; i < n; i++)
            out[i] = (x[i] - mean) * by * weight[i] + bias[i];
    else
        for (int i = 0; i < n; i++)
            out[i] = (x[i] - mean) * by * weight[i];
}

/* ----------------------------------------------------------------------------- activations -- */

/* One loop for the kind, so that what is inside has no branch. */
#define EACH(kind)                                                                                 \
    case kind:                                                                                     \
        for (int i = 0; i < n; i++)                                                                \
            out[i] = lm_activation(kind, x[i]);                                                    \
        break;

void LM_NAME(activate)(int kind, const float *x, int n, float *out)
{
    switch (kind) {
        EACH(LM_SILU)
        EACH(LM_GELU)
        EACH(LM_GELU_TANH)
        EACH(LM_RELU)
        EACH(LM_TANH)
        EACH(LM_QUICK_GELU)
    }
}

/* ---------------------------------------------------------------------------------- rotary -- */

/* Two products and a sum, each rounded, as in the reference. */
void LM_NAME(rotate)(float *x, const float *cos, const float *sin, int n)
{
    int half = n / 2;
    for (int i = 0; i < half; i++) {
        float first = x[i], second = x[i + half];
        x[i] = first * cos[i] + second * sin[i];
        x[i + half] = second * cos[i + half] + first * sin[i + half];
    }
}
