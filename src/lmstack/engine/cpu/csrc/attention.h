/* Inside attention: the sizes that all paths share, and the working memory of one attend(). */
#ifndef LM_ATTENTION_H
#define LM_ATTENTION_H

#include "lm.h"

/* Keys are visited in blocks of 64 that begin at multiples of 64; weights of a block are
 * multiplied with its values by themselves, then added to what came before. This is what makes a
 * query's result independent of the queries beside it. */
#define LM_BLOCK 64
#define LM_BLOCK_TILES (LM_BLOCK / LM_TILE)
/* Rows (a head of a token each) that pass over the keys together, so that a block is read once
 * for all of them; and the most that a product keeps in registers. */
#define LM_ROWS 24
#define LM_STEP 6
#define LM_PADDED(channels) (((channels) + 15) / 16 * 16)

/* Arrays over the rows are read 16 at a time. */
typedef struct {
    float best[LM_ROWS + 16];       /* a score near the largest so far */
    float limit[LM_ROWS + 16];      /* scores above it change it: best + slack */
    float slack[LM_ROWS + 16];
    float factor[LM_ROWS + 16];     /* from a score to an exponent of two */
    float scale[LM_ROWS + 16];      /* from a score to the model's, where that is needed */
    float sums[LM_ROWS][16];        /* of weights so far, by key % 16 */
    float scores[LM_STEP][LM_BLOCK];
    float block_best[16];
    float keep[16]; /* by what the result so far is multiplied */
    float unit[16]; /* int8: what 1 in a weight's code means */
    int32_t start[LM_ROWS + 16]; /* int8: at what a sum of products starts */
    int32_t position[LM_ROWS], head[LM_ROWS];
    _Alignas(64) uint8_t weights[LM_STEP][LM_BLOCK * 4];
} lm_attend_state;

#endif
