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
    uint32_t lost; /* thread.lost at entry */
    uint8_t used, measured;
    void *context;
    uint64_t context_version;
    Call call;
} Entry;

typedef struct {
    PyObject_HEAD
    Site *site;
    PyObject *options; /* dict or NULL: what measure() was given besides its name and size */
    PyObject *size_given; /* or NULL */
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
        if (LIKELY(site != NULL && Py_IS_TYPE(site, Site_Type)))
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
    PyObject *missing = Py_NewRef(core.hooks.missing);
    site = PyObject_CallFunctionObjArgs(missing, name, options ? options : none, NULL);
    Py_DECREF(missing);
    Py_XDECREF(none);
    if (site != NULL && !Py_IS_TYPE(site, Site_Type)) {
        raise_error("HotlapError", "measure(%R): the site registry gave %R, which is no Site of this core", name, site);
        Py_CLEAR(site);
    }
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
    self->size_given = Py_XNewRef(size);
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

static inline void
entry_free(Measurement *self, Entry *entry)
{
    if (LIKELY(entry == &self->first))
        SET(entry->used, 0);
    else
        PyMem_RawFree(entry);
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
            if (entry->call.timed && entry->thread == thread.id && thread.scope.site == self->site &&
                thread.scope.context == entry->context)
                thread.scope = entry->call.outer;
        }
        entry_free(self, entry);
    }
    Py_XDECREF(self->options);
    Py_XDECREF(self->size_given);
    type->tp_free(object);
    Py_DECREF(type);
}

/* A new entry of this thread and context on top of the others. NULL, without an exception, if there is no memory. */
static inline Entry *
entry_push(Measurement *self, void *context)
{
    Entry *entry = &self->first;
    LOCK((PyObject *)self);
    if (UNLIKELY(entry->used))
        entry = PyMem_RawMalloc(sizeof(Entry));
    if (LIKELY(entry != NULL)) {
        entry->used = 1;
        entry->thread = thread.id;
        entry->context = context;
        entry->below = self->top;
        self->top = entry;
    }
    UNLOCK();
    return entry;
}

static int
block_enter(Measurement *self)
{
    if (STACK_IS_SHORT() && thread_check(__builtin_frame_address(0)) < 0)
        return -1;
    PyThreadState *state = PyThreadState_Get();
    Entry *entry = entry_push(self, context_of(state));
    if (UNLIKELY(entry == NULL)) {
        PyErr_NoMemory();
        return -1;
    }
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
    if (UNLIKELY(thread.scope.context != NULL && thread.scope.context != entry->context))
        thread.scope = (Scope){NULL, 0, NULL};
    call->outer = scope_enter((Scope){site, 0, entry->context});
    entry->context_version = state->context_ver;
    entry->lost = thread.lost;
    if (UNLIKELY(call->sample != NULL))
        evidence_open(call->sample);
    call->start = now_ticks();
    return 0;
}

static SLOW Entry *
entry_find(Measurement *self, void *context)
{
    for (Entry *entry = self->top; entry != NULL; entry = entry->below)
        if (entry->thread == thread.id && entry->context == context)
            return entry;
    for (Entry *entry = self->top; entry != NULL; entry = entry->below)
        if (entry->thread == thread.id)
            return entry;
    return self->top;
}

/* Takes out the newest entry of this thread and context, or else of this thread, or else of all; NULL if none. */
static inline Entry *
entry_pop(Measurement *self)
{
    Entry *entry;
    LOCK((PyObject *)self);
    entry = self->top;
    if (UNLIKELY(entry != NULL && entry->below != NULL))
        entry = entry_find(self, current_context());
    if (LIKELY(entry != NULL)) {
        Entry **link = &self->top;
        while (*link != entry)
            link = &(*link)->below;
        *link = entry->below;
    }
    UNLOCK();
    return entry;
}

/* Books the end of a block; `exception`, if not NULL, left it. */
static void
block_book(Entry *entry, uint64_t end, PyObject *exception)
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
            /* When scopes ended out of order since, the one around this block may be over. */
            thread.scope = LIKELY(entry->lost == thread.lost) ? call->outer : (Scope){NULL, 0, NULL};
            /* With other tasks in between, `ns` is not all time of the caller's, but the children's is. */
            thread.scope.child_ns += switched ? child_ns : ns;
        }
        else {
            switched = 1; /* another task's block lies on top */
            thread.lost++;
        }
    }
    if (call->generation != core.generation) {
        PyMem_RawFree(call->sample);
        return;
    }
    ADD(site->in_flight, (uint32_t)-1);
    uint16_t outcome = exception != NULL ? outcome_of(exception) : 0;
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
    Entry *entry = entry_pop(self);
    if (UNLIKELY(entry == NULL)) {
        raise_error("HotlapError", "measure(%R): exited more often than entered", self->site->name);
        return -1;
    }
    if (entry->measured)
        block_book(entry, end, exception == Py_None ? NULL : exception);
    entry_free(self, entry);
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

/* One more value of one metric. Called with the site locked. */
static int
site_add_metric(Site *site, PyObject *name, double number)
{
    if (site->metrics == NULL && (site->metrics = PyDict_New()) == NULL)
        return -1;
    PyObject *metrics = Py_NewRef(site->metrics); /* the recorder may take it while the name is looked up */
    double total = number, least = number, most = number;
    long long count = 1;
    PyObject *old = PyDict_GetItemWithError(metrics, name);
    if (old != NULL && PyList_CheckExact(old) && PyList_GET_SIZE(old) == 4) {
        count += PyLong_AsLongLong(PyList_GET_ITEM(old, 0));
        total += PyFloat_AsDouble(PyList_GET_ITEM(old, 1));
        least = fmin(least, PyFloat_AsDouble(PyList_GET_ITEM(old, 2)));
        most = fmax(most, PyFloat_AsDouble(PyList_GET_ITEM(old, 3)));
    }
    PyObject *made = PyErr_Occurred() ? NULL : Py_BuildValue("[Lddd]", count, total, least, most);
    int failed = made == NULL || PyDict_SetItem(metrics, name, made) < 0;
    Py_XDECREF(made);
    Py_DECREF(metrics);
    return failed ? -1 : 0;
}

/* record(rows=17): one more value of each named metric of the site; none if one of them is no number. What is not
   finite is left out, and told as a fault. */
static PyObject *
Measurement_record(PyObject *object, PyObject *args, PyObject *kwargs)
{
    Site *site = ((Measurement *)object)->site;
    if (PyTuple_GET_SIZE(args) != 0)
        return raise_error("OptionTypeError", "record(%R): takes keyword arguments alone, as in record(rows=17)",
                           PyTuple_GET_ITEM(args, 0));
    double few[8];
    Py_ssize_t count = kwargs != NULL ? PyDict_GET_SIZE(kwargs) : 0, i = 0, position = 0;
    double *numbers = count <= 8 ? few : PyMem_New(double, (size_t)count);
    if (numbers == NULL)
        return PyErr_NoMemory();
    PyObject *name, *value;
    int failed = 0;
    while (count > 0 && !failed && PyDict_Next(kwargs, &position, &name, &value)) {
        int refused = PyBool_Check(value) || PyUnicode_Check(value);
        double number = refused ? Py_NAN : PyFloat_AsDouble(value);
        if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_Clear();
            number = INFINITY;
        }
        if (refused || PyErr_Occurred()) {
            failed = 1;
            if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_Exception))
                break; /* an interrupt, not what the number's own __float__ raised */
            PyErr_Clear();
            raise_error("OptionTypeError", "record(%U=%R): must be a number", name, value);
        }
        numbers[i++] = number;
    }
    i = position = 0;
    while (count > 0 && !failed && core.enabled && PyDict_Next(kwargs, &position, &name, &value)) {
        double number = numbers[i++];
        if (!isfinite(number)) { /* what data brings along must not end the block */
            PyObject *shown = PyFloat_FromDouble(number);
            if (shown != NULL)
                raise_error("OptionTypeError", "record(%U=%R): must be a finite number", name, shown);
            Py_XDECREF(shown);
            report_fault("record", (PyObject *)site);
            continue;
        }
        LOCK((PyObject *)site);
        failed = site_add_metric(site, name, number);
        UNLOCK();
    }
    if (numbers != few)
        PyMem_Free(numbers);
    if (failed)
        return NULL;
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
    PyObject *options = self->options ? PyDict_Copy(self->options) : PyDict_New();
    if (options == NULL || (self->size_given && PyDict_SetItemString(options, "size", self->size_given) < 0)) {
        Py_XDECREF(options);
        return NULL;
    }
    PyObject *hook = Py_NewRef(core.hooks.decorate);
    PyObject *probe = PyObject_CallFunctionObjArgs(hook, self->site->name, options, PyTuple_GET_ITEM(args, 0), NULL);
    Py_DECREF(hook);
    Py_DECREF(options);
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
