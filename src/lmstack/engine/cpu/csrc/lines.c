/* Codes of 4 bits on lines to codes of 8. Plain C, compiled once per path. */
#include "path.h"

/* A half of a group of a panel: `steps` steps of 64 bytes, whose nibbles lie at `shift`. `starts`:
 * its own is every other. */
static void unpack_half(const uint8_t *codes, int shift, int steps, const uint8_t *slopes,
                        const uint8_t *starts, uint8_t *out)
{
    uint8_t slope[64], start[64];
    for (int b = 0; b < 64; b++) {
        slope[b] = slopes[b / 4];
        start[b] = starts[b / 4 * 2];
    }
    for (int s = 0; s < steps; s++, codes += 64, out += 64)
        for (int b = 0; b < 64; b++)
            out[b] = (uint8_t)(slope[b] * (codes[b] >> shift & 15) + start[b]);
}

void LM_NAME(unpack)(const lm_matrix *w, int panel, int end, uint8_t *out)
{
    const int steps = w->group / 8;
    for (ptrdiff_t g = (ptrdiff_t)panel * w->groups; g < (ptrdiff_t)end * w->groups; g++) {
        const uint8_t *codes = w->codes + g * steps * 64, *lines = w->lines + g * 64;
        unpack_half(codes, 0, steps, lines, lines + 32, out);
        unpack_half(codes, 4, steps, lines + 16, lines + 33, out + steps * 64);
        out += steps * 128;
    }
}
