/* hotlap's native core: the module itself. Each noun has its header in native/; they build on one another in the
   order base, clock, histogram, ring, site, sample, call, flow, async_generator, probe, block; allocations stands by
   itself. _python.py is the twin of all of it. */
#include "native/allocations.h"
#include "native/async_generator.h"
#include "native/block.h"
#include "native/probe.h"


/* ---- hooks ---- */

static PyObject *
set_hook(PyObject **hook, PyObject *value, const char *what, int (*check)(PyObject *))
{
    if (value != Py_None && !check(value))
        return raise_error("OptionTypeError", "%s %R: is not of the right kind", what, value);
    PyObject *old = *hook;
    *hook = value == Py_None ? NULL : Py_NewRef(value);
    RETIRE(old);
    Py_RETURN_NONE;
}

static int
is_dict(PyObject *value)
{
    return PyDict_Check(value);
}

static int
is_ring(PyObject *value)
{
    return Py_IS_TYPE(value, Ring_Type);
}

static PyObject *
native_set_sites(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *sites, *missing;
    if (!PyArg_ParseTuple(args, "OO:set_sites", &sites, &missing))
        return NULL;
    PyObject *done = set_hook(&core.hooks.sites, sites, "sites", is_dict);
    if (done == NULL)
        return NULL;
    Py_DECREF(done);
    return set_hook(&core.hooks.missing, missing, "missing", PyCallable_Check);
}

static PyObject *
native_set_decorate(PyObject *Py_UNUSED(module), PyObject *value)
{
    return set_hook(&core.hooks.decorate, value, "decorate", PyCallable_Check);
}

static PyObject *
native_set_trace(PyObject *Py_UNUSED(module), PyObject *value)
{
    return set_hook(&core.hooks.trace, value, "trace", PyCallable_Check);
}

static PyObject *
native_set_fault(PyObject *Py_UNUSED(module), PyObject *value)
{
    return set_hook(&core.hooks.fault, value, "fault", PyCallable_Check);
}

static PyObject *
native_set_ring(PyObject *Py_UNUSED(module), PyObject *value)
{
    PyObject *done = set_hook((PyObject **)&core.hooks.ring, value, "ring", is_ring);
    if (done != NULL && value != Py_None)
        for (Site *site = GET(all_sites); site != NULL; site = site->next)
            site_wake(site);
    return done;
}

/* ---- switches and clock ---- */

static PyObject *
native_enable(PyObject *Py_UNUSED(module), PyObject *on)
{
    int truth = PyObject_IsTrue(on);
    if (truth < 0)
        return NULL;
    core.enabled = truth;
    Py_RETURN_NONE;
}

static PyObject *
native_enabled(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(core.enabled);
}

static PyObject *
native_seed(PyObject *Py_UNUSED(module), PyObject *seed)
{
    uint64_t value = PyLong_AsUnsignedLongLongMask(seed);
    if (value == (uint64_t)-1 && PyErr_Occurred())
        return NULL;
    random_state = value;
    Py_RETURN_NONE;
}

static PyObject *
native_set_clock(PyObject *Py_UNUSED(module), PyObject *value)
{
    static uint64_t real_multiplier;
    clock_start();
    PyObject *done = set_hook(&clock_state.fake, value, "clock", PyCallable_Check);
    if (done == NULL)
        return NULL;
    if (value != Py_None) {
        if (clock_state.kind != CLOCK_FAKE)
            real_multiplier = clock_state.multiplier;
        clock_state.kind = CLOCK_FAKE;
        clock_state.multiplier = 1ull << 32;
        clock_state.fake_ns = 0;
    }
    else if (clock_state.kind == CLOCK_FAKE) {
        clock_state.kind = clock_state.real_kind;
        clock_state.multiplier = real_multiplier;
    }
    return done;
}

static PyObject *
native_now_ns(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    clock_start();
    return PyLong_FromUnsignedLongLong(ticks_to_mono(now_ticks()));
}

static PyObject *
native_calibrate(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    clock_start();
    return PyLong_FromLongLong(clock_calibrate());
}

static PyObject *
native_clock(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    clock_start();
    return clock_describe();
}

/* ---- reading ---- */

static int
get_block(PyObject *object, Py_buffer *view, Py_ssize_t bytes, const char *what)
{
    if (PyObject_GetBuffer(object, view, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS) < 0)
        return -1;
    if (view->len < bytes) {
        raise_error("OptionError", "%s has %zd bytes: needs %zd", what, view->len, bytes);
        PyBuffer_Release(view);
        return -1;
    }
    return 0;
}

/* Holds the GIL throughout, so a site's counters fit together. */
static PyObject *
native_collect(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *sites, *counters_object, *histograms_object;
    if (!PyArg_ParseTuple(args, "OOO:collect", &sites, &counters_object, &histograms_object))
        return NULL;
    PyObject *fast = PySequence_Tuple(sites); /* our own: getting the buffers may run Python */
    if (fast == NULL)
        return NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(fast);
    Py_buffer counters, histograms;
    if (get_block(counters_object, &counters, count * COUNTERS * 8, "counters") < 0) {
        Py_DECREF(fast);
        return NULL;
    }
    if (get_block(histograms_object, &histograms, count * BUCKETS * 8, "histograms") < 0) {
        PyBuffer_Release(&counters);
        Py_DECREF(fast);
        return NULL;
    }
    uint32_t low = BUCKETS, high = 0;
    PyObject *result = NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PyTuple_GET_ITEM(fast, i);
        if (!Py_IS_TYPE(item, Site_Type)) {
            raise_error("OptionTypeError", "collect() got %R: must be a Site of the native core", item);
            goto done;
        }
        Site *site = (Site *)item;
        uint64_t values[COUNTERS];
        site_read(site, values);
        memcpy((char *)counters.buf + i * COUNTERS * 8, values, sizeof values);
        uint32_t first, last;
        site_touched(site, 0, &first, &last);
        if (last > 0) {
            low = first < low ? first : low;
            high = last > high ? last : high;
        }
    }
    if (high == 0)
        low = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        Site *site = (Site *)PyTuple_GET_ITEM(fast, i);
        char *row = (char *)histograms.buf + i * BUCKETS * 8; /* need not be aligned */
        for (uint32_t bucket = low; bucket < high; bucket++) {
            uint64_t calls = site->histogram != NULL ? site_bucket(site, bucket) : 0;
            memcpy(row + bucket * 8, &calls, sizeof calls);
        }
    }
    result = Py_BuildValue("(II)", low, high);
done:
    PyBuffer_Release(&histograms);
    PyBuffer_Release(&counters);
    Py_DECREF(fast);
    return result;
}

/* advance(sites, counters, last) -> bytearray of (row, bucket, count), three u32 each.

   What was counted since the last reading, bucket by bucket: of a site's hundreds of buckets a few dozen have
   counts, and of a thousand sites' matrix of them almost all would be zeros. `last` (u32, [n, BUCKETS]) holds what
   was read last, modulo 2^32, and is brought up to date; `counters` (u64, [n, len(COUNTERS)]) is written, and the
   peaks of calls in flight begin anew. What a clear() hides is told all the same, in both. Holds the GIL throughout, so all of it fits together. */
static PyObject *
native_advance(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *sites, *counters_object, *last_object;
    if (!PyArg_ParseTuple(args, "OOO:advance", &sites, &counters_object, &last_object))
        return NULL;
    PyObject *fast = PySequence_Tuple(sites); /* of our own: a list may shrink while its buffers are asked for */
    if (fast == NULL)
        return NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(fast);
    Py_buffer counters, last;
    PyObject *result = NULL;
    if (get_block(counters_object, &counters, count * COUNTERS * 8, "counters") < 0)
        goto no_counters;
    if (get_block(last_object, &last, count * BUCKETS * 4, "last") < 0)
        goto no_last;
    size_t changed = 0;
    if ((uintptr_t)last.buf % sizeof(uint32_t) != 0) {
        raise_error("OptionError", "last lies at address %p: must be aligned as u32 are", last.buf);
        goto done;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PyTuple_GET_ITEM(fast, i);
        if (!Py_IS_TYPE(item, Site_Type)) {
            raise_error("OptionTypeError", "advance() got %R: must be a Site of the native core", item);
            goto done;
        }
        const Site *site = (Site *)item;
        const uint32_t *before = (uint32_t *)last.buf + i * BUCKETS;
        uint32_t low, high;
        site_touched(site, 1, &low, &high);
        for (uint32_t bucket = low; bucket < high; bucket++)
            changed += (uint32_t)site->histogram[bucket] != before[bucket];
    }
    result = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(changed * 12));
    if (result == NULL)
        goto done;
    uint32_t *out = (uint32_t *)PyByteArray_AS_STRING(result);
    uint32_t *end = out + 3 * changed;
    for (Py_ssize_t i = 0; i < count; i++) {
        Site *site = (Site *)PyTuple_GET_ITEM(fast, i);
        uint32_t *before = (uint32_t *)last.buf + i * BUCKETS;
        uint32_t low, high;
        uint64_t values[COUNTERS];
        site_read_lifetime(site, values);
        memcpy((char *)counters.buf + i * COUNTERS * 8, values, sizeof values);
        site_take_peak(site);
        site_touched(site, 1, &low, &high);
        for (uint32_t bucket = low; bucket < high && out < end; bucket++) {
            uint32_t now = (uint32_t)GET(site->histogram[bucket]);
            if (now != before[bucket]) {
                *out++ = (uint32_t)i;
                *out++ = bucket;
                *out++ = now - before[bucket];
                before[bucket] = now;
            }
        }
    }
    memset(out, 0, (size_t)(end - out) * 4); /* only where another thread has advanced `last` in between */
done:
    PyBuffer_Release(&last);
no_last:
    PyBuffer_Release(&counters);
no_counters:
    Py_DECREF(fast);
    return result;
}

static PyObject *
native_bucket_index(PyObject *Py_UNUSED(module), PyObject *ns)
{
    uint64_t value = PyLong_AsUnsignedLongLong(ns);
    if (value == (uint64_t)-1 && PyErr_Occurred())
        return NULL;
    return PyLong_FromUnsignedLong(bucket_of(value));
}

static PyObject *
native_sampling_cost(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("(KK)", (unsigned long long)GET(core.samples), (unsigned long long)GET(core.samples_ns));
}

/* ---- the collector, and fork ---- */

static PyObject *
native_on_gc(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *phase, *info;
    if (!PyArg_ParseTuple(args, "UO:on_gc", &phase, &info))
        return NULL;
    uint64_t now = now_ticks();
    if (PyUnicode_CompareWithASCIIString(phase, "start") == 0) {
        core.gc_start = now;
    }
    else if (core.gc_start != 0) {
        ADD(core.gc_ns, elapsed_ns(core.gc_start, now));
        core.gc_start = 0;
    }
    Py_RETURN_NONE;
}

/* In the child, before anything else runs. Calls that are under way belong to the parent: see `generation`. */
static PyObject *
native_after_fork(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    core.generation++;
    core.gc_start = 0;
    core.samples = core.samples_ns = core.gc_ns = 0;
#if defined(__linux__)
    thread.id = (uint32_t)syscall(SYS_gettid);
#endif
    if (core.hooks.ring != NULL)
        ring_reset(core.hooks.ring);
    for (Site *site = all_sites; site != NULL; site = site->next) {
        site_zero(site);
    }
    Py_RETURN_NONE;
}

/* ---- the module ---- */

static PyObject *
native_pass_through(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *wrapped, *instance, *call_args, *call_kwargs;
    if (!PyArg_ParseTuple(args, "OOOO", &wrapped, &instance, &call_args, &call_kwargs))
        return NULL;
    return PyObject_Call(wrapped, call_args, call_kwargs);
}

/* The other end of pickling a probe over a callable instance: (wrapped, site name, follow) -> Probe. */
static PyObject *
native_rebuild(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *wrapped, *name;
    int follow;
    if (!PyArg_ParseTuple(args, "OUi:_rebuild", &wrapped, &name, &follow))
        return NULL;
    if (PyObject_TypeCheck(wrapped, Probe_Type)) /* a measured method, found by its name */
        return Py_NewRef(wrapped);
    Site *site = measurement_site(name, NULL);
    return site ? PyObject_CallFunction((PyObject *)Probe_Type, "OOi", wrapped, site, follow) : NULL;
}

/* Pickled by reference to hotlap.core: the process that reads it may have the other core. */
static PyMethodDef rebuild_definition = {"_rebuild", native_rebuild, METH_VARARGS, NULL};

static PyMethodDef pass_through_definition = {"pass_through", native_pass_through, METH_VARARGS, NULL};

static PyMethodDef native_methods[] = {
    {"set_sites", native_set_sites, METH_VARARGS, NULL},
    {"set_decorate", native_set_decorate, METH_O, NULL},
    {"set_trace", native_set_trace, METH_O, NULL},
    {"set_fault", native_set_fault, METH_O, NULL},
    {"set_ring", native_set_ring, METH_O, NULL},
    {"set_clock", native_set_clock, METH_O, NULL},
    {"enable", native_enable, METH_O, NULL},
    {"enabled", native_enabled, METH_NOARGS, NULL},
    {"seed", native_seed, METH_O, NULL},
    {"now_ns", native_now_ns, METH_NOARGS, NULL},
    {"calibrate", native_calibrate, METH_NOARGS, NULL},
    {"clock", native_clock, METH_NOARGS, NULL},
    {"collect", native_collect, METH_VARARGS, NULL},
    {"advance", native_advance, METH_VARARGS, NULL},
    {"bucket_index", native_bucket_index, METH_O, NULL},
    {"sampling_cost", native_sampling_cost, METH_NOARGS, NULL},
    {"on_gc", native_on_gc, METH_VARARGS, NULL},
    {"allocations_begin", native_allocations_begin, METH_NOARGS, NULL},
    {"allocations_end", native_allocations_end, METH_NOARGS, NULL},
    {"after_fork", native_after_fork, METH_NOARGS, NULL},
    {NULL},
};

#define FIELD(name, format) {#name, format, offsetof(Record, name)}
static const struct {
    const char *name, *format;
    size_t offset;
} record_fields[] = {
    FIELD(start_ns, "u8"),     FIELD(wall_ns, "u8"),      FIELD(own_ns, "i8"),       FIELD(cpu_ns, "i8"),
    FIELD(gc_ns, "u8"),        FIELD(trace_hi, "u8"),     FIELD(trace_lo, "u8"),     FIELD(span, "u8"),
    FIELD(size, "f8"),         FIELD(run_ns, "u8"),       FIELD(longest_ns, "u8"),   FIELD(thread, "u4"),
    FIELD(site, "u4"),         FIELD(parent, "u4"),       FIELD(in_flight, "u4"),    FIELD(voluntary, "u4"),
    FIELD(involuntary, "u4"),  FIELD(minor_faults, "u4"), FIELD(suspensions, "u4"),  FIELD(weight, "f4"),
    FIELD(major_faults, "u2"), FIELD(flags, "u2"),
};

static int
add_layout(PyObject *module)
{
    Py_ssize_t fields = (Py_ssize_t)(sizeof record_fields / sizeof record_fields[0]);
    PyObject *layout = PyTuple_New(fields), *counters = PyTuple_New(COUNTERS);
    if (layout == NULL || counters == NULL)
        return -1;
    for (Py_ssize_t i = 0; i < fields; i++)
        PyTuple_SET_ITEM(layout, i, Py_BuildValue("(ssn)", record_fields[i].name, record_fields[i].format,
                                                  (Py_ssize_t)record_fields[i].offset));
    for (Py_ssize_t i = 0; i < COUNTERS; i++)
        PyTuple_SET_ITEM(counters, i, PyUnicode_InternFromString(counter_names[i]));
    if (PyErr_Occurred())
        return -1;
    int failed = PyModule_AddObjectRef(module, "RECORD_LAYOUT", layout) < 0 ||
                 PyModule_AddObjectRef(module, "COUNTERS", counters) < 0;
    Py_DECREF(layout);
    Py_DECREF(counters);
    return failed ? -1 : 0;
}

static int
add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **type, const char *name)
{
    if (*type == NULL && (*type = (PyTypeObject *)PyType_FromSpec(spec)) == NULL)
        return -1;
    return name ? PyModule_AddObjectRef(module, name, (PyObject *)*type) : 0;
}

/* The state is the process's: one ring, one clock, one set of sites. So other interpreters are refused, and a
   second import (after the module was taken out of sys.modules) gives the same types again. */
static int
native_exec(PyObject *module)
{
    _Static_assert(sizeof(Record) == 128, "a record is two cache lines");
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError, "the native core works in the main interpreter only");
        return -1;
    }
    clock_load();
    histogram_load();
    if (pass_through == NULL && (pass_through = PyCFunction_New(&pass_through_definition, NULL)) == NULL)
        return -1;
    if ((FunctionProbe_Type == NULL && probe_load() < 0) || add_type(module, &Site_spec, &Site_Type, "Site") < 0 ||
        add_type(module, &Ring_spec, &Ring_Type, "Ring") < 0 ||
        add_type(module, &Coroutine_spec, &Coroutine_Type, NULL) < 0 ||
        add_type(module, &Generator_spec, &Generator_Type, NULL) < 0 ||
        add_type(module, &AsyncGenerator_spec, &AsyncGenerator_Type, NULL) < 0 ||
        add_type(module, &AsyncStep_spec, &AsyncStep_Type, NULL) < 0 ||
        add_type(module, &Ready_spec, &Ready_Type, NULL) < 0 ||
        add_type(module, &Measurement_spec, &Measurement_Type, "Measurement") < 0 || flow_load() < 0)
        return -1;
    Measurement_Type->tp_vectorcall = measurement_make;
    PyObject *home = PyUnicode_FromString("hotlap.core");
    PyObject *rebuild = home ? PyCFunction_NewEx(&rebuild_definition, NULL, home) : NULL;
    int failed = rebuild == NULL || PyModule_AddObjectRef(module, "_rebuild", rebuild) < 0 ||
                 PyModule_AddObjectRef(module, "measure", (PyObject *)Measurement_Type) < 0;
    Py_XDECREF(rebuild);
    Py_XDECREF(home);
    if (failed)
        return -1;
    if (PyModule_AddObjectRef(module, "Probe", (PyObject *)Probe_Type) < 0 ||
        PyModule_AddObjectRef(module, "FunctionProbe", (PyObject *)FunctionProbe_Type) < 0 || add_layout(module) < 0)
        return -1;
    const struct {
        const char *name;
        long value;
    } constants[] = {
        {"LAYOUT_VERSION", LAYOUT_VERSION},
        {"RECORD_BYTES", sizeof(Record)},
        {"BUCKETS", BUCKETS},
        {"BUCKET_FIRST", BUCKET_FIRST},
        {"SCALE", SCALE},
        {"COUNT", MODE_COUNT},
        {"TIME", MODE_TIME},
        {"FOLLOW_COROUTINE", FOLLOW_COROUTINE},
        {"FOLLOW_GENERATOR", FOLLOW_GENERATOR},
        {"FOLLOW_ASYNC_GENERATOR", FOLLOW_ASYNC_GENERATOR},
        {"FLAG_ERROR", FLAG_ERROR},
        {"FLAG_ASYNC", FLAG_ASYNC},
        {"FLAG_TAIL", FLAG_TAIL},
        {"FLAG_FIRST", FLAG_FIRST},
        {"FLAG_EVIDENCE", FLAG_EVIDENCE},
        {"FLAG_CANCELLED", FLAG_CANCELLED},
        {"FLAG_BLOCK", FLAG_BLOCK},
        {"FLAG_GENERATOR", FLAG_GENERATOR},
    };
    for (size_t i = 0; i < sizeof constants / sizeof constants[0]; i++)
        if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) < 0)
            return -1;
    return PyModule_AddStringConstant(module, "NAME", "native");
}

static PyModuleDef_Slot native_slots[] = {
    {Py_mod_exec, native_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef native_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "hotlap.core._native",
    .m_doc = "The hot path of hotlap in C; hotlap.core._python is its twin.",
    .m_size = 0,
    .m_methods = native_methods,
    .m_slots = native_slots,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&native_module);
}
