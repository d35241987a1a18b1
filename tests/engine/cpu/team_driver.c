/* A team and a whole program on it, called from several threads at once, for the thread sanitizer:
 * prints what differs from one thread's result, or nothing. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"

enum { TOKENS = 70, WIDTH = 48, INNER = 80, HEADS = 4, HEAD = 12, VOCABULARY = 30, TILES = 5 };

static uint32_t state = 1;

static float any(void)
{
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 8388608.0f - 1.0f;
}

static float *floats(int n)
{
    float *x = malloc(sizeof *x * (size_t)n);
    for (int i = 0; i < n; i++)
        x[i] = any();
    return x;
}

static lm_matrix matrix(int rows, int cols, int paired)
{
    int panels = paired ? 2 * ((rows / 2 + 15) / 16) : (rows + 15) / 16;
    lm_matrix w = {.rows = rows, .panels = panels, .cols = cols, .groups = (cols + 31) / 32,
                   .group = 32, .bits = 8, .zero = 128, .paired = paired};
    size_t parts = (size_t)w.panels * w.groups * 16;
    uint8_t *codes = malloc(parts * 32);
    uint16_t *scales = malloc(parts * 2);
    for (size_t i = 0; i < parts * 32; i++)
        codes[i] = (uint8_t)(128 + any() * 100);
    for (size_t i = 0; i < parts; i++)
        scales[i] = 0x1c00; /* 1 / 256 */
    w.codes = codes;
    w.scales = scales;
    return w;
}

/* -- a program of one layer: buffers 0 hidden, 1 queries to values, 2 attended, 3 inner, 4 out -- */

static lm_program program;

static void make_program(void)
{
    static lm_buffer buffers[5] = {
        {WIDTH, 0, 0}, {3 * WIDTH, 0, WIDTH}, {WIDTH, 0, 4 * WIDTH}, {INNER, 1, 0}, {WIDTH, 0, 0}};
    static lm_matrix matrices[4];
    static lm_attention layers[2];
    static lm_op ops[8];
    matrices[0] = matrix(3 * WIDTH, WIDTH, 0);
    matrices[1] = matrix(WIDTH, WIDTH, 0);
    matrices[2] = matrix(2 * INNER, WIDTH, 1);
    matrices[3] = matrix(WIDTH, INNER, 0);
    for (int i = 0; i < 2; i++)
        layers[i] = (lm_attention){.heads = HEADS, .kv_heads = HEADS, .head_dim = HEAD,
                                   .causal = 1, .kv = LM_KV_INT8, .scale = 0.3f};
    const lm_op none = {.norm = LM_NORM_NONE, .act = -1, .inner = 1, .in = -1, .other = -1,
                        .third = -1, .out = -1, .matrix = -1, .rope = -1, .cols = WIDTH,
                        .eps = 1e-5f};
    for (int i = 0; i < 8; i++)
        ops[i] = none;
    const float *weight = floats(WIDTH);
    int n = 0;
    lm_op *o = &ops[n++];
    o->kind = LM_OP_EMBED, o->out = 0, o->table = floats(VOCABULARY * WIDTH), o->table_cols = WIDTH;
    o = &ops[n++];
    o->kind = LM_OP_LINEAR, o->in = 0, o->out = 1, o->matrix = 0, o->norm = LM_NORM_RMS;
    o->norm_weight = weight, o->bias = floats(3 * WIDTH);
    o = &ops[n++];
    o->kind = LM_OP_STORE, o->in = 1, o->other = 1, o->other_at = WIDTH, o->third = 1;
    o->third_at = 2 * WIDTH;
    o = &ops[n++];
    o->kind = LM_OP_ATTEND, o->in = 1, o->out = 2;
    o = &ops[n++];
    o->kind = LM_OP_LINEAR, o->in = 2, o->other = 0, o->out = 0, o->matrix = 1;
    o = &ops[n++];
    o->kind = LM_OP_LINEAR, o->in = 0, o->out = 3, o->matrix = 2, o->act = LM_SILU;
    o->norm = LM_NORM_LAYER, o->norm_weight = weight;
    o = &ops[n++];
    o->kind = LM_OP_LINEAR, o->in = 3, o->other = 0, o->out = 0, o->matrix = 3, o->cols = INNER;
    o = &ops[n++];
    o->kind = LM_OP_NORM, o->in = 0, o->out = 4, o->norm = LM_NORM_RMS, o->norm_weight = weight;
    program = (lm_program){.num_ops = n, .num_buffers = 5, .num_matrices = 4, .num_layers = 1,
                           .row_floats = 5 * WIDTH, .local_floats = INNER, .in_buffer = -1,
                           .out_buffer = 4, .ops = ops, .buffers = buffers,
                           .matrices = matrices, .layers = layers};
}

/* `tokens` at a time, into `out` [TOKENS][WIDTH]. */
static void compute(lm_team *team, int tokens, float *out)
{
    size_t bytes = (size_t)TILES * HEADS * (size_t)lm_tile_bytes(HEAD, LM_KV_INT8);
    uint8_t *cache = aligned_alloc(64, (bytes + 63) / 64 * 64);
    memset(cache, 0, bytes);
    int32_t ids[TOKENS], positions[TOKENS], table[TILES] = {3, 0, 4, 1, 2};
    for (int i = 0; i < TOKENS; i++) {
        ids[i] = i * 7 % VOCABULARY;
        positions[i] = i;
    }
    for (int start = 0; start < TOKENS; start += tokens) {
        int count = TOKENS - start < tokens ? TOKENS - start : tokens;
        lm_span span = {.count = count, .wanted = count, .start = start, .table = table};
        lm_step step = {.rows = count, .num_spans = 1, .ids = ids + start,
                        .positions = positions + start, .spans = &span, .cache = cache,
                        .out = out + start * WIDTH, .out_stride = WIDTH};
        if (lm_run(team, &program, &step)) {
            puts("no memory");
            exit(1);
        }
    }
    free(cache);
}

typedef struct {
    lm_team *team;
    const float *wanted;
    int wrong;
} caller;

static void *call(void *argument)
{
    caller *me = argument;
    float *out = malloc(sizeof *out * TOKENS * WIDTH);
    const int sizes[] = {TOKENS, 1, 33, 2, 64};
    for (int i = 0; i < 5; i++) {
        memset(out, 0, sizeof *out * TOKENS * WIDTH);
        compute(me->team, sizes[i], out);
        me->wrong += memcmp(out, me->wanted, sizeof *out * TOKENS * WIDTH) != 0;
    }
    free(out);
    return NULL;
}

/* -- a team by itself: each number of a round is given out once ---------------------------------- */

enum { ROUNDS = 20, PIECES = 100 };

static void count(lm_team *team, int thread, void *argument)
{
    int (*given)[PIECES] = argument;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i; (i = lm_team_take(team, thread, PIECES)) >= 0;)
            given[round][i]++;
        lm_team_wait(team);
        for (int i; (i = lm_team_take(team, thread, PIECES)) >= 0;)
            given[round][PIECES - 1 - i] *= 3;
        lm_team_wait(team);
    }
}

static int counted_wrong(lm_team *team)
{
    static int given[ROUNDS][PIECES];
    int wrong = 0;
    memset(given, 0, sizeof given);
    if (!lm_team_enter(team, 1000))
        return 1;
    lm_team_run(team, count, given);
    lm_team_leave(team);
    for (int i = 0; i < ROUNDS * PIECES; i++)
        wrong += given[i / PIECES][i % PIECES] != 3;
    return wrong;
}

int main(void)
{
    make_program();
    float *wanted = calloc(TOKENS * WIDTH, sizeof *wanted);
    lm_team *alone = lm_team_new(1);
    compute(alone, TOKENS, wanted);
    lm_team_free(alone);
    int wrong = 0;
    for (int threads = 1; threads <= 3; threads++) {
        lm_team *team = lm_team_new(threads);
        wrong += counted_wrong(team);
        pthread_t callers[2];
        caller both[2] = {{team, wanted, 0}, {team, wanted, 0}};
        for (int i = 0; i < 2; i++)
            pthread_create(&callers[i], NULL, call, &both[i]);
        for (int i = 0; i < 2; i++) {
            pthread_join(callers[i], NULL);
            wrong += both[i].wrong;
        }
        lm_team_free(team);
    }
    float sum = 0;
    for (int i = 0; i < TOKENS * WIDTH; i++)
        sum += wanted[i] * wanted[i];
    if (!(sum > 1))
        puts("nothing was computed");
    if (wrong)
        printf("%d differences\n", wrong);
    free(wanted);
    return wrong != 0 || !(sum > 1);
}
