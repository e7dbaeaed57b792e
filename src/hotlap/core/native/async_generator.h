/* The stand-in for async generators: a Flow whose steps are those of the awaitables that asend() and its like give.

   Locking and ownership as in flow.h. */
#ifndef HOTLAP_ASYNC_GENERATOR_H
#define HOTLAP_ASYNC_GENERATOR_H

#include "flow.h"

/* The awaitable of one asend(), athrow() or aclose(): its steps are steps of the generator that it belongs to. */
typedef struct {
    PyObject_HEAD
    PyObject *inner;
    Flow *flow; /* strong */
    uint64_t start;
    uint8_t begun, over, kind;
} AsyncStep;

enum { STEP_SEND, STEP_THROW, STEP_CLOSE };

static PyObject *
async_step_new(Flow *flow, PyObject *inner, uint8_t kind)
{
    if (inner == NULL || flow->state == FLOW_DONE)
        return inner;
    AsyncStep *step = (AsyncStep *)AsyncStep_Type->tp_alloc(AsyncStep_Type, 0);
    if (step == NULL) {
        PyErr_Clear();
        return inner;
    }
    step->inner = inner;
    step->flow = (Flow *)Py_NewRef(flow);
    step->kind = kind;
    return (PyObject *)step;
}

/* The original is at its end. Keeps a pending exception: an error may also be a step that was refused, because
   another one is under way or the first value sent is not None, and then the generator goes on. */
static int
async_generator_is_over(Flow *flow)
{
    Pending pending = pending_set_aside();
    PyObject *frame = PyObject_GetAttrString(flow->inner, "ag_frame");
    int over = frame == Py_None;
    Py_XDECREF(frame);
    pending_restore(pending);
    return over;
}

static void
async_step_book(AsyncStep *self, uint64_t end, PySendResult status)
{
    Flow *flow = self->flow;
    if (status == PYGEN_NEXT) {
        flow->suspensions++;
        return;
    }
    self->over = 1;
    flow->wall_ns += elapsed_ns(self->start, end);
    if (flow->state != FLOW_OPEN || (status == PYGEN_RETURN && self->kind == STEP_SEND))
        return;
    if (async_generator_is_over(flow))
        flow_finish(flow, flow->wall_ns, (status == PYGEN_ERROR ? outcome_of_exception() : 0) |
                                             (self->kind == STEP_CLOSE ? FLAG_CANCELLED : 0));
}

static void
async_step_begin(AsyncStep *self, Step *step)
{
    step_begin(self->flow, step);
    if (!self->begun) {
        self->begun = 1;
        self->start = step->start;
    }
}

/* As flow_take(). aclose() and athrow() on a generator that never ran do not run it, and end it. */
static int
async_step_take(AsyncStep *self)
{
    if (self->over)
        return 0;
    if (self->kind != STEP_SEND && self->flow->state == FLOW_NEW)
        self->flow->state = FLOW_DONE;
    return flow_take(self->flow);
}

static PySendResult
async_step_send(PyObject *object, PyObject *value, PyObject **result)
{
    AsyncStep *self = (AsyncStep *)object;
    if (STACK_IS_SHORT() && thread_check(__builtin_frame_address(0)) < 0) {
        *result = NULL;
        return PYGEN_ERROR;
    }
    if (!async_step_take(self))
        return PyIter_Send(self->inner, value, result);
    Step step;
    async_step_begin(self, &step);
    PySendResult status = PyIter_Send(self->inner, value, result);
    uint64_t end = step_end(self->flow, &step);
    LET_GO(self->flow->running);
    async_step_book(self, end, status);
    return status;
}

static PyObject *
async_step_iternext(PyObject *self)
{
    PyObject *result;
    PySendResult status = async_step_send(self, Py_None, &result);
    return as_iteration(status, result);
}

static PyObject *
async_step_send_method(PyObject *self, PyObject *value)
{
    PyObject *result;
    PySendResult status = async_step_send(self, value, &result);
    return as_iteration(status, result);
}

/* Calls `name`, throw or close, of the original: a step that may run it. */
static PyObject *
async_step_call(AsyncStep *self, const char *name, PyObject *args, int closes)
{
    if (STACK_IS_SHORT() && thread_check(__builtin_frame_address(0)) < 0)
        return NULL;
    PyObject *method = PyObject_GetAttrString(self->inner, name);
    if (method == NULL)
        return NULL;
    PyObject *result;
    if ((closes && !self->begun) || !async_step_take(self)) {
        result = PyObject_Call(method, args, NULL);
        self->over |= (uint8_t)closes;
    }
    else {
        Step step;
        async_step_begin(self, &step);
        result = PyObject_Call(method, args, NULL);
        uint64_t end = step_end(self->flow, &step);
        LET_GO(self->flow->running);
        if (closes && result != NULL) {
            self->kind = STEP_CLOSE; /* 3.13 and later throw GeneratorExit into the generator */
            async_step_book(self, end, PYGEN_RETURN);
        }
        else {
            async_step_book(self, end, status_of(result));
        }
    }
    Py_DECREF(method);
    return result;
}

static PyObject *
async_step_throw_method(PyObject *self, PyObject *args)
{
    return async_step_call((AsyncStep *)self, "throw", args, 0);
}

static PyObject *
async_step_close_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *none = PyTuple_New(0);
    PyObject *result = none ? async_step_call((AsyncStep *)self, "close", none, 1) : NULL;
    Py_XDECREF(none);
    return result;
}

static PyObject *
async_step_get_class(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef((PyObject *)Py_TYPE(((AsyncStep *)self)->inner));
}

static int
async_step_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((AsyncStep *)self)->inner);
    Py_VISIT(((AsyncStep *)self)->flow);
    return 0;
}

static void
async_step_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(((AsyncStep *)self)->inner);
    Py_XDECREF(((AsyncStep *)self)->flow);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef AsyncStep_methods[] = {
    {"send", async_step_send_method, METH_O, NULL},
    {"throw", async_step_throw_method, METH_VARARGS, NULL},
    {"close", async_step_close_method, METH_NOARGS, NULL},
    {NULL},
};

static PyGetSetDef AsyncStep_getset[] = {
    {"__class__", async_step_get_class, NULL, "the class of the original", NULL},
    {NULL},
};

static PyType_Slot AsyncStep_slots[] = {
    {Py_tp_dealloc, async_step_dealloc},
    {Py_tp_traverse, async_step_traverse},
    {Py_tp_getset, AsyncStep_getset},
    {Py_am_await, self_reference},
    {Py_am_send, async_step_send},
    {Py_tp_iter, self_reference},
    {Py_tp_iternext, async_step_iternext},
    {Py_tp_methods, AsyncStep_methods},
    {0, NULL},
};

static PyType_Spec AsyncStep_spec = {
    .name = "hotlap.core._native.AsyncStep",
    .basicsize = sizeof(AsyncStep),
    .flags = FLOW_FLAGS,
    .slots = AsyncStep_slots,
};

static PyObject *
async_generator_anext(PyObject *self)
{
    PyObject *inner = ((Flow *)self)->inner;
    return async_step_new((Flow *)self, Py_TYPE(inner)->tp_as_async->am_anext(inner), STEP_SEND);
}

static PyObject *
async_generator_anext_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return async_generator_anext(self);
}

static PyObject *
async_generator_asend_method(PyObject *self, PyObject *value)
{
    PyObject *step = PyObject_CallMethod(((Flow *)self)->inner, "asend", "(O)", value);
    return async_step_new((Flow *)self, step, STEP_SEND);
}

static PyObject *
async_generator_athrow_method(PyObject *self, PyObject *args)
{
    PyObject *method = PyObject_GetAttrString(((Flow *)self)->inner, "athrow");
    if (method == NULL)
        return NULL;
    PyObject *step = PyObject_Call(method, args, NULL);
    Py_DECREF(method);
    return async_step_new((Flow *)self, step, STEP_THROW);
}

static PyObject *
async_generator_aclose_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *step = PyObject_CallMethod(((Flow *)self)->inner, "aclose", NULL);
    return async_step_new((Flow *)self, step, STEP_CLOSE);
}

static PyMethodDef AsyncGenerator_methods[] = {
    {"__aiter__", self_method, METH_NOARGS, NULL},
    {"__anext__", async_generator_anext_method, METH_NOARGS, NULL},
    {"asend", async_generator_asend_method, METH_O, NULL},
    {"athrow", async_generator_athrow_method, METH_VARARGS, NULL},
    {"aclose", async_generator_aclose_method, METH_NOARGS, NULL},
    {NULL},
};

static PyType_Slot AsyncGenerator_slots[] = {
    FLOW_SLOTS,
    {Py_tp_getset, AsyncGenerator_getset},
    {Py_am_aiter, self_reference},
    {Py_am_anext, async_generator_anext},
    {Py_tp_methods, AsyncGenerator_methods},
    {0, NULL},
};

static PyType_Spec AsyncGenerator_spec = {
    .name = "hotlap.core._native.AsyncGenerator",
    .basicsize = sizeof(Flow),
    .flags = FLOW_FLAGS,
    .slots = AsyncGenerator_slots,
};

#endif
