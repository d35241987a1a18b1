/* What adapters add to products: two thin matrices in bfloat16, sums in float. Compiled once per
 * path. Each sum of a row is two, of even and of odd terms in order, whatever rows are beside it. */
#include "lanes.h"

enum { TOGETHER = 4 }; /* rows that share what is read of a matrix */

/* Sixteen outputs of `rows` rows: [out +] w . x, w as [n][16]. */
INLINE void sixteen(const int rows, const int adds, const uint16_t *w, int n, const float *x,
                    ptrdiff_t stride, float *out, ptrdiff_t out_stride)
{
    lanes even[TOGETHER], odd[TOGETHER];
    for (int r = 0; r < rows; r++)
        even[r] = odd[r] = all(0.0f);
    int k = 0;
    for (; k + 2 <= n; k += 2) {
        lanes first = load_bfloat16(w + k * LM_PANEL);
        lanes second = load_bfloat16(w + (k + 1) * LM_PANEL);
        for (int r = 0; r < rows; r++) {
            even[r] = fma16(all(x[r * stride + k]), first, even[r]);
            odd[r] = fma16(all(x[r * stride + k + 1]), second, odd[r]);
        }
    }
    for (int r = 0; r < rows; r++) {
        if (k < n)
            even[r] = fma16(all(x[r * stride + k]), load_bfloat16(w + k * LM_PANEL), even[r]);
        float *at = out + r * out_stride;
        lanes sum = add(even[r], odd[r]);
        put(at, adds ? add(load(at), sum) : sum);
    }
}

INLINE void some_rows(const int adds, const uint16_t *w, int n, const float *x, ptrdiff_t stride,
                      int rows, float *out, ptrdiff_t out_stride)
{
    for (; rows >= TOGETHER; rows -= TOGETHER) {
        sixteen(TOGETHER, adds, w, n, x, stride, out, out_stride);
        x += TOGETHER * stride;
        out += TOGETHER * out_stride;
    }
    if (rows == 1)
        sixteen(1, adds, w, n, x, stride, out, out_stride);
    else if (rows == 2)
        sixteen(2, adds, w, n, x, stride, out, out_stride);
    else if (rows == 3)
        sixteen(3, adds, w, n, x, stride, out, out_stride);
}

void LM_NAME(shrink)(const lm_delta *d, const float *x, ptrdiff_t stride, int rows, float *low,
                     ptrdiff_t low_stride)
{
    for (int i = 0; i < d->ranks; i += LM_PANEL)
        some_rows(0, d->down + (size_t)i * d->cols, d->cols, x, stride, rows, low + i, low_stride);
}

void LM_NAME(expand)(const lm_delta *d, int panel, int end, const float *low,
                     ptrdiff_t low_stride, int rows, float *out, ptrdiff_t stride)
{
    for (int p = panel; p < end; p++, out += LM_PANEL) {
        const lm_delta_panel *part = &d->panels[p];
        if (part->count)
            some_rows(1, d->up + (size_t)part->at * LM_PANEL, part->count, low + part->first,
                      low_stride, rows, out, stride);
    }
}
