/* exp, tanh, erf of floats without branches, so that a loop over them is vectorized, and with the
 * same steps fused on every path, so that all give the same bits. Errors stay below 1.5 units in the
 * last place of the true value (tests/engine/kernels/test_rows.py). exp of less than -87 is
 * exp(-87), of more than 88 exp(88). */
#ifndef LM_MATHS_H
#define LM_MATHS_H

#include "path.h"

/* To the nearest integer, ties to even, for |x| < 2^22. */
INLINE float lm_round(float x)
{
    return (x + 12582912.0f) - 12582912.0f;
}

INLINE float lm_exp(float x)
{
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float shifted = lm_fma(x, 1.44269504f, 12582912.0f);
    float n = shifted - 12582912.0f;
    /* log(2) in two parts; the first has few bits, so n * first is exact. */
    float r = lm_fma(n, 2.12194440e-4f, lm_fma(n, -0.693359375f, x));
    float p = 1.9875691500e-4f;
    p = lm_fma(p, r, 1.3981999507e-3f);
    p = lm_fma(p, r, 8.3334519073e-3f);
    p = lm_fma(p, r, 4.1665795894e-2f);
    p = lm_fma(p, r, 1.6666665459e-1f);
    p = lm_fma(p, r, 5.0000001201e-1f);
    p = lm_fma(p, r * r, r) + 1.0f;
    return lm_float(lm_bits(p) + (int32_t)((uint32_t)lm_bits(shifted) << 23));
}

INLINE float lm_sigmoid_times(float x, float by)
{
    return x / (1.0f + lm_exp(-by));
}

INLINE float lm_with_sign(float size, float sign)
{
    return lm_float(lm_bits(size) | (lm_bits(sign) & INT32_MIN));
}

INLINE float lm_tanh(float x)
{
    float size = lm_float(lm_bits(x) & INT32_MAX), z = x * x;
    float p = -5.70498872745e-3f;
    p = lm_fma(p, z, 2.06390887954e-2f);
    p = lm_fma(p, z, -5.37397155531e-2f);
    p = lm_fma(p, z, 1.33314422036e-1f);
    p = lm_fma(p, z, -3.33332819422e-1f);
    float small = lm_fma(p * z, size, size);
    float large = 1.0f - 2.0f / (lm_exp(2.0f * size) + 1.0f);
    float either = size < 0.625f ? small : large;
    return x == x ? lm_with_sign(either, x) : x;
}

INLINE float lm_erf(float x)
{
    float t = lm_float(lm_bits(x) & INT32_MAX), z = x * x;
    float p = -5.96761703e-4f;
    p = lm_fma(p, z, 4.99119423e-3f);
    p = lm_fma(p, z, -2.67681349e-2f);
    p = lm_fma(p, z, 1.12819925e-1f);
    p = lm_fma(p, z, -3.76125336e-1f);
    p = lm_fma(p, z, 1.28379166e-1f);
    float small = lm_fma(p, t, t);
    /* 1 - exp(q(t)), where erf is near 1: beyond 4 it is 1. */
    float u = t > 4.0f ? 4.0f : t, s = u * u;
    float q = lm_fma(-1.72853470e-5f, u, 3.83197126e-4f);
    float v = lm_fma(-3.88396438e-3f, u, 2.42546219e-2f);
    q = lm_fma(q, s, v);
    q = lm_fma(q, u, -1.06777877e-1f);
    q = lm_fma(q, u, -6.34846687e-1f);
    q = lm_fma(q, u, -1.28717512e-1f);
    q = lm_fma(q, u, -u);
    float large = 1.0f - lm_exp(q);
    float either = t > 0.927734375f ? large : small;
    return x == x ? lm_with_sign(either, x) : x;
}

#endif
