/* Threads of our own, asleep between steps so that they do not fight torch's for the cores, and
 * spinning within one, where a barrier comes every few microseconds. */
#include "team.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define relax() _mm_pause()
#else
#define relax() __asm__ volatile("" ::: "memory")
#endif

/* About 20 microseconds: the gap between two calls of one step. */
enum { SPINS_BEFORE_SLEEP = 1 << 10, SPINS_BEFORE_YIELD = 1 << 12 };

struct member {
    lm_team *team;
    pthread_t thread;
    int number;
};

struct lm_team {
    int size, started;
    pthread_mutex_t callers, lock;
    pthread_cond_t wake;
    struct member *members;
    lm_work work;
    void *argument;
    int closing;
    void *memory;
    size_t bytes;
    /* Each on a line of its own: they change all the time. */
    _Alignas(64) atomic_uint round; /* counts the calls of run */
    _Alignas(64) atomic_int arrived;
    _Alignas(64) atomic_uint passed; /* counts the barriers */
    _Alignas(64) atomic_ullong taken; /* pieces: from the front + 2^32 * from the back */
};

int32_t lm_team_size(const lm_team *team) { return team->size; }

int lm_team_take(lm_team *team, int thread, int count) {
    unsigned long long one = thread % 2 ? 1ull << 32 : 1;
    unsigned long long taken = atomic_fetch_add_explicit(&team->taken, one, memory_order_relaxed);
    uint32_t front = (uint32_t)taken, back = (uint32_t)(taken >> 32);
    if ((uint64_t)front + back >= (uint64_t)count) return -1;
    return thread % 2 ? count - 1 - (int)back : (int)front;
}

void lm_team_wait(lm_team *team) {
    if (team->size == 1) {
        atomic_store_explicit(&team->taken, 0, memory_order_relaxed);
        return;
    }
    unsigned passed = atomic_load_explicit(&team->passed, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) == team->size - 1) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&team->taken, 0, memory_order_relaxed);
        atomic_store_explicit(&team->passed, passed + 1, memory_order_release);
        return;
    }
    for (int spins = 0; atomic_load_explicit(&team->passed, memory_order_acquire) == passed;) {
        relax();
        if (++spins == SPINS_BEFORE_YIELD) {
            /* Somebody was put off his core, perhaps for our sake. */
            sched_yield();
            spins = 0;
        }
    }
}

static unsigned awaited(lm_team *team, unsigned seen) {
    for (int spins = 0; spins < SPINS_BEFORE_SLEEP; spins++) {
        unsigned round = atomic_load_explicit(&team->round, memory_order_acquire);
        if (round != seen) return round;
        relax();
    }
    pthread_mutex_lock(&team->lock);
    while (atomic_load_explicit(&team->round, memory_order_acquire) == seen)
        pthread_cond_wait(&team->wake, &team->lock);
    pthread_mutex_unlock(&team->lock);
    return atomic_load_explicit(&team->round, memory_order_acquire);
}

static void *serve(void *argument) {
    struct member *me = argument;
    lm_team *team = me->team;
    unsigned seen = 0;
    for (;;) {
        seen = awaited(team, seen);
        if (team->closing) return NULL;
        team->work(team, me->number, team->argument);
        lm_team_wait(team);
    }
}

static void signal_round(lm_team *team) {
    pthread_mutex_lock(&team->lock);
    atomic_fetch_add_explicit(&team->round, 1, memory_order_acq_rel);
    pthread_cond_broadcast(&team->wake);
    pthread_mutex_unlock(&team->lock);
}

void *lm_team_enter(lm_team *team, size_t bytes) {
    pthread_mutex_lock(&team->callers);
    if (bytes > team->bytes || !team->memory) {
        free(team->memory);
        team->bytes = (bytes + 63) / 64 * 64 + 64;
        team->memory = aligned_alloc(64, team->bytes);
        if (!team->memory) {
            team->bytes = 0;
            pthread_mutex_unlock(&team->callers);
        }
    }
    return team->memory;
}

void lm_team_leave(lm_team *team) { pthread_mutex_unlock(&team->callers); }

void lm_team_run(lm_team *team, lm_work work, void *argument) {
    team->work = work;
    team->argument = argument;
    atomic_store_explicit(&team->taken, 0, memory_order_relaxed);
    if (team->size > 1) signal_round(team);
    work(team, 0, argument);
    lm_team_wait(team);
}

lm_team *lm_team_new(int32_t threads) {
    if (threads < 1) return NULL;
    lm_team *team = aligned_alloc(64, (sizeof(lm_team) + 63) / 64 * 64);
    struct member *members = calloc((size_t)threads, sizeof(struct member));
    if (!team || !members) {
        free(team);
        free(members);
        return NULL;
    }
    *team = (lm_team){.size = threads, .started = 1, .members = members};
    pthread_mutex_init(&team->callers, NULL);
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->wake, NULL);
    for (int i = 1; i < threads; i++) {
        members[i] = (struct member){.team = team, .number = i};
        if (pthread_create(&members[i].thread, NULL, serve, &members[i]) != 0) {
            lm_team_free(team);
            return NULL;
        }
        team->started++;
    }
    return team;
}

void lm_team_free(lm_team *team) {
    if (!team) return;
    team->closing = 1;
    signal_round(team);
    for (int i = 1; i < team->started; i++) pthread_join(team->members[i].thread, NULL);
    pthread_cond_destroy(&team->wake);
    pthread_mutex_destroy(&team->lock);
    pthread_mutex_destroy(&team->callers);
    free(team->memory);
    free(team->members);
    free(team);
}
