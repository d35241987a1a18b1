/* What callers of attention allocate; the same on every path. */
#include "attention.h"

int32_t lm_tile_bytes(int32_t head_dim, int32_t kv)
{
    int32_t numbers = 2 * LM_TILE * LM_PADDED(head_dim);
    return kv == LM_KV_BF16 ? 2 * numbers : numbers + 2 * LM_TILE * (int32_t)sizeof(float);
}

/* The state, then per row a query (at most 4 bytes a channel) and a result, then a block's worth
 * of tiles. */
size_t lm_attend_scratch(const lm_attention *a)
{
    size_t row = (size_t)LM_PADDED(a->head_dim) * 4;
    size_t tiles = LM_BLOCK_TILES * (size_t)lm_tile_bytes(a->head_dim, a->kv);
    return (sizeof(lm_attend_state) + 63) / 64 * 64 + 2 * LM_ROWS * row + tiles;
}
