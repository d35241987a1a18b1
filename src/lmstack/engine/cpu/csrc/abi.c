/* What mirrors.py compares before it uses a build: a fingerprint of the headers, the size of every
 * struct that crosses to C, and where its fields begin. */
#include <stddef.h>

#include "program.h"

#define SIZE(type) {#type, (int64_t)sizeof(type)}
#define AT(type, field) {#type "." #field, (int64_t)offsetof(type, field)}

static const struct {
    const char *name;
    int64_t number;
} layout[] = {
    {"headers", LM_HEADERS},

    SIZE(lm_matrix), AT(lm_matrix, codes), AT(lm_matrix, scales), AT(lm_matrix, mins),
    AT(lm_matrix, scale_codes), AT(lm_matrix, min_codes), AT(lm_matrix, codebook),
    AT(lm_matrix, lines), AT(lm_matrix, expanded),
    AT(lm_matrix, order), AT(lm_matrix, rows), AT(lm_matrix, panels), AT(lm_matrix, cols), AT(lm_matrix, groups),
    AT(lm_matrix, group), AT(lm_matrix, bits), AT(lm_matrix, zero), AT(lm_matrix, paired),
    AT(lm_matrix, superblock),

    SIZE(lm_acts), AT(lm_acts, codes), AT(lm_acts, scales), AT(lm_acts, offsets),
    AT(lm_acts, sums), AT(lm_acts, halves),

    SIZE(lm_delta_term), AT(lm_delta_term, first), AT(lm_delta_term, end),
    AT(lm_delta_term, step), AT(lm_delta_term, part),

    SIZE(lm_delta), AT(lm_delta, down), AT(lm_delta, up), AT(lm_delta, gains),
    AT(lm_delta, terms), AT(lm_delta, num_terms), AT(lm_delta, ranks),

    SIZE(lm_attention), AT(lm_attention, heads), AT(lm_attention, kv_heads),
    AT(lm_attention, head_dim), AT(lm_attention, causal), AT(lm_attention, window),
    AT(lm_attention, kv), AT(lm_attention, scale), AT(lm_attention, softcap),
    AT(lm_attention, bias), AT(lm_attention, reach),

    SIZE(lm_after), AT(lm_after, bias), AT(lm_after, up_bias), AT(lm_after, base),
    AT(lm_after, out), AT(lm_after, base_stride), AT(lm_after, out_stride), AT(lm_after, act),
    AT(lm_after, paired),

    SIZE(lm_path), AT(lm_path, name), AT(lm_path, line_rows), AT(lm_path, multiply),
    AT(lm_path, unpack), AT(lm_path, quantize),
    AT(lm_path, rms_norm), AT(lm_path, layer_norm), AT(lm_path, activate), AT(lm_path, finish),
    AT(lm_path, shrink), AT(lm_path, expand), AT(lm_path, rotate), AT(lm_path, store),
    AT(lm_path, attend),

    SIZE(lm_buffer), AT(lm_buffer, width), AT(lm_buffer, local), AT(lm_buffer, at),

    SIZE(lm_op), AT(lm_op, kind), AT(lm_op, norm), AT(lm_op, act), AT(lm_op, inner),
    AT(lm_op, in), AT(lm_op, other), AT(lm_op, third), AT(lm_op, out),
    AT(lm_op, in_at), AT(lm_op, other_at), AT(lm_op, third_at), AT(lm_op, out_at),
    AT(lm_op, cols), AT(lm_op, matrix), AT(lm_op, layer), AT(lm_op, stream), AT(lm_op, rope),
    AT(lm_op, offset), AT(lm_op, eps), AT(lm_op, a), AT(lm_op, b), AT(lm_op, table_cols),
    AT(lm_op, norm_weight), AT(lm_op, norm_bias), AT(lm_op, bias), AT(lm_op, table),

    SIZE(lm_program), AT(lm_program, num_ops), AT(lm_program, num_buffers),
    AT(lm_program, num_matrices), AT(lm_program, num_layers), AT(lm_program, row_floats),
    AT(lm_program, local_floats), AT(lm_program, in_buffer), AT(lm_program, out_buffer),
    AT(lm_program, ops), AT(lm_program, buffers), AT(lm_program, matrices),
    AT(lm_program, layers),

    SIZE(lm_step), AT(lm_step, rows), AT(lm_step, num_spans), AT(lm_step, ids),
    AT(lm_step, positions), AT(lm_step, types), AT(lm_step, spans), AT(lm_step, cache),
    AT(lm_step, layer_bytes), AT(lm_step, cosines), AT(lm_step, sines),
    AT(lm_step, rotary_widths), AT(lm_step, in), AT(lm_step, out), AT(lm_step, in_stride),
    AT(lm_step, out_stride), AT(lm_step, adapter_of), AT(lm_step, adapters),
    AT(lm_step, low_floats),

    SIZE(lm_span), AT(lm_span, row), AT(lm_span, count), AT(lm_span, start),
    AT(lm_span, cross_keys), AT(lm_span, wanted), AT(lm_span, padding), AT(lm_span, table),
    AT(lm_span, cross_table),
};

/* The name of the fact at `index`, its number in `number`; NULL behind the last. */
const char *lm_layout(int32_t index, int64_t *number)
{
    if (index < 0 || index >= (int32_t)(sizeof layout / sizeof *layout))
        return NULL;
    *number = layout[index].number;
    return layout[index].name;
}
