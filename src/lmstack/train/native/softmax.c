/* What the softmax of logits says of labels, and its gradient: twice over a row while it is in the
 * cache. As `_Softmax` of cross_entropy.py, whose formulas these are.
 *
 * Legend: n rows, V columns (any number). */
#include "native.h"

#ifdef LMT_NATIVE
#include <math.h>

typedef struct {
    int64_t n, width, parts;
    const float *logits;
    const int64_t *labels;
    float *log_probs, *sums, *entropy; /* (n,); sums: log sum exp */
    int64_t *greatest;
    const float *of_label, *of_entropy; /* backwards: (n,) or NULL */
    float *out;                         /* backwards: (n, V) */
} softmax_job;

enum { BLOCK = 16 * LANES };

INLINE __mmask16 rest_of(int64_t left)
{
    return left >= LANES ? 0xffff : (__mmask16)((1u << left) - 1);
}

static void softmax_part(const void *data, int part)
{
    const softmax_job *j = data;
    int64_t V = j->width, end = j->n * (part + 1) / j->parts;
    const __m512 lowest = _mm512_set1_ps(-INFINITY);
    for (int64_t row = j->n * part / j->parts; row < end; row++) {
        const float *z = j->logits + row * V;
        __m512 most = lowest;
        __mmask16 unequal = 0; /* a NaN is equal to nothing, and a maximum may lose it */
        for (int64_t c = 0; c < V; c += LANES) {
            __m512 v = _mm512_mask_loadu_ps(lowest, rest_of(V - c), z + c);
            unequal |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
            most = _mm512_max_ps(most, v);
        }
        float largest = unequal ? NAN : _mm512_reduce_max_ps(most);
        int64_t at = 0;
        for (int64_t c = 0; c < V && !unequal; c += LANES) {
            __mmask16 found = _mm512_mask_cmp_ps_mask(rest_of(V - c), _mm512_loadu_ps(z + c),
                                                      _mm512_set1_ps(largest), _CMP_EQ_OQ);
            if (found) {
                at = c + __builtin_ctz(found);
                break;
            }
        }
        /* Blocks in float, their sums in double: the rounding of 49,152 sums would be seen. */
        double sum = 0, along = 0;
        for (int64_t start = 0; start < V; start += BLOCK) {
            __m512 total = _mm512_setzero_ps(), part_along = _mm512_setzero_ps();
            int64_t stop = V - start < BLOCK ? V : start + BLOCK;
            for (int64_t c = start; c < stop; c += LANES) {
                __mmask16 real = rest_of(V - c);
                __m512 below = _mm512_sub_ps(_mm512_maskz_loadu_ps(real, z + c),
                                             _mm512_set1_ps(largest));
                __m512 p = _mm512_maskz_mov_ps(real, lmt_exp(below));
                total = _mm512_add_ps(total, p);
                /* Where p is 0, below may be infinite. */
                __mmask16 some = _mm512_cmp_ps_mask(p, _mm512_setzero_ps(), _CMP_NEQ_UQ);
                part_along = _mm512_mask3_fmadd_ps(p, below, part_along, some);
            }
            sum += (double)_mm512_reduce_add_ps(total);
            along += (double)_mm512_reduce_add_ps(part_along);
        }
        double log_sum = log(sum);
        j->log_probs[row] = (float)((double)z[j->labels[row]] - (double)largest - log_sum);
        j->sums[row] = (float)((double)largest + log_sum);
        j->entropy[row] = (float)(log_sum - along / sum);
        j->greatest[row] = at;
    }
}

void lmt_softmax(const softmax_job *j)
{
    lmt_run(softmax_part, j, (int)j->parts);
}

static void softmax_backwards_part(const void *data, int part)
{
    const softmax_job *j = data;
    int64_t V = j->width, end = j->n * (part + 1) / j->parts;
    for (int64_t row = j->n * part / j->parts; row < end; row++) {
        const float *z = j->logits + row * V;
        float of_label = j->of_label ? j->of_label[row] : 0;
        float of_entropy = j->of_entropy ? j->of_entropy[row] : 0;
        /* p * (-of_label - of_entropy * (log p + H)), and of_label at the label. */
        __m512 slope = _mm512_set1_ps(-of_entropy);
        __m512 start = _mm512_set1_ps(-of_label - of_entropy * j->entropy[row]);
        for (int64_t c = 0; c < V; c += LANES) {
            __mmask16 real = rest_of(V - c);
            __m512 log_p = _mm512_sub_ps(_mm512_maskz_loadu_ps(real, z + c),
                                         _mm512_set1_ps(j->sums[row]));
            __m512 p = lmt_exp(log_p), by = start;
            if (j->of_entropy)
                by = _mm512_fmadd_ps(slope, log_p, start);
            /* p is 0 where log p may be infinite. */
            __mmask16 some = _mm512_cmp_ps_mask(p, _mm512_setzero_ps(), _CMP_NEQ_UQ);
            _mm512_mask_storeu_ps(j->out + row * V + c, real, _mm512_maskz_mul_ps(some, p, by));
        }
        j->out[row * V + j->labels[row]] += of_label;
    }
}

void lmt_softmax_backwards(const softmax_job *j)
{
    lmt_run(softmax_backwards_part, j, (int)j->parts);
}

#endif
