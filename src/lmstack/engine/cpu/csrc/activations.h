/* Activations of one float, so that a loop over them is vectorized: see maths.h. */
#ifndef LM_ACTIVATIONS_H
#define LM_ACTIVATIONS_H

#include "maths.h"

/* `kind` is a constant where this is inlined. */
INLINE float lm_activation(int kind, float x)
{
    switch (kind) {
    case LM_SILU:
        return lm_sigmoid_times(x, x);
    case LM_GELU:
        return 0.5f * x * (1.0f + lm_erf(x * 0.707106781f));
    case LM_GELU_TANH: /* 0.5 (1 + tanh u) is the sigmoid of 2u */
        return lm_sigmoid_times(x, 1.59576912f * lm_fma(0.044715f * x, x * x, x));
    case LM_RELU:
        return x < 0.0f ? 0.0f : x;
    case LM_TANH:
        return lm_tanh(x);
    case LM_QUICK_GELU:
        return lm_sigmoid_times(x, 1.702f * x);
    default:
        return x;
    }
}

#endif
