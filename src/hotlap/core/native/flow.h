/* Flows: the stand-ins for coroutines, generators and async generators that measure them to their end.

   A coroutine is timed from its first step to its end, with its own running time (the sum of its steps) apart from
   the time it was suspended. A generator is billed for its steps alone: what its consumer does between them is not
   its time. An async generator is billed from each asend() to its answer, suspensions included.

   A stand-in is what it stands for in all that Python code can ask: __class__, attributes, and send, throw and
   close, which go to the original. The site is the thread's scope during each step, so calls made in it find their
   parent. One type serves coroutines, one generators, and async generators have one with AsyncStep as the awaitable
   of each asend(). Objects take part in garbage collection, as the originals do: a task's frame may hold its task.
   Like the originals they have no tp_clear: a cycle ends when the original's finalizer empties its frame.

   A call that begins while measuring is switched off, or that is closed or thrown into before its first step, is
   not measured at all: its stand-in is FLOW_DONE from then on, and only passes things on. Two threads cannot be in
   one flow: the second finds `running` taken and goes to the original, which refuses. */
#ifndef HOTLAP_FLOW_H
#define HOTLAP_FLOW_H

#include "call.h"

enum { FOLLOW_COROUTINE = 1, FOLLOW_GENERATOR = 2, FOLLOW_ASYNC_GENERATOR = 4 };

enum { FLOW_NEW, FLOW_OPEN, FLOW_DONE };

typedef struct {
    PyObject_HEAD
    PyObject *inner;
    PyObject *weakrefs;
    Site *site;
    Sample *sample;
    uint64_t start; /* ticks of the first step */
    uint64_t wall_ns, run_ns, longest_ns;
    Scope scope; /* the innermost one at the end of the last step: its own, or a block that is open in it */
    uint32_t suspensions;
    uint32_t generation;
    uint8_t state, timed, kind, running, awaited;
} Flow;

typedef struct {
    uint64_t start;
    Scope outer;
} Step;

static PyTypeObject *Coroutine_Type, *Generator_Type, *AsyncGenerator_Type, *AsyncStep_Type;

/* A few dead coroutine stand-ins, kept for reuse: saves the allocation and, more, the garbage collector's count. */
#ifndef Py_GIL_DISABLED
#define SPARE_FLOWS 64
static Flow *spare_flows[SPARE_FLOWS];
static int spare_count;
#endif

/* Steals `inner` and `sample`. */
static PyObject *
flow_new(PyTypeObject *type, uint8_t kind, PyObject *inner, Site *site, Sample *sample)
{
    Flow *flow = NULL;
#ifndef Py_GIL_DISABLED
    if (spare_count > 0) {
        flow = spare_flows[--spare_count];
        PyObject_Init((PyObject *)flow, type);
        flow->run_ns = flow->longest_ns = 0;
        flow->suspensions = 0;
        flow->state = FLOW_NEW;
        flow->running = flow->awaited = 0;
    }
#endif
    if (flow == NULL) {
        flow = (Flow *)type->tp_alloc(type, 0);
        if (flow == NULL) { /* unmeasured is better than not run */
            PyErr_Clear();
            PyMem_RawFree(sample);
            return inner;
        }
        PyObject_GC_UnTrack(flow);
    }
    flow->inner = inner;
    flow->site = site;
    flow->scope = (Scope){site, 0, NULL};
    flow->sample = sample;
    flow->kind = kind;
    flow->generation = core.generation;
    PyObject_GC_Track(flow);
    return (PyObject *)flow;
}

static inline void
flow_open(Flow *flow)
{
    flow->state = FLOW_OPEN;
    flow->timed = flow->site->mode != MODE_COUNT;
    count_in(flow->site);
    if (flow->sample != NULL)
        flow->sample->in_flight = GET(flow->site->in_flight);
}

static inline int
flow_counts(Flow *flow)
{
    return flow->state == FLOW_OPEN && flow->generation == core.generation;
}

/* A step of the original is to be measured: 0 if it only has to be passed on, else step_begin() must follow. */
static inline int
flow_take(Flow *flow)
{
    if (UNLIKELY(flow->state == FLOW_DONE))
        return 0;
    if (UNLIKELY(flow->state == FLOW_NEW && !core.enabled)) {
        flow->state = FLOW_DONE;
        return 0;
    }
    return TAKE(flow->running);
}

static inline void
step_begin(Flow *flow, Step *step)
{
    int first = flow->state == FLOW_NEW;
    if (first)
        flow_open(flow);
    step->outer = scope_enter(flow->scope);
    if (UNLIKELY(flow->sample != NULL))
        evidence_open(flow->sample);
    step->start = now_ticks();
    if (first)
        flow->start = step->start;
}

/* Returns the time of the end of the step, in ticks. */
static inline uint64_t
step_end(Flow *flow, Step *step)
{
    uint64_t end = now_ticks();
    uint64_t ns = elapsed_ns(step->start, end);
    if (UNLIKELY(flow->sample != NULL))
        evidence_close(flow->sample);
    flow->run_ns += ns;
    if (ns > flow->longest_ns)
        flow->longest_ns = ns;
    if (LIKELY(thread.scope.site == flow->site || thread.scope.context != NULL)) {
        flow->scope = thread.scope;
        thread.scope = step->outer;
        thread.scope.child_ns += ns;
    }
    else { /* a plain call's: greenlets switched in this step. The scope from before it will do for the next. */
        scope_lost(&step->outer);
    }
    return end;
}

/* The call is over. `wall_ns` as billed; `outcome` is 0, FLAG_ERROR or FLAG_CANCELLED. */
static void
flow_finish(Flow *flow, uint64_t wall_ns, uint16_t outcome)
{
    int counts = flow_counts(flow);
    Sample *sample = flow->sample;
    flow->sample = NULL;
    flow->state = FLOW_DONE;
    if (!counts) {
        PyMem_RawFree(sample);
        return;
    }
    Site *site = flow->site;
    ADD(site->in_flight, (uint32_t)-1);
    count_outcome(site, outcome);
    if (!flow->timed) {
        PyMem_RawFree(sample);
        return;
    }
    site_count_time(site, wall_ns);
    ADD(site->run_ns, flow->run_ns);
    ADD(site->suspensions, flow->suspensions);
    RAISE_TO(site->longest_ns, flow->longest_ns);
    if (UNLIKELY(sample != NULL || wall_ns > GET(site->tail_ns))) {
        Ended ended = {
            .start_ticks = flow->start,
            .wall_ns = wall_ns,
            .run_ns = flow->run_ns,
            .longest_ns = flow->longest_ns,
            .own_ns = flow->run_ns > flow->scope.child_ns ? (int64_t)(flow->run_ns - flow->scope.child_ns) : 0,
            .suspensions = flow->suspensions,
            .flags = outcome | (flow->kind != FOLLOW_GENERATOR ? FLAG_ASYNC : 0) |
                     (flow->kind != FOLLOW_COROUTINE ? FLAG_GENERATOR : 0),
        };
        sample_end(site, &ended, sample);
    }
}

/* Books what a step of a coroutine or generator gave. With PYGEN_ERROR the exception is set, and stays. */
static inline void
flow_book(Flow *flow, uint64_t end, PySendResult status)
{
    if (status == PYGEN_NEXT) {
        flow->suspensions++;
        return;
    }
    if (flow->state != FLOW_OPEN) {
        flow->state = FLOW_DONE;
        return;
    }
    uint64_t wall = flow->kind == FOLLOW_GENERATOR ? flow->run_ns : elapsed_ns(flow->start, end);
    flow_finish(flow, wall, UNLIKELY(status == PYGEN_ERROR) ? outcome_of_exception() : 0);
}

/* The original's own slot, without the detour over PyIter_Send(): a nanosecond or two in each step. */
static inline PySendResult
inner_send(PyObject *inner, PyObject *value, PyObject **result)
{
    PyTypeObject *type = Py_TYPE(inner);
    return LIKELY(type == &PyCoro_Type) ? type->tp_as_async->am_send(inner, value, result)
                                        : PyIter_Send(inner, value, result);
}

static PySendResult
flow_send(PyObject *self, PyObject *value, PyObject **result)
{
    Flow *flow = (Flow *)self;
    if (STACK_IS_SHORT() && thread_check(__builtin_frame_address(0)) < 0) {
        *result = NULL;
        return PYGEN_ERROR;
    }
    if (UNLIKELY(!flow_take(flow))) /* the original knows what to say */
        return PyIter_Send(flow->inner, value, result);
    Step step;
    step_begin(flow, &step);
    PySendResult status = inner_send(flow->inner, value, result);
    uint64_t end = step_end(flow, &step);
    LET_GO(flow->running);
    flow_book(flow, end, status);
    return status;
}

/* The result of a send as the iterator protocol wants it: the value of a return travels in StopIteration. */
static PyObject *
as_iteration(PySendResult status, PyObject *result)
{
    if (status != PYGEN_RETURN)
        return result;
    if (result == Py_None) {
        PyErr_SetNone(PyExc_StopIteration);
    }
    else if (!PyTuple_Check(result) && !PyExceptionInstance_Check(result)) {
        PyErr_SetObject(PyExc_StopIteration, result);
    }
    else {
        /* An instance made by hand: SetObject would unpack a tuple and raise an exception that was returned. */
        PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, result);
        if (stop != NULL)
            PyErr_SetObject(PyExc_StopIteration, stop);
        Py_XDECREF(stop);
    }
    Py_DECREF(result);
    return NULL;
}

static PyObject *
flow_iternext(PyObject *self)
{
    PyObject *result;
    PySendResult status = flow_send(self, Py_None, &result);
    if (status == PYGEN_RETURN && result == Py_None) { /* the slot may leave StopIteration out: far cheaper */
        Py_DECREF(result);
        return NULL;
    }
    return as_iteration(status, result);
}

static PyObject *
flow_send_method(PyObject *self, PyObject *value)
{
    PyObject *result;
    PySendResult status = flow_send(self, value, &result);
    return as_iteration(status, result);
}

/* What a method of the original gave, as a send result; the exception, if any, stays set. */
static PySendResult
status_of(PyObject *result)
{
    if (result != NULL)
        return PYGEN_NEXT;
    return PyErr_ExceptionMatches(PyExc_StopIteration) ? PYGEN_RETURN : PYGEN_ERROR;
}

static PyObject *
flow_throw_method(PyObject *self, PyObject *args)
{
    Flow *flow = (Flow *)self;
    if (STACK_IS_SHORT() && thread_check(__builtin_frame_address(0)) < 0)
        return NULL;
    PyObject *method = PyObject_GetAttrString(flow->inner, "throw");
    if (method == NULL)
        return NULL;
    PyObject *result;
    if (flow->state == FLOW_NEW) /* thrown into what never ran, it does not run */
        flow->state = FLOW_DONE;
    if (!flow_take(flow)) {
        result = PyObject_Call(method, args, NULL);
    }
    else {
        Step step;
        step_begin(flow, &step);
        result = PyObject_Call(method, args, NULL);
        uint64_t end = step_end(flow, &step);
        LET_GO(flow->running);
        flow_book(flow, end, status_of(result));
    }
    Py_DECREF(method);
    return result;
}

static PyObject *
flow_close_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Flow *flow = (Flow *)self;
    if (STACK_IS_SHORT() && thread_check(__builtin_frame_address(0)) < 0)
        return NULL;
    PyObject *method = PyObject_GetAttrString(flow->inner, "close");
    if (method == NULL)
        return NULL;
    PyObject *result;
    if (flow->state == FLOW_NEW)
        flow->state = FLOW_DONE;
    if (!flow_take(flow)) {
        result = PyObject_CallNoArgs(method);
    }
    else {
        Step step;
        step_begin(flow, &step);
        result = PyObject_CallNoArgs(method);
        uint64_t end = step_end(flow, &step);
        LET_GO(flow->running);
        uint64_t wall = flow->kind == FOLLOW_GENERATOR ? flow->run_ns : elapsed_ns(flow->start, end);
        flow_finish(flow, wall, result != NULL ? FLAG_CANCELLED : outcome_of_exception());
    }
    Py_DECREF(method);
    return result;
}

/* ---- what the three types share ---- */

/* What a coroutine shows of itself comes from the original. Named one by one: with a tp_getattro of our own the
   interpreter would make a bound object for each send(). */
static PyObject *
flow_get_inner(PyObject *self, void *name)
{
    return PyObject_GetAttrString(((Flow *)self)->inner, name);
}

static int
flow_set_inner(PyObject *self, PyObject *value, void *name)
{
    return PyObject_SetAttrString(((Flow *)self)->inner, name, value);
}

static PyObject *
flow_repr(PyObject *self)
{
    return PyObject_Repr(((Flow *)self)->inner);
}

static PyObject *
flow_get_class(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef((PyObject *)Py_TYPE(((Flow *)self)->inner));
}

static int
flow_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Flow *)self)->inner);
    return 0;
}

static void flow_free(Flow *flow);
static void flow_dealloc(PyObject *self);

/* Never finished: the original is let go first, so that its finally blocks run as they would, then the call counts
   as cancelled. What its frame holds may be a flow again, and so on: hence the trashcan. */
static SLOW void
flow_abandon(PyObject *self)
{
    Flow *flow = (Flow *)self;
    Py_TRASHCAN_BEGIN(self, flow_dealloc)
    Pending pending = pending_set_aside();
    Py_CLEAR(flow->inner);
    uint64_t wall = flow->kind == FOLLOW_COROUTINE && flow->state == FLOW_OPEN ? elapsed_ns(flow->start, now_ticks())
                    : flow->kind == FOLLOW_GENERATOR                            ? flow->run_ns
                                                                                : flow->wall_ns;
    flow_finish(flow, wall, FLAG_CANCELLED);
    pending_restore(pending);
    flow_free(flow);
    Py_TRASHCAN_END
}

static void
flow_dealloc(PyObject *self)
{
    Flow *flow = (Flow *)self;
    PyObject_GC_UnTrack(self);
    if (UNLIKELY(flow->weakrefs != NULL))
        PyObject_ClearWeakRefs(self);
    if (UNLIKELY(flow->state != FLOW_DONE)) {
        flow_abandon(self);
        return;
    }
    Py_CLEAR(flow->inner);
    flow_free(flow);
}

static void
flow_free(Flow *flow)
{
    PyTypeObject *type = Py_TYPE(flow);
#ifndef Py_GIL_DISABLED
    if (type == Coroutine_Type && spare_count < SPARE_FLOWS) {
        spare_flows[spare_count++] = flow;
        Py_DECREF(type);
        return;
    }
#endif
    type->tp_free(flow);
    Py_DECREF(type);
}

#define INNER(name) {name, flow_get_inner, NULL, NULL, (void *)(name)}
#define FLOW_GETSET                                                                                                   \
    {"__class__", flow_get_class, NULL, "the class of the original", NULL},                                           \
        {"__name__", flow_get_inner, flow_set_inner, NULL, (void *)"__name__"},                                       \
        {"__qualname__", flow_get_inner, flow_set_inner, NULL, (void *)"__qualname__"}

static PyGetSetDef Coroutine_getset[] = {
    FLOW_GETSET,      INNER("cr_await"),  INNER("cr_code"),      INNER("cr_frame"),
    INNER("cr_origin"), INNER("cr_running"), INNER("cr_suspended"), {NULL},
};

static PyGetSetDef Generator_getset[] = {
    FLOW_GETSET, INNER("gi_code"), INNER("gi_frame"), INNER("gi_running"), INNER("gi_suspended"), INNER("gi_yieldfrom"),
    {NULL},
};

static PyGetSetDef AsyncGenerator_getset[] = {
    FLOW_GETSET, INNER("ag_await"), INNER("ag_code"), INNER("ag_frame"), INNER("ag_running"), INNER("ag_suspended"),
    {NULL},
};

static PyMemberDef Flow_members[] = {
    {"__wrapped__", T_OBJECT, offsetof(Flow, inner), READONLY, "the original"},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Flow, weakrefs), READONLY, NULL},
    {NULL},
};

#define FLOW_SLOTS                                                                                                    \
    {Py_tp_dealloc, flow_dealloc}, {Py_tp_traverse, flow_traverse},                                                   \
        {Py_tp_repr, flow_repr}, {Py_tp_members, Flow_members}

#define FLOW_FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION)

/* ---- coroutines and generators ---- */

static PyObject *
self_reference(PyObject *self)
{
    return Py_NewRef(self);
}

static PyObject *
self_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(self);
}

/* `await` refuses a coroutine that is suspended in another await: it would get values that are not its. */
static PyObject *
coroutine_await(PyObject *self)
{
    Flow *flow = (Flow *)self;
    if (UNLIKELY(flow->state != FLOW_NEW)) {
        PyObject *awaited = PyObject_GetAttrString(flow->inner, "cr_await");
        if (awaited == NULL)
            return NULL;
        Py_DECREF(awaited);
        if (awaited != Py_None) {
            PyErr_SetString(PyExc_RuntimeError, "coroutine is being awaited already");
            return NULL;
        }
    }
    flow->awaited = 1;
    return Py_NewRef(self);
}

/* A coroutine is no iterable. But what its __await__() gives is one, and that is itself here; and generators of
   types.coroutine() may yield from coroutines. The type's dict does not have it: see flow_load(). */
static PyObject *
coroutine_iter(PyObject *self)
{
    PyFrameObject *frame = PyEval_GetFrame();
    int flags = 0;
    if (frame != NULL) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        flags = code->co_flags;
        Py_DECREF(code);
    }
    if (((Flow *)self)->awaited || (flags & CO_ITERABLE_COROUTINE))
        return Py_NewRef(self);
    PyErr_SetString(PyExc_TypeError, "'coroutine' object is not iterable");
    return NULL;
}

static PyMethodDef Coroutine_methods[] = {
    {"send", flow_send_method, METH_O, NULL},
    {"throw", flow_throw_method, METH_VARARGS, NULL},
    {"close", flow_close_method, METH_NOARGS, NULL},
    {NULL},
};

static PyType_Slot Coroutine_slots[] = {
    FLOW_SLOTS,
    {Py_tp_getset, Coroutine_getset},
    {Py_am_await, coroutine_await},
    {Py_am_send, flow_send},
    {Py_tp_iter, coroutine_iter},
    {Py_tp_iternext, flow_iternext},
    {Py_tp_methods, Coroutine_methods},
    {0, NULL},
};

static PyType_Spec Coroutine_spec = {
    .name = "hotlap.core._native.Coroutine",
    .basicsize = sizeof(Flow),
    .flags = FLOW_FLAGS,
    .slots = Coroutine_slots,
};

static PyType_Slot Generator_slots[] = {
    FLOW_SLOTS,
    {Py_tp_getset, Generator_getset},
    {Py_am_send, flow_send},
    {Py_tp_iter, self_reference},
    {Py_tp_iternext, flow_iternext},
    {Py_tp_methods, Coroutine_methods},
    {0, NULL},
};

static PyType_Spec Generator_spec = {
    .name = "hotlap.core._native.Generator",
    .basicsize = sizeof(Flow),
    .flags = FLOW_FLAGS,
    .slots = Generator_slots,
};

/* Nobody is to take a coroutine for an iterable because its type has an __iter__. */
static int
flow_load(void)
{
    PyObject *dict = Coroutine_Type->tp_dict;
    if (PyDict_GetItemString(dict, "__iter__") == NULL) /* the module was loaded before */
        return 0;
    if (PyDict_DelItemString(dict, "__iter__") < 0)
        return -1;
    PyType_Modified(Coroutine_Type);
    return 0;
}

/* ---- what a call gave ---- */

static inline int
flow_kind(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    return type == &PyCoro_Type ? FOLLOW_COROUTINE : type == &PyGen_Type ? FOLLOW_GENERATOR
           : type == &PyAsyncGen_Type ? FOLLOW_ASYNC_GENERATOR : 0;
}

/* Steals `result`, of one of the three kinds, and `sample`: a measured stand-in for it. */
static inline PyObject *
flow_follow(PyObject *result, Site *site, Sample *sample)
{
    int kind = flow_kind(result);
    PyTypeObject *type = kind == FOLLOW_COROUTINE  ? Coroutine_Type
                         : kind == FOLLOW_GENERATOR ? Generator_Type
                                                    : AsyncGenerator_Type;
    return flow_new(type, (uint8_t)kind, result, site, sample);
}

#endif
