/* exp, tanh, erf of floats without branches, so that a loop over them is vectorized, and with the
 * same steps fused on every path, so that all give the same bits. Errors stay below 1.5 units in
 * the last place of the true value, of erf below 6 (tests/engine/kernels/test_rows.py). exp of less
 * than -87 is exp(-87), of more than 88 exp(88). */
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

/* A ratio of polynomials on [-4, 4], beyond which erf is 1 (the one of Eigen): within 4e-7. */
INLINE float lm_erf(float x)
{
    x = x < -4.0f ? -4.0f : x;
    x = x > 4.0f ? 4.0f : x;
    float z = x * x;
    float p = -2.72614225801306e-10f;
    p = lm_fma(p, z, 2.77068142495902e-08f);
    p = lm_fma(p, z, -2.10102402082508e-06f);
    p = lm_fma(p, z, -5.69250639462346e-05f);
    p = lm_fma(p, z, -7.34990630326855e-04f);
    p = lm_fma(p, z, -2.95459980854025e-03f);
    p = lm_fma(p, z, -1.60960333262415e-02f);
    float q = -1.45660718464996e-05f;
    q = lm_fma(q, z, -2.13374055278905e-04f);
    q = lm_fma(q, z, -1.68282697438203e-03f);
    q = lm_fma(q, z, -7.37332916720468e-03f);
    q = lm_fma(q, z, -1.42647390514189e-02f);
    return p / q * x;
}

#endif
