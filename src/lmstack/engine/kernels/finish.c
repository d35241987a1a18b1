/* What follows a product, on its rows while they are in the cache. Plain C that compilers
 * vectorize, compiled once per path; each element for itself, so equal bits everywhere. */
#include "activations.h"

/* Elements do not meet each other, though `out` may be `base`. */
#ifdef __clang__
#define EACH_ALONE _Pragma("clang loop vectorize(assume_safety)")
#else
#define EACH_ALONE _Pragma("GCC ivdep")
#endif
#define INLINE static inline __attribute__((always_inline))

/* n columns, all of a panel's but in the last one; `kind` and `paired` are constants where this is
 * inlined. `up`: the panel beside it. */
INLINE void finish_panel(int kind, int paired, const lm_after *a, const float *x, const float *up,
                         int column, int n, const float *base, float *out)
{
    float value[LM_PANEL], by[LM_PANEL];
    for (int i = 0; i < n; i++)
        value[i] = x[i];
    if (a->bias)
        for (int i = 0; i < n; i++)
            value[i] += a->bias[column + i];
    if (paired) {
        for (int i = 0; i < n; i++)
            by[i] = up[i];
        if (a->bias)
            for (int i = 0; i < n; i++)
                by[i] += a->up_bias[column + i];
    }
    for (int i = 0; i < n; i++)
        value[i] = paired ? lm_activation(kind, value[i]) * by[i] : lm_activation(kind, value[i]);
    if (base)
        for (int i = 0; i < n; i++)
            value[i] = base[column + i] + value[i];
    EACH_ALONE
    for (int i = 0; i < n; i++)
        out[column + i] = value[i];
}

INLINE void finish_rows(int kind, int paired, const lm_after *a, const float *product,
                        ptrdiff_t stride, int rows, int n)
{
    for (int r = 0; r < rows; r++) {
        const float *x = product + r * stride;
        const float *base = a->base ? a->base + r * a->base_stride : NULL;
        float *out = a->out + r * a->out_stride;
        int at = 0;
        for (; at + LM_PANEL <= n; at += LM_PANEL, x += paired ? 2 * LM_PANEL : LM_PANEL)
            finish_panel(kind, paired, a, x, x + LM_PANEL, at, LM_PANEL, base, out);
        if (at < n)
            finish_panel(kind, paired, a, x, x + LM_PANEL, at, n - at, base, out);
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
