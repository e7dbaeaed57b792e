/* The clock: the time-stamp counter where the kernel itself trusts it, else the monotonic clock.

   now_ticks() is what calls are timed with; ticks_to_ns() turns a difference into nanoseconds, and ticks_to_mono()
   a reading into a time on the scale of CLOCK_MONOTONIC. The counter's rate is measured against that clock, and
   each clock_calibrate() looks how far the two have drifted apart and bends the rate so that the next look finds
   them together again: the mapping has no steps and never runs backwards. When one of the two clocks stood still or
   jumped (a suspended machine, a paused or moved virtual one), the rate is measured anew from there. A counter that
   ran ahead then keeps its lead, since time must not run backwards; one that fell behind is set forward.

   Needs no lock but the GIL; on free-threaded builds only the aggregator's thread calibrates, and readers see the
   anchor through a sequence. */
#ifndef HOTLAP_CLOCK_H
#define HOTLAP_CLOCK_H

#include "base.h"

enum { CLOCK_TSC, CLOCK_MONO, CLOCK_FAKE };

static struct {
    int kind;
    int real_kind;      /* what to go back to after a fake clock */
    uint64_t multiplier; /* nanoseconds per tick, times 2^32 */
    uint32_t sequence;   /* odd while the anchor is being moved */
    uint64_t anchor_ticks;
    uint64_t anchor_ns;
    uint64_t first_ticks; /* the pair that the rate is measured from */
    uint64_t first_ns;
    int64_t lead_ns;  /* of this clock over the monotonic one, taken for good: see above */
    uint64_t jumps;
    int64_t error_ns; /* found by the last calibration */
    int64_t max_error_ns;
    uint64_t calibrations;
    const char *reason;
    PyObject *fake; /* callable() -> int ns */
    uint64_t fake_ns;
} clock_state = {.kind = CLOCK_MONO, .real_kind = CLOCK_MONO, .multiplier = 1ull << 32};

static inline uint64_t
mono_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

#if defined(__x86_64__)
static inline uint64_t
read_tsc(void)
{
    uint32_t low, high;
    __asm__ __volatile__("rdtsc" : "=a"(low), "=d"(high));
    return ((uint64_t)high << 32) | low;
}
#else
static inline uint64_t
read_tsc(void)
{
    return mono_ns();
}
#endif

/* A fake clock that fails keeps its last time: the clock of a test must not raise into the code under test. */
static SLOW uint64_t
fake_ns(void)
{
    Pending pending = pending_set_aside();
    PyObject *fake = Py_NewRef(clock_state.fake);
    PyObject *value = PyObject_CallNoArgs(fake);
    if (value != NULL) {
        uint64_t ns = PyLong_AsUnsignedLongLong(value);
        Py_DECREF(value);
        if (!(ns == (uint64_t)-1 && PyErr_Occurred()) && ns > clock_state.fake_ns)
            clock_state.fake_ns = ns;
    }
    if (PyErr_Occurred())
        PyErr_WriteUnraisable(fake);
    Py_DECREF(fake);
    pending_restore(pending);
    return clock_state.fake_ns;
}

static __attribute__((noinline)) uint64_t
other_ticks(void)
{
    return clock_state.kind == CLOCK_MONO ? mono_ns() : fake_ns();
}

static inline uint64_t
now_ticks(void)
{
    return LIKELY(clock_state.kind == CLOCK_TSC) ? read_tsc() : other_ticks();
}

/* A counter that another core reads a moment earlier must not give a negative time. */
static inline uint64_t
elapsed_ns(uint64_t start, uint64_t end)
{
    uint64_t ticks = LIKELY(end > start) ? end - start : 0;
    return (uint64_t)(((unsigned __int128)ticks * GET(clock_state.multiplier)) >> 32);
}

static uint64_t
ticks_to_mono(uint64_t ticks)
{
    if (clock_state.kind != CLOCK_TSC)
        return ticks;
    uint32_t before, after;
    uint64_t ns;
    do {
        before = __atomic_load_n(&clock_state.sequence, __ATOMIC_ACQUIRE);
        int64_t since = (int64_t)(ticks - GET(clock_state.anchor_ticks));
        ns = GET(clock_state.anchor_ns) + (uint64_t)(int64_t)(((__int128)since * GET(clock_state.multiplier)) >> 32);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        after = __atomic_load_n(&clock_state.sequence, __ATOMIC_RELAXED);
    } while (UNLIKELY((before & 1) || before != after));
    return ns;
}

/* Both clocks at one moment: of five brackets the narrowest, so that an interruption is not taken for drift. */
static void
read_pair(uint64_t *ticks, uint64_t *ns)
{
    uint64_t narrowest = UINT64_MAX;
    for (int i = 0; i < 5; i++) {
        uint64_t before = read_tsc();
        uint64_t middle = mono_ns();
        uint64_t after = read_tsc();
        if (after - before < narrowest) {
            narrowest = after - before;
            *ticks = before + (after - before) / 2;
            *ns = middle;
        }
    }
}

static int
kernel_trusts_tsc(void)
{
#if defined(__x86_64__) && defined(__linux__)
    char name[32] = "";
    FILE *file = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "r");
    if (file == NULL) {
        clock_state.reason = "the kernel does not say what its clock source is";
        return 0;
    }
    int trusted = fgets(name, sizeof name, file) != NULL && strcmp(name, "tsc\n") == 0;
    fclose(file);
    clock_state.reason = trusted ? "the kernel's clock source is tsc" : "the kernel's clock source is not tsc";
    return trusted;
#else
    clock_state.reason = "no time-stamp counter is used on this platform";
    return 0;
#endif
}

/* When the module is loaded: a first pair costs nothing, and the time until the first site is made is a free
   calibration. */
static void
clock_load(void)
{
    if (clock_state.first_ns == 0)
        read_pair(&clock_state.first_ticks, &clock_state.first_ns);
}

/* When the first site is made. Waits until 1 ms after loading: with pairs that are good to some 20 ns the rate is
   then right to 40 parts per million, and each later calibration improves it. */
static void
clock_start(void)
{
    static int started;
    if (started)
        return;
    started = 1;
    if (!kernel_trusts_tsc())
        return;
    uint64_t ticks = 0, ns = 0;
    do {
        read_pair(&ticks, &ns);
    } while (ns - clock_state.first_ns < 1000000);
    uint64_t span = ticks - clock_state.first_ticks;
    if (span == 0) {
        clock_state.reason = "the time-stamp counter stands still";
        return;
    }
    clock_state.multiplier = (uint64_t)(((unsigned __int128)(ns - clock_state.first_ns) << 32) / span);
    clock_state.anchor_ticks = ticks;
    clock_state.anchor_ns = ns;
    clock_state.real_kind = CLOCK_TSC;
    if (clock_state.kind == CLOCK_MONO)
        clock_state.kind = CLOCK_TSC;
}

/* Returns the error in ns that the fast clock had gathered, and bends its rate. The rate measured since loading is
   corrected so that the error is worked off by the next look, at most by 500 parts per million. */
static int64_t
clock_calibrate(void)
{
    if (clock_state.kind != CLOCK_TSC)
        return 0;
    uint64_t ticks = 0, ns = 0;
    read_pair(&ticks, &ns);
    uint64_t mapped = ticks_to_mono(ticks);
    uint64_t expected = ns + (uint64_t)clock_state.lead_ns;
    int64_t error = (int64_t)(mapped - expected);
    int64_t magnitude = error < 0 ? -error : error;
    int64_t since_anchor = (int64_t)(expected - clock_state.anchor_ns);
    uint64_t multiplier = clock_state.multiplier;
    if (magnitude > 1000000 && magnitude > since_anchor / 100) { /* no crystal drifts by 1 % */
        clock_state.jumps++;
        clock_state.first_ticks = ticks;
        clock_state.first_ns = ns;
        if (error > 0)
            clock_state.lead_ns += error;
        else
            mapped = expected;
    }
    else if (since_anchor < 1000000) { /* too soon to tell drift from the reading itself */
        return error;
    }
    else {
        double rate = (double)(ns - clock_state.first_ns) / (double)(ticks - clock_state.first_ticks);
        double bend = -(double)error / (double)since_anchor;
        bend = bend > 500e-6 ? 500e-6 : bend < -500e-6 ? -500e-6 : bend;
        multiplier = (uint64_t)(rate * (1 + bend) * 4294967296.0 + 0.5);
    }
    __atomic_fetch_add(&clock_state.sequence, 1, __ATOMIC_ACQ_REL);
    SET(clock_state.multiplier, multiplier);
    SET(clock_state.anchor_ticks, ticks);
    SET(clock_state.anchor_ns, mapped);
    __atomic_fetch_add(&clock_state.sequence, 1, __ATOMIC_ACQ_REL);
    clock_state.error_ns = error;
    clock_state.calibrations++;
    if (magnitude > clock_state.max_error_ns)
        clock_state.max_error_ns = magnitude;
    return error;
}

static PyObject *
clock_describe(void)
{
    static const char *names[] = {"tsc", "monotonic", "fake"};
    double hz = clock_state.kind == CLOCK_TSC ? 1e9 * 4294967296.0 / (double)clock_state.multiplier : 1e9;
    return Py_BuildValue("{s:s,s:s,s:d,s:L,s:L,s:K,s:K}", "kind", names[clock_state.kind], "reason",
                         clock_state.kind == CLOCK_FAKE ? "set_clock() was called"
                                                        : (clock_state.reason ? clock_state.reason : "not started"),
                         "frequency_hz", hz, "error_ns", (long long)clock_state.error_ns, "max_error_ns",
                         (long long)clock_state.max_error_ns, "calibrations",
                         (unsigned long long)clock_state.calibrations, "jumps", (unsigned long long)clock_state.jumps);
}

#endif
