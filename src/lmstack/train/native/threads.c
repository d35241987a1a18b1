/* Which processors can run the files of this folder, and by which threads. */
#include "native.h"

#ifndef LMT_SOURCES
#define LMT_SOURCES 0
#endif

/* What this was built from (setup.py). */
int lmt_sources(void)
{
    return LMT_SOURCES;
}

#ifdef LMT_NATIVE
#include <cpuid.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of the OpenMP that torch brings and its own products use: another pool would compete with it. */
extern void GOMP_parallel(void (*)(void *), void *, unsigned, unsigned) __attribute__((weak));

static int saves_registers(void)
{
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid_count(1, 0, &a, &b, &c, &d) || !(c >> 27 & 1))
        return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & 0xe6) == 0xe6;
}

int lmt_available(void)
{
    unsigned a, b, c, d;
    if (!GOMP_parallel || !saves_registers() || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return 0;
    /* F, DQ, BW, VL; VNNI. */
    return (b >> 16 & 1) && (b >> 17 & 1) && (b >> 30 & 1) && (b >> 31 & 1) && (c >> 11 & 1);
}

/* TILE and INT8, and the kernel's permission, which a process asks for. */
int lmt_has_tiles(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, TILE_DATA = 18, SAVED = 0x60000 };
    unsigned a, b, c, d, low, high;
    if (!lmt_available() || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (d >> 24 & 1) && (d >> 25 & 1) && (low & SAVED) == SAVED
           && syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0;
}

typedef struct {
    void (*part)(const void *, int);
    const void *data;
    int parts;
    atomic_int next;
} job;

static void work(void *given)
{
    job *j = given;
    for (int part; (part = atomic_fetch_add(&j->next, 1)) < j->parts;)
        j->part(j->data, part);
}

void lmt_run(void (*part)(const void *, int), const void *data, int parts)
{
    job j = {part, data, parts, 0};
    if (parts == 1)
        part(data, 0);
    else
        GOMP_parallel(work, &j, (unsigned)parts, 0);
}

static _Thread_local struct {
    void *bytes;
    size_t size;
} held;

void *lmt_scratch(size_t size)
{
    if (held.size < size) {
        free(held.bytes);
        held.size = (size + 4095) / 4096 * 4096;
        held.bytes = aligned_alloc(64, held.size);
        if (!held.bytes)
            abort();
    }
    return held.bytes;
}

#else

int lmt_available(void)
{
    return 0;
}

int lmt_use_tiles(int wanted)
{
    (void)wanted;
    return 0;
}

#endif
