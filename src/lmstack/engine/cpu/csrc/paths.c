/* Which paths this build and this processor have, and which one is in use. */
#ifdef __linux__
#define _GNU_SOURCE
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "lm.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

/* ------------------------------------------------------------------------------ processors -- */

#if defined(__x86_64__)
enum { EBX, ECX, EDX, EAX };

/* Bit `bit` of a register that CPUID gives for a leaf. */
static bool has(unsigned leaf, unsigned subleaf, int which, int bit)
{
    unsigned registers[4] = {0};
    if (!__get_cpuid_count(leaf, subleaf, &registers[EAX], &registers[EBX], &registers[ECX],
                           &registers[EDX]))
        return false;
    return registers[which] >> bit & 1;
}

/* Whether the system saves these registers when it switches threads (bits of XCR0). */
static bool saved(unsigned mask)
{
    if (!has(1, 0, ECX, 27)) /* OSXSAVE: XGETBV may be asked */
        return false;
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & mask) == mask;
}

static bool has_avx2(void)
{
    return saved(0x6) && has(1, 0, ECX, 12) /* FMA */ && has(1, 0, ECX, 29) /* F16C */
           && has(7, 0, EBX, 5);
}

static bool has_avxvnni(void)
{
    return has_avx2() && has(7, 1, EAX, 4);
}

/* F, DQ, BW, VL, VNNI. */
static bool has_avx512vnni(void)
{
    return saved(0xe6) && has_avx2() && has(7, 0, EBX, 16) && has(7, 0, EBX, 17)
           && has(7, 0, EBX, 30) && has(7, 0, EBX, 31) && has(7, 0, ECX, 11);
}

/* BF16 besides. */
static bool has_avx512(void)
{
    return has_avx512vnni() && has(7, 1, EAX, 5);
}

/* BF16, TILE, INT8, and the kernel's permission, which a process asks for once. */
static bool has_amx(void)
{
    if (!(saved(0x60000) && has_avx512() && has(7, 0, EDX, 22) && has(7, 0, EDX, 24)
          && has(7, 0, EDX, 25)))
        return false;
#ifdef __linux__
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0;
#else
    return false;
#endif
}

#ifdef LM_WITH_AMX
bool lm_amx_ready(void); /* whether its products are those of AVX-512 here: multiply_amx.c */

/* Found out once: the tiles are not used before they have given the right integers. */
static bool amx_proved(void)
{
    static atomic_int known; /* 0 not yet, 1 no, 2 yes */
    int found = atomic_load(&known);
    if (!found) {
        found = has_amx() && lm_amx_ready() ? 2 : 1;
        atomic_store(&known, found);
    }
    return found == 2;
}
#endif
#elif defined(__aarch64__)
/* The dot product of bytes: optional from ARMv8.2 on, in every Apple processor of a Mac. */
static bool has_neon(void)
{
#if defined(__APPLE__)
    return true;
#elif defined(__linux__)
    return getauxval(AT_HWCAP) >> 20 & 1;
#else
    return false;
#endif
}
#endif

/* ---------------------------------------------------------------------------------- tables -- */

/* The functions of a path are those of its files, named by its suffix (LM_NAME in path.h).
 * build.py defines LM_WITH_AVX2 and so on for each path whose files it could compile. */
#define TABLE(path, line_rows)                                                                     \
    void lm_multiply_##path(const lm_matrix *, int, int, const lm_acts *, int, int, float *,       \
                            ptrdiff_t);                                                            \
    void lm_unpack_##path(const lm_matrix *, int, int, uint8_t *);                                 \
    void lm_quantize_##path(const float *, const lm_matrix *, lm_acts *, int);                     \
    void lm_rms_norm_##path(const float *, const float *, int, float, int, float *);               \
    void lm_layer_norm_##path(const float *, const float *, const float *, int, float, float *);   \
    void lm_activate_##path(int, const float *, int, float *);                                     \
    void lm_finish_##path(const lm_after *, const float *, ptrdiff_t, int, int);                   \
    void lm_shrink_##path(const lm_delta *, const lm_acts *, int, int, float *, ptrdiff_t);        \
    void lm_expand_##path(const lm_delta *, const lm_delta *, int, int, const float *, ptrdiff_t,  \
                          int, float *, ptrdiff_t);                                                \
    void lm_rotate_##path(float *, const float *, const float *, int);                             \
    void lm_store_##path(const lm_attention *, const float *, const float *, uint8_t *, int);      \
    void lm_attend_##path(const lm_attention *, const uint8_t *, const int32_t *, int, int, int,   \
                          int, const float *, ptrdiff_t, float *, ptrdiff_t, void *);              \
    static const lm_path table_##path = {                                                          \
        #path,                                                                                     \
        line_rows,                                                                                 \
        lm_multiply_##path,                                                                        \
        lm_unpack_##path,                                                                          \
        lm_quantize_##path,                                                                        \
        lm_rms_norm_##path,                                                                        \
        lm_layer_norm_##path,                                                                      \
        lm_activate_##path,                                                                        \
        lm_finish_##path,                                                                          \
        lm_shrink_##path,                                                                          \
        lm_expand_##path,                                                                          \
        lm_rotate_##path,                                                                          \
        lm_store_##path,                                                                           \
        lm_attend_##path,                                                                          \
    };

TABLE(portable, 0)
const lm_path *lm_path_portable(void)
{
    return &table_portable;
}

#ifdef LM_WITH_AVX2
TABLE(avx2, 0)
#endif
#ifdef LM_WITH_AVXVNNI
TABLE(avxvnni, 0)
#endif
#ifdef LM_WITH_AVX512VNNI
TABLE(avx512vnni, 8)
#endif
#ifdef LM_WITH_AVX512
TABLE(avx512, 8)
#endif
#ifdef LM_WITH_AMX
TABLE(amx, 8)
#endif
#ifdef LM_WITH_NEON
TABLE(neon, 0)
#endif

const lm_path *lm_path_avx2(void)
{
#ifdef LM_WITH_AVX2
    if (has_avx2())
        return &table_avx2;
#endif
    return NULL;
}

/* AVX2 with dot products of bytes, as in processors for notebooks. */
static const lm_path *lm_path_avxvnni(void)
{
#ifdef LM_WITH_AVXVNNI
    if (has_avxvnni())
        return &table_avxvnni;
#endif
    return NULL;
}

/* As in processors before BF16, and in machines that hide it. */
static const lm_path *lm_path_avx512vnni(void)
{
#ifdef LM_WITH_AVX512VNNI
    if (has_avx512vnni())
        return &table_avx512vnni;
#endif
    return NULL;
}

const lm_path *lm_path_avx512(void)
{
#ifdef LM_WITH_AVX512
    if (has_avx512())
        return &table_avx512;
#endif
    return NULL;
}

const lm_path *lm_path_amx(void)
{
#ifdef LM_WITH_AMX
    if (amx_proved())
        return &table_amx;
#endif
    return NULL;
}

const lm_path *lm_path_neon(void)
{
#ifdef LM_WITH_NEON
    if (has_neon())
        return &table_neon;
#endif
    return NULL;
}

/* ------------------------------------------------------------------------------- selection -- */

/* Best first. */
static const lm_path *(*const finders[])(void) = {
    lm_path_amx,  lm_path_avx512, lm_path_avx512vnni, lm_path_avxvnni,
    lm_path_avx2, lm_path_neon,   lm_path_portable,
};
enum { FINDERS = sizeof finders / sizeof *finders };

static _Atomic(const lm_path *) selected;

static const lm_path *find(const char *name)
{
    for (int i = 0; i < FINDERS; i++) {
        const lm_path *path = finders[i]();
        if (path && (!name || !strcmp(path->name, name)))
            return path;
    }
    return NULL;
}

int32_t lm_select(const char *name)
{
    const lm_path *path = find(name);
    if (!path)
        return -1;
    atomic_store(&selected, path);
    return 0;
}

const lm_path *lm_path_now(void)
{
    const lm_path *path = atomic_load_explicit(&selected, memory_order_relaxed);
    if (!path) {
        path = find(NULL);
        atomic_store(&selected, path);
    }
    return path;
}

const char *lm_selected(void)
{
    return lm_path_now()->name;
}

const char *lm_available(int32_t index)
{
    for (int i = 0; i < FINDERS; i++) {
        const lm_path *path = finders[i]();
        if (path && index-- == 0)
            return path->name;
    }
    return NULL;
}
