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
   end a call that somebody no longer wants. `exception` is an instance or a class. Keeps a pending exception. */
static SLOW uint16_t
outcome_of(PyObject *exception)
{
    static PyObject *cancelled_error;
    if (PyErr_GivenExceptionMatches(exception, PyExc_StopIteration) ||
        PyErr_GivenExceptionMatches(exception, PyExc_StopAsyncIteration))
        return 0;
    if (PyErr_GivenExceptionMatches(exception, PyExc_GeneratorExit))
        return FLAG_CANCELLED;
    if (cancelled_error == NULL) {
        /* Nobody can raise it before asyncio is there: looked up, never imported. */
        PyObject *module = imported_module("asyncio.exceptions");
        if (module != NULL) {
            Pending pending = pending_set_aside();
            cancelled_error = PyObject_GetAttrString(module, "CancelledError");
            PyErr_Clear();
            pending_restore(pending);
        }
    }
    if (cancelled_error != NULL && PyErr_GivenExceptionMatches(exception, cancelled_error))
        return FLAG_CANCELLED;
    return FLAG_ERROR;
}

/* The same of the exception that is set. */
static SLOW uint16_t
outcome_of_exception(void)
{
    return outcome_of(PyErr_Occurred());
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

/* The rest of call_begin() for a call whose turn to be sampled has come. Kept apart, as call_record() is: the way of
   all other calls then runs straight through, which the compiler does not arrange by itself. */
static SLOW void
call_begin_sample(Call *call, Site *site, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    call->sample = sample_begin(site, args, nargsf, kwnames, Py_NAN);
    call->outer = scope_enter((Scope){site, 0, NULL});
    if (call->sample != NULL)
        evidence_open(call->sample);
    call->start = now_ticks();
}

static inline void
call_begin(Call *call, Site *site, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    count_in(site);
    call->site = site;
    call->sample = NULL;
    call->generation = core.generation;
    call->timed = site->mode != MODE_COUNT;
    if (UNLIKELY(!call->timed))
        return;
    if (UNLIKELY(ADD(site->gap, -1) < 0)) {
        call_begin_sample(call, site, args, nargsf, kwnames);
        return;
    }
    call->outer = scope_enter((Scope){site, 0, NULL});
    call->start = now_ticks();
}

/* Leaves the record of a call that was sampled, or slow. */
static SLOW void
call_record(const Call *call, uint64_t ns, int64_t own_ns, uint16_t outcome)
{
    Ended ended = {
        .start_ticks = call->start,
        .wall_ns = ns,
        .run_ns = ns,
        .longest_ns = ns,
        .own_ns = own_ns,
        .flags = outcome,
    };
    sample_end(call->site, &ended, call->sample);
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
    int64_t own_ns = scope_leave(&call->outer, site, ns);
    if (UNLIKELY(call->generation != core.generation)) {
        PyMem_RawFree(sample);
        return;
    }
    ADD(site->in_flight, (uint32_t)-1);
    outcome = UNLIKELY(failed) ? outcome_of_exception() : 0;
    count_outcome(site, outcome);
    site_count_time(site, ns);
    if (UNLIKELY(sample != NULL || ns > GET(site->tail_ns)))
        call_record(call, ns, own_ns, outcome);
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
