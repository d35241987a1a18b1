/* Codes of 4 bits on lines to codes of 8. Plain C, compiled once per path. */
#include "path.h"

/* A half of a group of a panel: `steps` steps of 64 bytes, whose nibbles lie at `shift`. */
static void unpack_half(const uint8_t *codes, int shift, int steps, const uint8_t *slopes,
                        const uint8_t *starts, uint8_t *out)
{
    uint16_t slope[64];
    uint8_t start[64];
    for (int b = 0; b < 64; b++) {
        slope[b] = slopes[b / 4];
        start[b] = starts[b / 4];
    }
    for (int s = 0; s < steps; s++, codes += 64, out += 64) {
        uint8_t found[64];
        for (int b = 0; b < 64; b++)
            found[b] = (uint8_t)((slope[b] * (uint16_t)(codes[b] >> shift & 15) >> 4) + start[b]);
        for (int b = 0; b < 64; b += 2) {
            out[b] = found[b + 1];
            out[b + 1] = found[b];
        }
    }
}

void LM_NAME(unpack)(const lm_matrix *w, int panel, int end, uint8_t *out)
{
    const int steps = w->group / 8;
    for (ptrdiff_t g = (ptrdiff_t)panel * w->groups; g < (ptrdiff_t)end * w->groups; g++) {
        const uint8_t *codes = w->codes + g * steps * 64, *lines = w->lines + g * 64;
        unpack_half(codes, 0, steps, lines, lines + 32, out);
        unpack_half(codes, 4, steps, lines + 16, lines + 48, out + steps * 64);
        out += steps * 128;
    }
}
