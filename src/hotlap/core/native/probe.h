/* Probe: the wrapper that stands in for a decorated callable. A wrapt.FunctionWrapper in all but the call.

   Its fields follow the base's (tp_basicsize), so wrapt's layout is never read. `wrapped` is a second reference to
   what the base calls __wrapped__, refreshed when that is assigned to. FunctionProbe is the one for plain functions:
   it carries Py_TPFLAGS_METHOD_DESCRIPTOR, so that obj.m(x) reaches it without a bound object being made, and binds
   like a function does: obj.m is a types.MethodType over the probe. */
#ifndef HOTLAP_PROBE_H
#define HOTLAP_PROBE_H

#include "flow.h"

typedef struct {
    vectorcallfunc vectorcall;
    PyObject *wrapped;
    Site *site;
    int follow;
    int makes_flow; /* calling wrapped only makes a coroutine or generator, which is followed: not worth timing */
} ProbeFields;

static PyTypeObject *Probe_Type, *FunctionProbe_Type;
static PyTypeObject *wrapt_base;     /* wrapt.FunctionWrapper */
static Py_ssize_t probe_offset;      /* where ProbeFields begin */
static PyObject *pass_through;       /* the wrapper function that wrapt asks for */

#define PROBE(object) ((ProbeFields *)((char *)(object) + probe_offset))

/* A plain function's vectorcall slot is called without a detour. */
static inline PyObject *
call_wrapped(const ProbeFields *probe, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    PyObject *wrapped = Py_NewRef(probe->wrapped); /* __wrapped__ may be replaced while it runs */
    PyObject *result = LIKELY(PyFunction_Check(wrapped))
                           ? ((PyFunctionObject *)wrapped)->vectorcall(wrapped, args, nargsf, kwnames)
                           : PyObject_Vectorcall(wrapped, args, nargsf, kwnames);
    Py_DECREF(wrapped);
    return result;
}

/* Async and generator functions: the call only makes the object; sampling is decided here, where the arguments are.
   What comes back is looked at all the same: the function's __code__ may be another one by now. */
static PyObject *
call_flow(const ProbeFields *probe, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Site *site = probe->site;
    Sample *sample = NULL;
    if (UNLIKELY(site->mode != MODE_COUNT && ADD(site->gap, -1) < 0))
        sample = sample_begin(site, args, nargsf, kwnames, Py_NAN);
    PyObject *result = call_wrapped(probe, args, nargsf, kwnames);
    if (UNLIKELY(result == NULL)) { /* wrong arguments: the call failed before it began */
        PyMem_RawFree(sample);
        count_outcome(site, FLAG_ERROR);
        return NULL;
    }
    if (LIKELY(flow_kind(result) & probe->follow))
        return flow_follow(result, site, sample);
    PyMem_RawFree(sample);
    count_outcome(site, 0);
    return result;
}

static PyObject *
probe_call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    const ProbeFields *probe = PROBE(self);
    if (STACK_IS_SHORT() && thread_check(__builtin_frame_address(0)) < 0)
        return NULL;
    if (UNLIKELY(!core.enabled))
        return call_wrapped(probe, args, nargsf, kwnames);
    if (UNLIKELY(probe->makes_flow))
        return call_flow(probe, args, nargsf, kwnames);
    Call call;
    call_begin(&call, probe->site, args, nargsf, kwnames);
    PyObject *result = call_wrapped(probe, args, nargsf, kwnames);
    if (LIKELY(result != NULL) && UNLIKELY(flow_kind(result) & probe->follow))
        return flow_follow(result, call.site, call_hand_over(&call));
    call_end(&call, result == NULL);
    return result;
}

static void
probe_refresh(PyObject *self, PyObject *wrapped)
{
    ProbeFields *probe = PROBE(self);
    PyObject *old = probe->wrapped;
    probe->wrapped = Py_NewRef(wrapped);
    probe->makes_flow = 0;
    if (PyFunction_Check(wrapped)) {
        int flags = ((PyCodeObject *)PyFunction_GET_CODE(wrapped))->co_flags;
        int made = (flags & CO_COROUTINE)         ? FOLLOW_COROUTINE
                   : (flags & CO_GENERATOR)       ? FOLLOW_GENERATOR
                   : (flags & CO_ASYNC_GENERATOR) ? FOLLOW_ASYNC_GENERATOR
                                                  : 0;
        probe->makes_flow = (flags & CO_ITERABLE_COROUTINE) == 0 && (made & probe->follow) != 0;
    }
    RETIRE(old);
}

static int
probe_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"wrapped", "site", "flow", NULL};
    PyObject *wrapped, *site;
    int follow = FOLLOW_COROUTINE;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|i:Probe", names, &wrapped, &site, &follow))
        return -1;
    if (!PyCallable_Check(wrapped)) {
        raise_error("OptionTypeError", "cannot measure %R: it is not callable", wrapped);
        return -1;
    }
    if (!Py_IS_TYPE(site, Site_Type)) {
        raise_error("OptionTypeError", "site %R: must be a Site of the native core", site);
        return -1;
    }
    if (PyType_IsSubtype(Py_TYPE(self), FunctionProbe_Type) && !PyFunction_Check(wrapped)) {
        raise_error("OptionTypeError", "FunctionProbe over %R: it is not a plain function, use Probe", wrapped);
        return -1;
    }
    PyObject *base_args = PyTuple_Pack(2, wrapped, pass_through);
    if (base_args == NULL)
        return -1;
    int failed = wrapt_base->tp_init(self, base_args, NULL);
    Py_DECREF(base_args);
    if (failed)
        return -1;
    ProbeFields *probe = PROBE(self);
    probe->vectorcall = probe_call;
    probe->site = (Site *)site;
    probe->follow = follow;
    probe_refresh(self, wrapped);
    return 0;
}

static int
probe_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(PROBE(self)->wrapped);
    return wrapt_base->tp_traverse(self, visit, arg); /* visits the type as well */
}

static int
probe_clear(PyObject *self)
{
    ProbeFields *probe = PROBE(self);
    probe->vectorcall = NULL; /* tp_call finds the object unusable instead of calling nothing */
    Py_CLEAR(probe->wrapped);
    return wrapt_base->tp_clear(self);
}

static void
probe_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, probe_dealloc) /* probes over probes over probes */
    Py_CLEAR(PROBE(self)->wrapped);
    wrapt_base->tp_dealloc(self); /* clears weak references, frees, and lets the type go */
    Py_TRASHCAN_END
}

static SLOW PyObject *
probe_unusable(void)
{
    return raise_error("HotlapError", "this probe was not initialised, or is being destroyed");
}

static PyObject *
probe_tp_call(PyObject *self, PyObject *args, PyObject *kwargs)
{
    if (PROBE(self)->vectorcall == NULL)
        return probe_unusable();
    return PyVectorcall_Call(self, args, kwargs);
}

static int
probe_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    if (wrapt_base->tp_setattro(self, name, value) < 0)
        return -1;
    if (value != NULL && PyUnicode_CompareWithASCIIString(name, "__wrapped__") == 0)
        probe_refresh(self, value);
    return 0;
}

static PyObject *
probe_get(PyObject *self, PyObject *object, PyObject *type)
{
    ProbeFields *probe = PROBE(self);
    descrgetfunc get = probe->wrapped ? Py_TYPE(probe->wrapped)->tp_descr_get : NULL;
    if (get == NULL || PyType_Check(probe->wrapped))
        return Py_NewRef(self);
    PyObject *bound = get(probe->wrapped, object, type);
    if (bound == NULL || bound == probe->wrapped) {
        Py_XDECREF(bound);
        return bound ? Py_NewRef(self) : NULL;
    }
    PyObject *result = PyObject_CallFunction((PyObject *)Probe_Type, "OOi", bound, probe->site, probe->follow);
    Py_DECREF(bound);
    return result;
}

static PyObject *
function_probe_get(PyObject *self, PyObject *object, PyObject *Py_UNUSED(type))
{
    if (object == NULL || object == Py_None)
        return Py_NewRef(self);
    return PyMethod_New(self, object);
}

/* A probe is pickled by the name of what it stands for, like a function: the other side finds its own probe there.
   A callable instance has no name, and a bound method's is not where it is: they go by value, with the site's name. */
static PyObject *
probe_reduce(PyObject *self, PyObject *Py_UNUSED(protocol))
{
    ProbeFields *probe = PROBE(self);
    if (probe->wrapped == NULL)
        return probe_unusable();
    PyObject *self_of = PyCFunction_Check(probe->wrapped) ? PyCFunction_GET_SELF(probe->wrapped) : NULL;
    if (!PyMethod_Check(probe->wrapped) && (self_of == NULL || PyModule_Check(self_of))) {
        PyObject *name = PyObject_GetAttrString(probe->wrapped, "__qualname__");
        if (name != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError))
            return name;
        PyErr_Clear();
    }
    PyObject *package = PyImport_ImportModule("hotlap.core");
    PyObject *rebuild = package ? PyObject_GetAttrString(package, "_rebuild") : NULL;
    PyObject *result = rebuild ? Py_BuildValue("O(OOi)", rebuild, probe->wrapped, probe->site->name, probe->follow)
                               : NULL;
    Py_XDECREF(rebuild);
    Py_XDECREF(package);
    return result;
}

static PyObject *
probe_reduce_plain(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return probe_reduce(self, NULL);
}

/* copy.copy() and deepcopy() give functions and classes back as they are; a bound method or a callable instance is
   copied under a new probe. */
static PyObject *
probe_copy_with(PyObject *self, const char *how, PyObject *memo)
{
    ProbeFields *probe = PROBE(self);
    PyObject *wrapped = probe->wrapped;
    if (wrapped == NULL)
        return probe_unusable();
    if (PyFunction_Check(wrapped) || PyCFunction_Check(wrapped) || PyType_Check(wrapped))
        return Py_NewRef(self);
    PyObject *copy = PyImport_ImportModule("copy");
    PyObject *made = copy == NULL ? NULL
                     : memo       ? PyObject_CallMethod(copy, how, "OO", wrapped, memo)
                                  : PyObject_CallMethod(copy, how, "(O)", wrapped);
    PyObject *result = made ? PyObject_CallFunction((PyObject *)Py_TYPE(self), "OOi", made, probe->site,
                                                    probe->follow)
                            : NULL;
    Py_XDECREF(made);
    Py_XDECREF(copy);
    return result;
}

static PyObject *
probe_copy(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return probe_copy_with(self, "copy", NULL);
}

static PyObject *
probe_deepcopy(PyObject *self, PyObject *memo)
{
    return probe_copy_with(self, "deepcopy", memo);
}

static PyObject *
probe_get_site(PyObject *self, void *Py_UNUSED(closure))
{
    Site *site = PROBE(self)->site;
    if (site == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_self_site");
        return NULL;
    }
    return Py_NewRef((PyObject *)site);
}

static PyObject *
probe_get_flow(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(PROBE(self)->follow);
}

static PyMethodDef Probe_methods[] = {
    {"__reduce_ex__", probe_reduce, METH_O, NULL},
    {"__reduce__", probe_reduce_plain, METH_NOARGS, NULL},
    {"__copy__", probe_copy, METH_NOARGS, NULL},
    {"__deepcopy__", probe_deepcopy, METH_O, NULL},
    {NULL},
};

static PyGetSetDef Probe_getset[] = {
    {"_self_site", probe_get_site, NULL, "the Site that calls count in", NULL},
    {"_self_flow", probe_get_flow, NULL, "which returned objects are followed to their end", NULL},
    {NULL},
};

/* Made at import: the base is another module's heap type, whose size is known only now. */
static PyTypeObject *
probe_make_type(const char *name, PyTypeObject *base, unsigned int flags, int first)
{
    static PyMemberDef members[2]; /* the type copies it */
    members[0] = (PyMemberDef){"__vectorcalloffset__", T_PYSSIZET,
                               probe_offset + (Py_ssize_t)offsetof(ProbeFields, vectorcall), READONLY, NULL};
    PyType_Slot first_slots[] = {
        {Py_tp_init, probe_init},       {Py_tp_dealloc, probe_dealloc},     {Py_tp_traverse, probe_traverse},
        {Py_tp_clear, probe_clear},     {Py_tp_call, probe_tp_call},        {Py_tp_setattro, probe_setattro},
        {Py_tp_descr_get, probe_get},   {Py_tp_methods, Probe_methods},     {Py_tp_getset, Probe_getset},
        {Py_tp_members, members},       {0, NULL},
    };
    PyType_Slot function_slots[] = {
        {Py_tp_init, probe_init},       {Py_tp_dealloc, probe_dealloc},     {Py_tp_traverse, probe_traverse},
        {Py_tp_clear, probe_clear},     {Py_tp_call, probe_tp_call},        {Py_tp_setattro, probe_setattro},
        {Py_tp_descr_get, function_probe_get}, {Py_tp_members, members},    {0, NULL},
    };
    PyType_Spec spec = {
        .name = name,
        .basicsize = (int)(probe_offset + (Py_ssize_t)sizeof(ProbeFields)),
        .flags = flags,
        .slots = first ? first_slots : function_slots,
    };
    PyObject *bases = PyTuple_Pack(1, base);
    PyObject *type = bases ? PyType_FromSpecWithBases(&spec, bases) : NULL;
    Py_XDECREF(bases);
    return (PyTypeObject *)type;
}

static int
probe_load(void)
{
    PyObject *wrapt = PyImport_ImportModule("wrapt");
    wrapt_base = wrapt ? (PyTypeObject *)PyObject_GetAttrString(wrapt, "FunctionWrapper") : NULL;
    Py_XDECREF(wrapt);
    if (wrapt_base == NULL)
        return -1;
    if (wrapt_base->tp_itemsize != 0 || wrapt_base->tp_init == NULL || wrapt_base->tp_traverse == NULL ||
        wrapt_base->tp_clear == NULL || wrapt_base->tp_dictoffset < 0) {
        PyErr_SetString(PyExc_ImportError, "wrapt.FunctionWrapper is not the C type that the native core builds on");
        return -1;
    }
    Py_ssize_t align = (Py_ssize_t)_Alignof(ProbeFields);
    probe_offset = (wrapt_base->tp_basicsize + align - 1) / align * align;
    unsigned int flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL;
    Probe_Type = probe_make_type("hotlap.core._native.Probe", wrapt_base, flags, 1);
    if (Probe_Type == NULL)
        return -1;
    FunctionProbe_Type = probe_make_type("hotlap.core._native.FunctionProbe", Probe_Type,
                                         flags | Py_TPFLAGS_METHOD_DESCRIPTOR, 0);
    return FunctionProbe_Type ? 0 : -1;
}

#endif
