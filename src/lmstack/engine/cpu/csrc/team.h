/* A team of threads that runs one function together, again and again. */
#ifndef LM_TEAM_H
#define LM_TEAM_H

#include <stddef.h>
#include <stdint.h>

typedef struct lm_team lm_team;
typedef void (*lm_work)(lm_team *team, int thread, void *argument);

/* `threads` including the caller's. NULL when memory or threads cannot be had. */
lm_team *lm_team_new(int32_t threads);
void lm_team_free(lm_team *team);
int32_t lm_team_size(const lm_team *team);

/* The team and `bytes` of its memory, 64-aligned, until lm_team_leave: one caller at a time, others
 * wait. NULL when memory runs out: then the team is not taken. */
void *lm_team_enter(lm_team *team, size_t bytes);
void lm_team_leave(lm_team *team);

/* By who has entered: work(team, thread, argument) on every thread at once; returns when all have
 * returned. */
void lm_team_run(lm_team *team, lm_work work, void *argument);

/* Called by every thread of a running team: none goes on before all have come. Also starts the
 * count of lm_team_take anew. */
void lm_team_wait(lm_team *team);

/* A piece of work of `count`, the same for all between two waits; -1 when none is left. Every other
 * thread takes them from the back, so that two threads have neighbouring pieces each, and about the
 * same ones of an op and the next: what they read is in their caches. Which thread computes a piece
 * never changes its result, so a thread that is held up costs only its own delay. */
int lm_team_take(lm_team *team, int thread, int count);

#endif
