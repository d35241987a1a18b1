/* What follows a product, on its rows while they are in the cache. Plain C that compilers
 * vectorize, compiled once per path; each element for itself, so equal bits everywhere. */
#include "activations.h"

/* Elements do not meet each other, though `out` may be `base`. GCC 12 takes a loop over a panel
 * apart before it vectorizes, and then shuffles: it must not. */
#ifdef __clang__
#define EACH_ALONE _Pragma("clang loop vectorize(assume_safety) unroll(disable)")
#else
#define EACH_ALONE _Pragma("GCC ivdep") _Pragma("GCC unroll 1")
#endif

INLINE const float *from(const float *array, ptrdiff_t at) { return array ? array + at : NULL; }

/* out = [base +] act(x [+ bias]) [* (up [+ up_bias])]: `kind` and whether a pointer is NULL are
 * constants where this is inlined. */
INLINE void finish_each(int kind, const float *x, const float *bias, const float *up,
                        const float *up_bias, const float *base, float *out, int n)
{
    EACH_ALONE
    for (int i = 0; i < n; i++) {
        float value = lm_activation(kind, bias ? x[i] + bias[i] : x[i]);
        if (up)
            value *= up_bias ? up[i] + up_bias[i] : up[i];
        out[i] = base ? base[i] + value : value;
    }
}

/* Columns of a row; `up`: beside each panel of gate. */
INLINE void finish_part(int kind, int paired, const lm_after *a, int column, const float *x,
                        const float *base, float *out, int n)
{
    const float *bias = from(a->bias, column), *up_bias = from(a->up_bias, column);
    const float *up = x + LM_PANEL;
    base = from(base, column);
    out += column;
    if (paired && a->bias && a->base)
        finish_each(kind, x, bias, up, up_bias, base, out, n);
    else if (paired && a->bias)
        finish_each(kind, x, bias, up, up_bias, NULL, out, n);
    else if (paired && a->base)
        finish_each(kind, x, NULL, up, NULL, base, out, n);
    else if (paired)
        finish_each(kind, x, NULL, up, NULL, NULL, out, n);
    else if (a->bias && a->base)
        finish_each(kind, x, bias, NULL, NULL, base, out, n);
    else if (a->bias)
        finish_each(kind, x, bias, NULL, NULL, NULL, out, n);
    else if (a->base)
        finish_each(kind, x, NULL, NULL, NULL, base, out, n);
    else
        finish_each(kind, x, NULL, NULL, NULL, NULL, out, n);
}

INLINE void finish_rows(int kind, int paired, const lm_after *a, const float *product,
                        ptrdiff_t stride, int rows, int n)
{
    for (int r = 0; r < rows; r++) {
        const float *x = product + r * stride, *base = from(a->base, r * a->base_stride);
        float *out = a->out + r * a->out_stride;
        int at = 0;
        for (; paired && at + LM_PANEL <= n; at += LM_PANEL, x += 2 * LM_PANEL)
            finish_part(kind, 1, a, at, x, base, out, LM_PANEL);
        if (at < n)
            finish_part(kind, paired, a, at, x, base, out, n - at);
    }
}

#define EACH_KIND(kind)                                                                            \
    case kind:                                                                                     \
        if (a->paired)                                                                             \
            finish_rows(kind, 1, a, product, stride, rows, n);                                     \
        else                                                                                       \
            finish_rows(kind, 0, a, product, stride, rows, n);                                     \
        break;

void LM_NAME(finish)(const lm_after *a, const float *product, ptrdiff_t stride, int rows, int n)
{
    switch (a->act) {
        EACH_KIND(LM_NO_ACT)
        EACH_KIND(LM_SILU)
        EACH_KIND(LM_GELU)
        EACH_KIND(LM_GELU_TANH)
        EACH_KIND(LM_RELU)
        EACH_KIND(LM_TANH)
        EACH_KIND(LM_QUICK_GELU)
    }
}
