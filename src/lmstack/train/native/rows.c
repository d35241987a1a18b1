/* What is done to each row by itself: RMS norms, the gated activation of Llama, rotations, each in
 * one pass over memory.
 *
 * Legend: n rows, D columns (a multiple of 16), F inner columns (likewise), H heads of hd. */
#include "native.h"

#ifdef LMT_NATIVE
#include <math.h>

typedef struct {
    int64_t n, width, parts;
    const float *x, *grad, *gain; /* (n, width), or (n, 2 * width) of a gate and what it gates */
    float *scale, *out;           /* (n,), (n, width) */
    float eps;
} rows_job;

static void rows_of(const rows_job *j, int part, int64_t *first, int64_t *end)
{
    *first = j->n * part / j->parts;
    *end = j->n * (part + 1) / j->parts;
}

/* x / sqrt(mean(x^2) + eps) * gain, and the scale of each row. */
static void norm_part(const void *data, int part)
{
    const rows_job *j = data;
    int64_t row, end, D = j->width;
    rows_of(j, part, &row, &end);
    for (; row < end; row++) {
        const float *x = j->x + row * D;
        __m512 sum = _mm512_setzero_ps();
        for (int64_t c = 0; c < D; c += LANES) {
            __m512 v = _mm512_loadu_ps(x + c);
            sum = _mm512_fmadd_ps(v, v, sum);
        }
        float scale = 1 / sqrtf(_mm512_reduce_add_ps(sum) / (float)D + j->eps);
        j->scale[row] = scale;
        __m512 by = _mm512_set1_ps(scale);
        for (int64_t c = 0; c < D; c += LANES)
            _mm512_storeu_ps(j->out + row * D + c,
                             _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(x + c), by),
                                           _mm512_loadu_ps(j->gain + c)));
    }
}

/* The part of the gradient along x is taken away: scale * (g - y * mean(g * y)) with y = x * scale
 * and g = grad * gain. */
static void norm_backwards_part(const void *data, int part)
{
    const rows_job *j = data;
    int64_t row, end, D = j->width;
    rows_of(j, part, &row, &end);
    for (; row < end; row++) {
        const float *x = j->x + row * D, *grad = j->grad + row * D;
        __m512 sum = _mm512_setzero_ps(), scale = _mm512_set1_ps(j->scale[row]);
        for (int64_t c = 0; c < D; c += LANES) {
            __m512 g = _mm512_mul_ps(_mm512_loadu_ps(grad + c), _mm512_loadu_ps(j->gain + c));
            sum = _mm512_fmadd_ps(g, _mm512_mul_ps(_mm512_loadu_ps(x + c), scale), sum);
        }
        __m512 along = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / (float)D);
        for (int64_t c = 0; c < D; c += LANES) {
            __m512 g = _mm512_mul_ps(_mm512_loadu_ps(grad + c), _mm512_loadu_ps(j->gain + c));
            __m512 y = _mm512_mul_ps(_mm512_loadu_ps(x + c), scale);
            _mm512_storeu_ps(j->out + row * D + c,
                             _mm512_mul_ps(_mm512_fnmadd_ps(y, along, g), scale));
        }
    }
}

INLINE __m512 sigmoid(__m512 x)
{
    __m512 one = _mm512_set1_ps(1);
    return _mm512_div_ps(one, _mm512_add_ps(one, lmt_exp(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

/* silu(gate) * up. */
static void gated_part(const void *data, int part)
{
    const rows_job *j = data;
    int64_t row, end, F = j->width;
    rows_of(j, part, &row, &end);
    for (; row < end; row++)
        for (int64_t c = 0; c < F; c += LANES) {
            __m512 gate = _mm512_loadu_ps(j->x + row * 2 * F + c);
            __m512 up = _mm512_loadu_ps(j->x + row * 2 * F + F + c);
            _mm512_storeu_ps(j->out + row * F + c,
                             _mm512_mul_ps(_mm512_mul_ps(gate, sigmoid(gate)), up));
        }
}

/* grad (n, F) to (n, 2 F). */
static void gated_backwards_part(const void *data, int part)
{
    const rows_job *j = data;
    int64_t row, end, F = j->width;
    rows_of(j, part, &row, &end);
    const __m512 one = _mm512_set1_ps(1);
    for (; row < end; row++)
        for (int64_t c = 0; c < F; c += LANES) {
            int64_t at = row * 2 * F + c;
            __m512 gate = _mm512_loadu_ps(j->x + at), up = _mm512_loadu_ps(j->x + at + F);
            __m512 grad = _mm512_loadu_ps(j->grad + row * F + c), open = sigmoid(gate);
            __m512 rest = _mm512_fmadd_ps(gate, _mm512_sub_ps(one, open), one);
            __m512 slope = _mm512_mul_ps(open, rest);
            _mm512_storeu_ps(j->out + at, _mm512_mul_ps(_mm512_mul_ps(grad, up), slope));
            _mm512_storeu_ps(j->out + at + F, _mm512_mul_ps(grad, _mm512_mul_ps(gate, open)));
        }
}

#define EXPORTED(name)                                                                             \
    void lmt_##name(const rows_job *j)                                                             \
    {                                                                                              \
        lmt_run(name##_part, j, (int)j->parts);                                                    \
    }
EXPORTED(norm)
EXPORTED(norm_backwards)
EXPORTED(gated)
EXPORTED(gated_backwards)

typedef struct {
    int64_t n, heads, head_dim, parts;
    int64_t stride, table; /* from row to row of x, and of the tables (0: one for all rows) */
    const float *x, *cos, *sin;
    float *out;
    float sign; /* of the sines */
} rotation;

/* x * cos + (its halves swapped) * sin, as `Ops.rotary`. */
static void rotated_part(const void *data, int part)
{
    const rotation *r = data;
    int64_t hd = r->head_dim, half = hd / 2;
    int64_t first = r->n * part / r->parts, end = r->n * (part + 1) / r->parts;
    __m512 sign = _mm512_set1_ps(r->sign);
    for (int64_t row = first; row < end; row++)
        for (int64_t h = 0; h < r->heads; h++) {
            const float *x = r->x + row * r->stride + h * hd;
            float *out = r->out + (row * r->heads + h) * hd;
            for (int64_t c = 0; c < hd; c += LANES) {
                __m512 cos = _mm512_loadu_ps(r->cos + row * r->table + c);
                __m512 sin = _mm512_mul_ps(_mm512_loadu_ps(r->sin + row * r->table + c), sign);
                __m512 other = _mm512_loadu_ps(x + (c < half ? c + half : c - half));
                _mm512_storeu_ps(
                    out + c, _mm512_fmadd_ps(other, sin, _mm512_mul_ps(_mm512_loadu_ps(x + c), cos)));
            }
        }
}

void lmt_rotated(const rotation *r)
{
    lmt_run(rotated_part, r, (int)r->parts);
}

#endif
