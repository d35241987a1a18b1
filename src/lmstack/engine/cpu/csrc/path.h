/* What every file of a path needs: the suffix of its functions, and arithmetic that gives the
 * same bits on all paths. Such a file is compiled once per path with -DLM_PATH=avx2 (or another);
 * build.py holds the flags of each. -ffp-contract=off: a multiply-add is fused where it says
 * lm_fma, and nowhere else. */
#ifndef LM_PATH_H
#define LM_PATH_H

#include <float.h>
#include <string.h>

#include "lm.h"

#define LM_PASTE_(a, b) a##_##b
#define LM_PASTE(a, b) LM_PASTE_(a, b)
#define LM_NAME(name) LM_PASTE(lm_##name, LM_PATH)

/* In loops that must be vectorized, whatever the compiler thinks of their length. */
#define INLINE static inline __attribute__((always_inline))

INLINE int32_t lm_bits(float x)
{
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

INLINE float lm_float(int32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* a * b + c, rounded once. Without the instruction: the product is exact in double, the sum is
 * rounded to odd (Boldo and Melquiond 2008), so that rounding it again to float is right. */
INLINE float lm_fma(float a, float b, float c)
{
#if defined(__FMA__) || defined(__aarch64__)
    return __builtin_fmaf(a, b, c);
#else
    double product = (double)a * b, sum = product + c;
    double part = sum - product;
    double error = (product - (sum - part)) + (c - part);
    int64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    /* No error (or one that is not a number: then the sum is infinite or none): leave it. */
    int inexact = error > 0 || error < 0;
    bits += inexact && !(bits & 1) ? ((error > 0) == (sum > 0) ? 1 : -1) : 0;
    memcpy(&sum, &bits, sizeof sum);
    return (float)sum;
#endif
}

/* float16 to float, any value but a NaN's payload exactly; for paths without the instruction. */
INLINE float lm_half(uint16_t half)
{
    int32_t sign = (int32_t)((uint32_t)(half & 0x8000) << 16), rest = (half & 0x7fff) << 13;
    /* Moves the exponent's bias by a product that is exact, subnormals included. */
    float value = lm_float(rest) * 0x1p112f;
    int32_t special = rest >= (0x7c00 << 13) ? 0x7f800000 | rest : lm_bits(value);
    return lm_float(sign | special);
}

#endif
