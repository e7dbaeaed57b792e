/* What a sampled call pays for: its evidence, and the record that it leaves. All of this is the slow path. */
#ifndef HOTLAP_SAMPLE_H
#define HOTLAP_SAMPLE_H

#include "site.h"

/* Evidence of one sampled call, gathered over its steps: one for a plain call, several for a coroutine. */
typedef struct {
    double size;
    float weight;
    uint16_t flags;
    uint32_t in_flight, parent;
    uint64_t trace_hi, trace_lo, span;
    /* sums over the steps so far */
    int64_t cpu_ns;
    uint64_t gc_ns;
    uint32_t voluntary, involuntary, minor_faults, major_faults;
    /* readings at the start of the running step */
    int64_t cpu_start;
    uint64_t gc_start;
    uint32_t voluntary_start, involuntary_start, minor_start, major_start;
} Sample;

static int64_t evidence_cost_ns = -1; /* CPU time that an empty open/close pair sees of itself */

static inline int64_t
thread_cpu_ns(void)
{
    struct timespec now;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) != 0)
        return -1;
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The CPU clock is read innermost, next to the call, so that it sees as little of the rest as can be. */
static SLOW void
evidence_open(Sample *sample)
{
#if defined(__linux__)
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    sample->voluntary_start = (uint32_t)usage.ru_nvcsw;
    sample->involuntary_start = (uint32_t)usage.ru_nivcsw;
    sample->minor_start = (uint32_t)usage.ru_minflt;
    sample->major_start = (uint32_t)usage.ru_majflt;
#endif
    sample->gc_start = GET(core.gc_ns);
    sample->cpu_start = thread_cpu_ns();
}

static SLOW void
evidence_close(Sample *sample)
{
    int64_t cpu = thread_cpu_ns() - sample->cpu_start - (evidence_cost_ns > 0 ? evidence_cost_ns : 0);
    sample->cpu_ns += cpu > 0 ? cpu : 0;
    sample->gc_ns += GET(core.gc_ns) - sample->gc_start;
#if defined(__linux__)
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    sample->voluntary += (uint32_t)usage.ru_nvcsw - sample->voluntary_start;
    sample->involuntary += (uint32_t)usage.ru_nivcsw - sample->involuntary_start;
    sample->minor_faults += (uint32_t)usage.ru_minflt - sample->minor_start;
    sample->major_faults += (uint32_t)usage.ru_majflt - sample->major_start;
#endif
}

/* Once, before the first sample: the least that an empty pair shows is subtracted from every one. */
static SLOW void
evidence_calibrate(void)
{
    int64_t least = INT64_MAX;
    evidence_cost_ns = 0;
    for (int i = 0; i < 16; i++) {
        Sample empty = {0};
        evidence_open(&empty);
        evidence_close(&empty);
        if (empty.cpu_ns < least)
            least = empty.cpu_ns;
    }
    evidence_cost_ns = least;
}

/* The trace and span id that are active now, as the recorder's hook knows them. */
static void
sample_take_trace(Sample *sample)
{
    if (core.hooks.trace == NULL)
        return;
    Pending pending = pending_set_aside();
    PyObject *hook = Py_NewRef(core.hooks.trace);
    PyObject *ids = PyObject_CallNoArgs(hook);
    unsigned long long hi, lo, span;
    if (ids != NULL && ids != Py_None && PyArg_ParseTuple(ids, "KKK", &hi, &lo, &span)) {
        sample->trace_hi = hi;
        sample->trace_lo = lo;
        sample->span = span;
    }
    if (PyErr_Occurred() && report_fault("trace", NULL) && core.hooks.trace == hook) {
        core.hooks.trace = NULL;
        RETIRE(hook);
    }
    Py_XDECREF(ids);
    Py_DECREF(hook);
    pending_restore(pending);
}

static double
sample_size_of(Site *site, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    PyObject *size_of = Py_NewRef(site->size_of);
    PyObject *value = PyObject_Vectorcall(size_of, args, nargsf, kwnames);
    double size = Py_NAN;
    if (value != NULL && value != Py_None)
        size = PyFloat_AsDouble(value);
    if (PyErr_Occurred()) {
        size = Py_NAN;
        if (report_fault("size", (PyObject *)site) && site->size_of == size_of) {
            site->size_of = NULL;
            RETIRE(size_of);
        }
    }
    Py_XDECREF(value);
    Py_DECREF(size_of);
    return size;
}

/* The site whose call this thread is in, unless that is a block of another task, or a call that is over and was left
   behind when greenlets switched (see Scope). */
static uint32_t
scope_parent(void)
{
    const Scope *scope = &thread.scope;
    if (scope->site == NULL || (scope->context != NULL && scope->context != current_context()) ||
        GET(scope->site->in_flight) == 0)
        return NO_PARENT;
    return scope->site->id;
}

/* Whoever gave the site a ring of its own pays for its records, and has no use for traces. */
static inline int
sample_is_the_recorders(const Site *site)
{
    return LIKELY(GET(site->ring) == NULL);
}

/* Called when the site's gap has run out, before the call's scope is entered: the scope is still the parent's.
   NULL when there is no ring (nobody listens, nothing is sampled) or no memory. Never leaves an exception. */
static SLOW Sample *
sample_begin(Site *site, PyObject *const *args, size_t nargsf, PyObject *kwnames, double size)
{
    if (site_ring(site) == NULL) {
        site->parked = 1; /* until site_wake() */
        SET(site->gap, INT64_MAX);
        return NULL;
    }
    uint64_t start = now_ticks();
    Sample *sample = PyMem_RawCalloc(1, sizeof(Sample));
    if (sample == NULL)
        return NULL;
    if (UNLIKELY(evidence_cost_ns < 0))
        evidence_calibrate();
    sample->size = size;
    sample->weight = site->weight;
    sample->flags = FLAG_EVIDENCE | (site->forced ? FLAG_FIRST : 0);
    sample->in_flight = GET(site->in_flight);
    sample->parent = scope_parent();
    site_take_sample(site);
    if (args != NULL && site->size_of != NULL)
        sample->size = sample_size_of(site, args, nargsf, kwnames);
    if (sample_is_the_recorders(site)) {
        sample_take_trace(sample);
        ADD(core.samples, 1);
        ADD(core.samples_ns, elapsed_ns(start, now_ticks()));
    }
    return sample;
}

/* What is known of a call when it ends. */
typedef struct {
    uint64_t start_ticks, wall_ns, run_ns, longest_ns;
    int64_t own_ns;
    uint32_t suspensions;
    uint16_t flags;
} Ended;

/* Leaves the record of a sampled call (sample given, and freed here) or of one that was slower than the site's own
   p99 (sample NULL). May run Python for the trace of the latter: the pending exception is safe. */
static SLOW void
sample_end(Site *site, const Ended *ended, Sample *sample)
{
    if (site_ring(site) == NULL) {
        PyMem_RawFree(sample);
        return;
    }
    uint64_t start = now_ticks();
    Sample tail = {.size = Py_NAN, .parent = NO_PARENT};
    if (sample == NULL) {
        tail.parent = scope_parent();
        tail.in_flight = GET(site->in_flight) + 1;
        tail.cpu_ns = -1;
        if (sample_is_the_recorders(site))
            sample_take_trace(&tail);
    }
    const Sample *s = sample ? sample : &tail;
    Ring *ring = site_ring(site);
    if (ring != NULL) { /* the trace hook may have taken it away */
        Record record = {
            .start_ns = ticks_to_mono(ended->start_ticks),
            .wall_ns = ended->wall_ns,
            .own_ns = ended->own_ns,
            .cpu_ns = s->cpu_ns,
            .gc_ns = s->gc_ns,
            .trace_hi = s->trace_hi,
            .trace_lo = s->trace_lo,
            .span = s->span,
            .size = s->size,
            .run_ns = ended->run_ns,
            .longest_ns = ended->longest_ns,
            .thread = thread_id(),
            .site = site->id,
            .parent = s->parent,
            .in_flight = s->in_flight,
            .voluntary = s->voluntary,
            .involuntary = s->involuntary,
            .minor_faults = s->minor_faults,
            .suspensions = ended->suspensions,
            .weight = s->weight,
            .major_faults = s->major_faults < UINT16_MAX ? (uint16_t)s->major_faults : UINT16_MAX,
            .flags = (uint16_t)(ended->flags | s->flags | (sample ? 0 : FLAG_TAIL)),
        };
        ring_write(ring, &record);
    }
    PyMem_RawFree(sample);
    if (sample_is_the_recorders(site))
        ADD(core.samples_ns, elapsed_ns(start, now_ticks()));
}

#endif
