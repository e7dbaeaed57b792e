/* One measured call: what every one of them pays. Keep this short. */
#ifndef HOTLAP_CALL_H
#define HOTLAP_CALL_H

#include "sample.h"

typedef struct {
    Site *site;
    Sample *sample;
    uint64_t start; /* ticks */
    Scope outer;
    uint32_t generation;
    uint32_t timed; /* 0 while the site is on counting alone */
} Call;

/* An exception that is part of a protocol is no error: Stop... ends an iteration, GeneratorExit and CancelledError
   end a call that somebody no longer wants. Called with the exception set, and leaves it. */
static SLOW uint16_t
outcome_of_exception(void)
{
    static PyObject *cancelled_error;
    if (PyErr_ExceptionMatches(PyExc_StopIteration) || PyErr_ExceptionMatches(PyExc_StopAsyncIteration))
        return 0;
    if (PyErr_ExceptionMatches(PyExc_GeneratorExit))
        return FLAG_CANCELLED;
    if (cancelled_error == NULL) {
        /* Nobody can raise it before asyncio is there: looked up, never imported. */
        PyObject *module = PyDict_GetItemString(PyImport_GetModuleDict(), "asyncio.exceptions");
        if (module != NULL) {
            Pending pending = pending_set_aside();
            cancelled_error = PyObject_GetAttrString(module, "CancelledError");
            PyErr_Clear();
            pending_restore(pending);
        }
    }
    if (cancelled_error != NULL && PyErr_ExceptionMatches(cancelled_error))
        return FLAG_CANCELLED;
    return FLAG_ERROR;
}

static inline void
count_outcome(Site *site, uint16_t outcome)
{
    ADD(site->calls, 1);
    if (UNLIKELY(outcome)) {
        if (outcome & FLAG_ERROR)
            ADD(site->errors, 1);
        if (outcome & FLAG_CANCELLED)
            ADD(site->cancelled, 1);
    }
}

static inline void
count_in(Site *site)
{
    uint32_t now = ADD(site->in_flight, 1);
    RAISE_TO(site->in_flight_peak, now);
}

static inline void
call_begin(Call *call, Site *site, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    count_in(site);
    call->site = site;
    call->sample = NULL;
    call->start = 0;
    call->generation = core.generation;
    call->timed = site->mode != MODE_COUNT;
    if (UNLIKELY(!call->timed))
        return;
    if (UNLIKELY(ADD(site->gap, -1) < 0))
        call->sample = sample_begin(site, args, nargsf, kwnames, Py_NAN);
    call->outer = scope_enter(site, 0, NULL);
    if (UNLIKELY(call->sample != NULL))
        evidence_open(call->sample);
    call->start = now_ticks();
}

/* `failed`: an exception is set. Calls that began before a fork do not count in the child. */
static inline void
call_end(Call *call, int failed)
{
    Site *site = call->site;
    uint64_t start = call->start;
    uint16_t outcome;
    if (UNLIKELY(!call->timed)) {
        if (call->generation != core.generation)
            return;
        ADD(site->in_flight, (uint32_t)-1);
        outcome = UNLIKELY(failed) ? outcome_of_exception() : 0;
        count_outcome(site, outcome);
        return;
    }
    uint64_t ns = elapsed_ns(start, now_ticks());
    Sample *sample = call->sample;
    if (UNLIKELY(sample != NULL))
        evidence_close(sample);
    uint64_t child_ns = thread.scope.child_ns;
    thread.scope = call->outer;
    thread.scope.child_ns += ns;
    if (UNLIKELY(call->generation != core.generation)) {
        PyMem_RawFree(sample);
        return;
    }
    ADD(site->in_flight, (uint32_t)-1);
    outcome = UNLIKELY(failed) ? outcome_of_exception() : 0;
    count_outcome(site, outcome);
    site_count_time(site, ns);
    if (UNLIKELY(sample != NULL || ns > GET(site->tail_ns))) {
        Ended ended = {
            .start_ticks = start,
            .wall_ns = ns,
            .run_ns = ns,
            .longest_ns = ns,
            .own_ns = ns > child_ns ? (int64_t)(ns - child_ns) : 0,
            .flags = outcome,
        };
        sample_end(site, &ended, sample);
    }
}

/* The call turned out to be a coroutine: it is counted when that ends, not now. Its sample goes along. */
static inline Sample *
call_hand_over(Call *call)
{
    Sample *sample = call->sample;
    if (call->timed) {
        if (sample != NULL)
            evidence_close(sample);
        thread.scope = call->outer;
    }
    if (call->generation == core.generation)
        ADD(call->site->in_flight, (uint32_t)-1);
    return sample;
}

#endif
