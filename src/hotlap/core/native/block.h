/* Measurement: `with measure("name"):`, sync and async, and its use as a decorator.

   One object may be entered many times over, by several threads and tasks at once, so entries are told apart by the
   thread and context they were made in: an exit ends the newest entry of its own. The first entry lies in the
   object, further ones are allocated. */
#ifndef HOTLAP_BLOCK_H
#define HOTLAP_BLOCK_H

#include "flow.h"

typedef struct Entry {
    struct Entry *below;
    uint32_t thread;
    uint8_t used, measured;
    void *context;
    uint64_t context_version;
    Call call;
} Entry;

typedef struct {
    PyObject_HEAD
    Site *site;
    PyObject *options; /* dict or NULL: what measure() was given besides its name */
    double size;
    Entry *top;
    Entry first;
} Measurement;

static PyTypeObject *Measurement_Type, *Ready_Type;

static Site *
measurement_site(PyObject *name, PyObject *options)
{
    if (!PyUnicode_Check(name)) {
        raise_error("OptionTypeError", "measure name %R: must be a string", name);
        return NULL;
    }
    PyObject *site = NULL;
    if (options == NULL && core.hooks.sites != NULL) {
        site = PyDict_GetItemWithError(core.hooks.sites, name);
        if (site != NULL)
            return (Site *)site;
        if (PyErr_Occurred())
            return NULL;
    }
    if (core.hooks.missing == NULL) {
        raise_error("HotlapError", "measure(%R): no site registry is set", name);
        return NULL;
    }
    PyObject *none = options ? NULL : PyDict_New();
    if (options == NULL && none == NULL)
        return NULL;
    site = PyObject_CallFunctionObjArgs(core.hooks.missing, name, options ? options : none, NULL);
    Py_XDECREF(none);
    Py_XDECREF(site); /* immortal */
    return (Site *)site;
}

/* measure(name, *, size=None, **options): `size` is of this one block, the rest describes the site. */
static PyObject *
measurement_make(PyObject *type, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Py_ssize_t positional = PyVectorcall_NARGS(nargsf);
    PyObject *name = positional > 0 ? args[0] : NULL;
    PyObject *options = NULL, *size = NULL;
    Measurement *self = NULL;
    if (positional > 1)
        return raise_error("OptionTypeError", "measure() takes one positional argument, the name, but got %zd",
                           positional);
    for (Py_ssize_t i = 0; kwnames != NULL && i < PyTuple_GET_SIZE(kwnames); i++) {
        PyObject *key = PyTuple_GET_ITEM(kwnames, i), *value = args[positional + i];
        if (PyUnicode_CompareWithASCIIString(key, "size") == 0) {
            size = value == Py_None ? NULL : value;
            continue;
        }
        if (name == NULL && PyUnicode_CompareWithASCIIString(key, "name") == 0) {
            name = value;
            continue;
        }
        if (options == NULL && (options = PyDict_New()) == NULL)
            return NULL;
        if (PyDict_SetItem(options, key, value) < 0)
            goto done;
    }
    if (name == NULL) {
        raise_error("OptionTypeError", "measure() needs the name of the block, as in measure(\"rerank\")");
        goto done;
    }
    double number = Py_NAN;
    if (size != NULL) {
        number = PyFloat_AsDouble(size);
        if (number == -1 && PyErr_Occurred()) {
            PyErr_Clear();
            raise_error("OptionTypeError", "measure(%R, size=%R): must be a number", name, size);
            goto done;
        }
    }
    Site *site = measurement_site(name, options);
    if (site == NULL)
        goto done;
    self = (Measurement *)((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, 0);
    if (self == NULL)
        goto done;
    self->site = site;
    self->options = Py_XNewRef(options);
    self->size = number;
done:
    Py_XDECREF(options);
    return (PyObject *)self;
}

static PyObject *
Measurement_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Py_ssize_t count = PyTuple_GET_SIZE(args), named = kwargs ? PyDict_GET_SIZE(kwargs) : 0;
    PyObject **stack = PyMem_New(PyObject *, (size_t)(count + named + 1));
    PyObject *kwnames = named ? PyTuple_New(named) : NULL;
    PyObject *self = NULL;
    if (stack == NULL || (named && kwnames == NULL)) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        stack[i] = PyTuple_GET_ITEM(args, i);
    Py_ssize_t position = 0, i = 0;
    PyObject *key, *value;
    while (named && PyDict_Next(kwargs, &position, &key, &value)) {
        PyTuple_SET_ITEM(kwnames, i, Py_NewRef(key));
        stack[count + i++] = value;
    }
    self = measurement_make((PyObject *)type, stack, (size_t)count, kwnames);
done:
    Py_XDECREF(kwnames);
    PyMem_Free(stack);
    return self;
}

static void
Measurement_dealloc(PyObject *object)
{
    Measurement *self = (Measurement *)object;
    PyTypeObject *type = Py_TYPE(object);
    while (self->top != NULL) { /* entered and never left: not a call that ended */
        Entry *entry = self->top;
        self->top = entry->below;
        if (entry->measured) {
            if (entry->call.generation == core.generation)
                ADD(self->site->in_flight, (uint32_t)-1);
            PyMem_RawFree(entry->call.sample);
            if (entry->call.timed && thread.scope.site == self->site && thread.scope.context == entry->context)
                thread.scope = entry->call.outer;
        }
        if (entry != &self->first)
            PyMem_RawFree(entry);
    }
    Py_XDECREF(self->options);
    type->tp_free(object);
    Py_DECREF(type);
}

static int
block_enter(Measurement *self)
{
    if (STACK_IS_SHORT() && thread_check(__builtin_frame_address(0)) < 0)
        return -1;
    Entry *entry = &self->first;
    if (UNLIKELY(entry->used)) {
        entry = PyMem_RawMalloc(sizeof(Entry));
        if (entry == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    PyThreadState *state = PyThreadState_Get();
    entry->used = 1;
    entry->thread = thread.id;
    entry->context = state->context;
    entry->below = self->top;
    self->top = entry;
    entry->measured = (uint8_t)(core.enabled != 0);
    if (!entry->measured)
        return 0;
    Site *site = self->site;
    Call *call = &entry->call;
    count_in(site);
    call->site = site;
    call->sample = NULL;
    call->generation = core.generation;
    call->timed = site->mode != MODE_COUNT;
    if (!call->timed)
        return 0;
    if (UNLIKELY(ADD(site->gap, -1) < 0))
        call->sample = sample_begin(site, NULL, 0, NULL, self->size);
    /* A block of another task, still open, is not what encloses this one: see Scope. */
    if (UNLIKELY(thread.scope.context != NULL && thread.scope.context != (void *)state->context))
        thread.scope = (Scope){NULL, 0, NULL};
    call->outer = scope_enter(site, 0, state->context);
    entry->context_version = state->context_ver;
    if (UNLIKELY(call->sample != NULL))
        evidence_open(call->sample);
    call->start = now_ticks();
    return 0;
}

static Entry *
block_find_entry(Measurement *self, void *context)
{
    for (Entry *entry = self->top; entry != NULL; entry = entry->below)
        if (entry->thread == thread.id && entry->context == context)
            return entry;
    for (Entry *entry = self->top; entry != NULL; entry = entry->below)
        if (entry->thread == thread.id)
            return entry;
    return self->top;
}

/* Books the end of a block. With `failed` the exception is set, and stays. */
static void
block_book(Entry *entry, uint64_t end, int failed)
{
    Call *call = &entry->call;
    Site *site = call->site;
    uint64_t ns = call->timed ? elapsed_ns(call->start, end) : 0;
    int switched = 0;
    uint64_t child_ns = 0;
    if (call->timed) {
        PyThreadState *state = PyThreadState_Get();
        switched = state->context_ver != entry->context_version;
        if (UNLIKELY(call->sample != NULL))
            evidence_close(call->sample);
        if (LIKELY(thread.scope.site == site && thread.scope.context == entry->context)) {
            child_ns = thread.scope.child_ns;
            thread.scope = call->outer;
            thread.scope.child_ns += ns;
        }
        else {
            switched = 1; /* another task's block lies on top: it goes to no parent when it ends */
        }
    }
    if (call->generation != core.generation) {
        PyMem_RawFree(call->sample);
        return;
    }
    ADD(site->in_flight, (uint32_t)-1);
    uint16_t outcome = failed ? outcome_of_exception() : 0;
    count_outcome(site, outcome);
    if (!call->timed)
        return;
    site_count_time(site, ns);
    if (UNLIKELY(call->sample != NULL || ns > GET(site->tail_ns))) {
        Ended ended = {
            .start_ticks = call->start,
            .wall_ns = ns,
            .run_ns = ns,
            .longest_ns = ns,
            .own_ns = switched ? -1 : ns > child_ns ? (int64_t)(ns - child_ns) : 0,
            .flags = outcome | FLAG_BLOCK,
        };
        sample_end(site, &ended, call->sample);
    }
}

/* `exception` is the instance (or class) that left the block, or None. */
static int
block_exit(Measurement *self, PyObject *exception)
{
    uint64_t end = now_ticks();
    Entry *entry = self->top;
    if (entry == NULL) {
        raise_error("HotlapError", "measure(%R): exited more often than entered", self->site->name);
        return -1;
    }
    if (UNLIKELY(entry->below != NULL))
        entry = block_find_entry(self, current_context());
    Entry **link = &self->top;
    while (*link != entry)
        link = &(*link)->below;
    *link = entry->below;
    if (entry->measured) {
        int failed = exception != NULL && exception != Py_None;
        if (UNLIKELY(failed)) {
            PyErr_SetObject(PyExceptionInstance_Check(exception) ? (PyObject *)Py_TYPE(exception)
                            : PyExceptionClass_Check(exception)  ? exception
                                                                 : PyExc_Exception,
                            PyExceptionInstance_Check(exception) ? exception : NULL);
            block_book(entry, end, 1);
            PyErr_Clear();
        }
        else {
            block_book(entry, end, 0);
        }
    }
    if (entry == &self->first)
        entry->used = 0;
    else
        PyMem_RawFree(entry);
    return 0;
}

static PyObject *
Measurement_enter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return block_enter((Measurement *)self) < 0 ? NULL : Py_NewRef(self);
}

static PyObject *
Measurement_exit(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    PyObject *exception = count > 1 && args[1] != Py_None ? args[1] : count > 0 ? args[0] : NULL;
    if (block_exit((Measurement *)self, exception) < 0)
        return NULL;
    Py_RETURN_NONE; /* an exception passes through */
}

/* ---- async with: an awaitable that is ready at once ---- */

typedef struct {
    PyObject_HEAD
    PyObject *value;
} Ready;

static PyObject *
ready_new(PyObject *value)
{
    Ready *self = (Ready *)Ready_Type->tp_alloc(Ready_Type, 0);
    if (self != NULL)
        self->value = Py_NewRef(value);
    return (PyObject *)self;
}

static PySendResult
ready_send(PyObject *self, PyObject *Py_UNUSED(value), PyObject **result)
{
    *result = Py_NewRef(((Ready *)self)->value);
    return PYGEN_RETURN;
}

static PyObject *
ready_iternext(PyObject *self)
{
    return as_iteration(PYGEN_RETURN, Py_NewRef(((Ready *)self)->value));
}

static void
Ready_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(((Ready *)self)->value);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot Ready_slots[] = {
    {Py_tp_dealloc, Ready_dealloc},
    {Py_tp_iter, self_reference},
    {Py_tp_iternext, ready_iternext},
    {Py_am_await, self_reference},
    {Py_am_send, ready_send},
    {0, NULL},
};

static PyType_Spec Ready_spec = {
    .name = "hotlap.core._native.Ready",
    .basicsize = sizeof(Ready),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = Ready_slots,
};

static PyObject *
Measurement_aenter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return block_enter((Measurement *)self) < 0 ? NULL : ready_new(self);
}

static PyObject *
Measurement_aexit(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    PyObject *done = Measurement_exit(self, args, count);
    if (done == NULL)
        return NULL;
    PyObject *ready = ready_new(done);
    Py_DECREF(done);
    return ready;
}

/* ---- record(), and the decorator ---- */

/* record(rows=17): one more value of each named metric of the site. */
static PyObject *
Measurement_record(PyObject *object, PyObject *args, PyObject *kwargs)
{
    Site *site = ((Measurement *)object)->site;
    if (PyTuple_GET_SIZE(args) != 0)
        return raise_error("OptionTypeError", "record(%R): takes keyword arguments alone, as in record(rows=17)",
                           PyTuple_GET_ITEM(args, 0));
    Py_ssize_t position = 0;
    PyObject *name, *value;
    while (kwargs != NULL && PyDict_Next(kwargs, &position, &name, &value)) {
        double number = PyBool_Check(value) || PyUnicode_Check(value) ? Py_NAN : PyFloat_AsDouble(value);
        if (PyErr_Occurred() || !isfinite(number)) {
            PyErr_Clear();
            return raise_error("OptionTypeError", "record(%U=%R): must be a finite number", name, value);
        }
    }
    if (!core.enabled || kwargs == NULL)
        Py_RETURN_NONE;
    if (site->metrics == NULL && (site->metrics = PyDict_New()) == NULL)
        return NULL;
    position = 0;
    while (PyDict_Next(kwargs, &position, &name, &value)) {
        double number = PyFloat_AsDouble(value);
        PyObject *old = PyDict_GetItemWithError(site->metrics, name);
        if (old == NULL && PyErr_Occurred())
            return NULL;
        double total = number, least = number, most = number;
        long long count = 1;
        if (old != NULL && PyList_CheckExact(old) && PyList_GET_SIZE(old) == 4) {
            count += PyLong_AsLongLong(PyList_GET_ITEM(old, 0));
            total += PyFloat_AsDouble(PyList_GET_ITEM(old, 1));
            least = fmin(least, PyFloat_AsDouble(PyList_GET_ITEM(old, 2)));
            most = fmax(most, PyFloat_AsDouble(PyList_GET_ITEM(old, 3)));
        }
        PyObject *made = Py_BuildValue("[Lddd]", count, total, least, most);
        if (made == NULL || PyDict_SetItem(site->metrics, name, made) < 0) {
            Py_XDECREF(made);
            return NULL;
        }
        Py_DECREF(made);
    }
    Py_RETURN_NONE;
}

/* As a decorator: the function becomes a probe of the block's site. */
static PyObject *
Measurement_call(PyObject *object, PyObject *args, PyObject *kwargs)
{
    Measurement *self = (Measurement *)object;
    if (PyTuple_GET_SIZE(args) != 1 || (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0))
        return raise_error("OptionTypeError", "measure(%R) as a decorator takes the function alone", self->site->name);
    if (core.hooks.decorate == NULL)
        return raise_error("HotlapError", "measure(%R): no decorator is set", self->site->name);
    PyObject *none = self->options ? NULL : PyDict_New();
    PyObject *probe = PyObject_CallFunctionObjArgs(core.hooks.decorate, self->site->name,
                                                   self->options ? self->options : none, PyTuple_GET_ITEM(args, 0),
                                                   NULL);
    Py_XDECREF(none);
    return probe;
}

static PyObject *
Measurement_repr(PyObject *self)
{
    return PyUnicode_FromFormat("measure(%R)", ((Measurement *)self)->site->name);
}

static PyMethodDef Measurement_methods[] = {
    {"__enter__", Measurement_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))Measurement_exit, METH_FASTCALL, NULL},
    {"__aenter__", Measurement_aenter, METH_NOARGS, NULL},
    {"__aexit__", (PyCFunction)(void (*)(void))Measurement_aexit, METH_FASTCALL, NULL},
    {"record", (PyCFunction)(void (*)(void))Measurement_record, METH_VARARGS | METH_KEYWORDS,
     "record(**numbers): add one value to each of these metrics of the block's site."},
    {NULL},
};

static PyMemberDef Measurement_members[] = {
    {"_site", T_OBJECT, offsetof(Measurement, site), READONLY, "the Site that the block counts in"},
    {NULL},
};

static PyType_Slot Measurement_slots[] = {
    {Py_tp_doc, "measure(name, *, size=None, **options)\n--\n\nMeasure a block: with measure(\"rerank\"): ..."},
    {Py_tp_new, Measurement_new},
    {Py_tp_dealloc, Measurement_dealloc},
    {Py_tp_call, Measurement_call},
    {Py_tp_repr, Measurement_repr},
    {Py_tp_methods, Measurement_methods},
    {Py_tp_members, Measurement_members},
    {0, NULL},
};

static PyType_Spec Measurement_spec = {
    .name = "hotlap.core._native.Measurement",
    .basicsize = sizeof(Measurement),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = Measurement_slots,
};

#endif
