/* A site: the exact counters of one instrumented function or block, and when its next call is sampled. */
#ifndef HOTLAP_SITE_H
#define HOTLAP_SITE_H

#include "clock.h"
#include "histogram.h"
#include "ring.h"

enum { MODE_COUNT = 1, MODE_TIME = 2 };

#define COUNTERS 13

enum { CALLS, MIN_NS = 5, MAX_NS, IN_FLIGHT, IN_FLIGHT_PEAK, LONGEST_NS = 11, STARTED };

/* What clear() takes off the counters and the histogram, which themselves go on: who tells from two readings what came
   in between sees no clearing. */
typedef struct {
    uint64_t counters[COUNTERS]; /* zero where one is no sum */
    uint64_t min_ns, max_ns;     /* of all calls so far: where the histogram's counts lie */
    uint64_t histogram[BUCKETS];
} Cleared;

struct Site {
    PyObject_HEAD
    /* written by every call */
    int64_t gap; /* calls until the next sampled one */
    uint64_t calls, timed, total_ns, min_ns, max_ns;
    uint64_t tail_ns;
    uint64_t *histogram; /* BUCKETS counts; made by the first timed call: many sites are never called */
    uint32_t in_flight, in_flight_peak;
    uint32_t mode;
    uint32_t id;
    /* written by fewer */
    uint64_t errors, cancelled, run_ns, suspensions, longest_ns;
    double probability;
    float weight;   /* 1/probability at the time when the gap was drawn */
    uint32_t first; /* coming calls that are sampled whatever the probability */
    uint32_t forced; /* the drawn gap is that of such a call */
    uint32_t parked; /* the gap ran out while there was no ring */
    uint64_t quota, taken;
    PyObject *name, *info, *size_of, *metrics;
    Cleared *cleared; /* NULL until site_clear() */
    Ring *ring; /* of its own, or NULL: its records go to the recorder's */
    PyObject *weakrefs;
    Site *next; /* in all_sites */
};

static PyTypeObject *Site_Type;
static Site *all_sites; /* newest first */

static const char *const counter_names[COUNTERS] = {
    "calls",     "timed",          "errors", "cancelled",   "total_ns",   "min_ns",  "max_ns",
    "in_flight", "in_flight_peak", "run_ns", "suspensions", "longest_ns", "started",
};

static uint64_t random_state = 0x9E3779B97F4A7C15ull;

/* splitmix64 (Steele, Lea, Flood 2014): enough for gaps, and it has no bad seeds. Uniform in (0, 1]. */
static double
random_unit(void)
{
    uint64_t z = ADD(random_state, 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    z ^= z >> 31;
    return ((double)(z >> 11) + 1.0) / 9007199254740992.0;
}

/* Geometric gaps give every call the same chance whatever the calls' rhythm, and forget their past: drawing anew
   when the probability changes keeps the weights 1/probability exact (Horvitz and Thompson 1952). */
static void
site_draw_gap(Site *site)
{
    double p = site->probability;
    site->forced = site->first > 0;
    if (site->forced) {
        site->first--;
        site->weight = 1;
        SET(site->gap, 0);
    }
    else if (p <= 0) {
        SET(site->gap, INT64_MAX);
    }
    else if (p >= 1) {
        site->weight = 1;
        SET(site->gap, 0);
    }
    else {
        double gap = floor(log(random_unit()) / log1p(-p));
        site->weight = (float)(1 / p);
        SET(site->gap, gap < 9e18 ? (int64_t)gap : INT64_MAX);
    }
}

/* A site that is called far more often than the last window let expect halves its own probability, so that a burst
   costs a number of samples that grows with the logarithm of its length. */
static void
site_take_sample(Site *site)
{
    uint64_t taken = ++site->taken;
    if (taken >= site->quota) {
        uint64_t half = site->quota / 2 > 1 ? site->quota / 2 : 1;
        if ((taken - site->quota) % half == 0)
            site->probability *= 0.5;
    }
    site_draw_gap(site);
}

static inline Ring *
site_ring(const Site *site)
{
    Ring *own = GET(site->ring);
    return own != NULL ? own : core.hooks.ring;
}

/* There is a ring again: a site whose turn came in the meantime samples its next call, or draws its gap anew. */
static void
site_wake(Site *site)
{
    if (!site->parked)
        return;
    site->parked = 0;
    if (site->forced)
        SET(site->gap, 0);
    else
        site_draw_gap(site);
}

static uint64_t no_memory_for_histogram[BUCKETS];

static SLOW uint64_t *
site_make_histogram(Site *site)
{
    uint64_t *made = PyMem_RawCalloc(BUCKETS, sizeof(uint64_t));
    if (made == NULL)
        return no_memory_for_histogram;
#ifdef Py_GIL_DISABLED
    uint64_t *expected = NULL;
    if (!__atomic_compare_exchange_n(&site->histogram, &expected, made, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        PyMem_RawFree(made);
        made = expected;
    }
#else
    site->histogram = made;
#endif
    return made;
}

static inline void
site_count_time(Site *site, uint64_t ns)
{
    uint64_t *histogram = GET(site->histogram);
    if (UNLIKELY(histogram == NULL))
        histogram = site_make_histogram(site);
    ADD(histogram[bucket_of(ns)], 1);
    ADD(site->timed, 1);
    ADD(site->total_ns, ns);
    LOWER_TO(site->min_ns, ns);
    RAISE_TO(site->max_ns, ns);
}

/* The counters as if nothing had ever been cleared. */
static void
site_read_lifetime(const Site *site, uint64_t values[COUNTERS])
{
    uint64_t calls = GET(site->calls), in_flight = GET(site->in_flight);
    uint64_t now[COUNTERS] = {
        calls,
        GET(site->timed),
        GET(site->errors),
        GET(site->cancelled),
        GET(site->total_ns),
        GET(site->min_ns),
        GET(site->max_ns),
        in_flight,
        GET(site->in_flight_peak),
        GET(site->run_ns),
        GET(site->suspensions),
        GET(site->longest_ns),
        calls + in_flight,
    };
    memcpy(values, now, sizeof now);
}

static void
site_read(const Site *site, uint64_t values[COUNTERS])
{
    site_read_lifetime(site, values);
    const Cleared *cleared = GET(site->cleared);
    for (int i = 0; cleared != NULL && i < COUNTERS; i++)
        values[i] -= cleared->counters[i];
}

/* Where the buckets of a site with counts may lie: of the calls since the last clear(), or of all. */
static void
site_touched(const Site *site, int lifetime, uint32_t *low, uint32_t *high)
{
    uint64_t min_ns = GET(site->min_ns), max_ns = GET(site->max_ns);
    const Cleared *cleared = GET(site->cleared);
    if (lifetime && cleared != NULL) {
        min_ns = cleared->min_ns < min_ns ? cleared->min_ns : min_ns;
        max_ns = cleared->max_ns > max_ns ? cleared->max_ns : max_ns;
    }
    int some = site->histogram != NULL && min_ns != UINT64_MAX;
    *low = some ? bucket_of(min_ns) : 0;
    *high = some ? bucket_of(max_ns) + 1 : 0;
}

static inline uint64_t
site_bucket(const Site *site, uint32_t bucket)
{
    const Cleared *cleared = GET(site->cleared);
    return GET(site->histogram[bucket]) - (cleared != NULL ? cleared->histogram[bucket] : 0);
}

/* What is no sum begins anew, and the metrics are gone. */
static void
site_begin_anew(Site *site)
{
    site->max_ns = site->longest_ns = 0;
    site->min_ns = UINT64_MAX;
    site->in_flight_peak = site->in_flight;
    PyObject *metrics;
    LOCK(site);
    metrics = site->metrics;
    site->metrics = NULL;
    UNLOCK();
    Py_XDECREF(metrics);
}

/* Zero for all who read the site itself; calls in flight go on and count when they end. -1 with MemoryError set. */
static int
site_clear(Site *site)
{
    Cleared *cleared = site->cleared;
    if (cleared == NULL) {
        cleared = PyMem_RawCalloc(1, sizeof(Cleared));
        if (cleared == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        cleared->min_ns = UINT64_MAX;
    }
    uint64_t now[COUNTERS];
    site_read_lifetime(site, now);
    cleared->min_ns = now[MIN_NS] < cleared->min_ns ? now[MIN_NS] : cleared->min_ns;
    cleared->max_ns = now[MAX_NS] > cleared->max_ns ? now[MAX_NS] : cleared->max_ns;
    now[MIN_NS] = now[MAX_NS] = now[IN_FLIGHT] = now[IN_FLIGHT_PEAK] = now[LONGEST_NS] = 0;
    now[STARTED] = now[CALLS];
    memcpy(cleared->counters, now, sizeof now);
    if (site->histogram != NULL)
        memcpy(cleared->histogram, site->histogram, sizeof cleared->histogram);
    SET(site->cleared, cleared);
    site_begin_anew(site);
    return 0;
}

/* In a forked child: nothing has been called. */
static void
site_zero(Site *site)
{
    site->calls = site->timed = site->errors = site->cancelled = 0;
    site->total_ns = site->run_ns = site->suspensions = 0;
    site->in_flight = 0;
    if (site->histogram != NULL)
        memset(site->histogram, 0, BUCKETS * sizeof(uint64_t));
    PyMem_RawFree(site->cleared);
    site->cleared = NULL;
    site_begin_anew(site);
}

static PyObject *
Site_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"id", "name", "info", NULL};
    long long id;
    PyObject *name, *info = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "LU|O:Site", names, &id, &name, &info))
        return NULL;
    if (id < 0 || id >= NO_PARENT)
        return raise_error("OptionError", "site id %lld: must lie between 0 and %lld", id, (long long)NO_PARENT - 1);
    clock_start();
    Site *site = (Site *)type->tp_alloc(type, 0);
    if (site == NULL)
        return NULL;
    site->id = (uint32_t)id;
    site->name = Py_NewRef(name);
    site->info = Py_NewRef(info);
    site->mode = MODE_TIME;
    site->tail_ns = UINT64_MAX;
    site->min_ns = UINT64_MAX;
    site->probability = 1;
    site->quota = 200;
    site->first = 10;
    site_draw_gap(site);
#ifdef Py_GIL_DISABLED
    site->next = GET(all_sites);
    while (!__atomic_compare_exchange_n(&all_sites, &site->next, site, 1, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
    }
#else
    site->next = all_sites;
    all_sites = site;
#endif
    return Py_NewRef((PyObject *)site); /* immortal, see base.h */
}

static PyObject *
Site_sample(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"probability", "quota", "first", NULL};
    Site *site = (Site *)self;
    double probability;
    long long quota;
    PyObject *first = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "dL|O:sample", names, &probability, &quota, &first))
        return NULL;
    if (!(probability >= 0 && probability <= 1)) {
        PyObject *given = PyFloat_FromDouble(probability);
        raise_error("OptionError", "sampling probability %R: must lie between 0 and 1", given);
        Py_XDECREF(given);
        return NULL;
    }
    if (quota < 1)
        return raise_error("OptionError", "sampling quota %lld: must be at least 1", quota);
    if (first != Py_None) {
        long long n = PyLong_AsLongLong(first);
        if (n == -1 && PyErr_Occurred())
            return NULL;
        if (n < 0 || n > UINT32_MAX)
            return raise_error("OptionError", "first calls %lld: must not be negative", n);
        site->first = (uint32_t)n;
    }
    site->probability = probability;
    site->quota = (uint64_t)quota;
    site->taken = 0;
    if (first != Py_None || !site->forced) {
        site->parked = 0;
        site_draw_gap(site);
    }
    Py_RETURN_NONE;
}

static PyObject *
Site_read(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    uint64_t values[COUNTERS];
    site_read((Site *)self, values);
    PyObject *tuple = PyTuple_New(COUNTERS);
    for (int i = 0; tuple != NULL && i < COUNTERS; i++) {
        PyObject *value = PyLong_FromUnsignedLongLong(values[i]);
        if (value == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, i, value);
    }
    return tuple;
}

static PyObject *
Site_histogram(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Site *site = (Site *)self;
    PyObject *list = PyList_New(BUCKETS);
    for (int i = 0; list != NULL && i < BUCKETS; i++) {
        PyObject *value = PyLong_FromUnsignedLongLong(site->histogram ? site_bucket(site, (uint32_t)i) : 0);
        if (value == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, value);
    }
    return list;
}

static uint32_t
site_take_peak(Site *site)
{
    uint32_t peak = GET(site->in_flight_peak);
    SET(site->in_flight_peak, GET(site->in_flight));
    return peak;
}

static PyObject *
Site_take_peak(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLong(site_take_peak((Site *)self));
}

static PyObject *
Site_clear(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (site_clear((Site *)self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
Site_repr(PyObject *self)
{
    Site *site = (Site *)self;
    uint64_t values[COUNTERS];
    site_read(site, values);
    return PyUnicode_FromFormat("<Site %u %R: %llu calls>", site->id, site->name, (unsigned long long)values[CALLS]);
}

static PyObject *
Site_get_mode(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(((Site *)self)->mode);
}

static int
Site_set_mode(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    long mode = value ? PyLong_AsLong(value) : 0;
    if (mode == -1 && PyErr_Occurred())
        return -1;
    if (mode != MODE_COUNT && mode != MODE_TIME) {
        raise_error("OptionError", "site mode %ld: must be COUNT (1) or TIME (2)", mode);
        return -1;
    }
    ((Site *)self)->mode = (uint32_t)mode;
    return 0;
}

static PyObject *
Site_get_tail_ns(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(((Site *)self)->tail_ns);
}

static int
Site_set_tail_ns(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    uint64_t ns = value ? PyLong_AsUnsignedLongLong(value) : 0;
    if (ns == (uint64_t)-1 && PyErr_Occurred())
        return -1;
    SET(((Site *)self)->tail_ns, ns);
    return 0;
}

/* The settable object fields: the closure is the field's offset. NULL reads as None, and None clears. */
static PyObject *
Site_get_object(PyObject *self, void *closure)
{
    PyObject *value;
    LOCK(self);
    value = *(PyObject **)((char *)self + (size_t)closure);
    value = Py_NewRef(value ? value : Py_None);
    UNLOCK();
    return value;
}

static int
Site_set_object(PyObject *self, PyObject *value, void *closure)
{
    PyObject **field = (PyObject **)((char *)self + (size_t)closure);
    PyObject *old;
    LOCK(self);
    old = *field;
    *field = (value == NULL || value == Py_None) ? NULL : Py_NewRef(value);
    UNLOCK();
    if ((size_t)closure == offsetof(Site, size_of))
        RETIRE(old); /* a sample takes it without the lock */
    else
        Py_XDECREF(old);
    return 0;
}

static PyObject *
Site_get_ring(PyObject *self, void *Py_UNUSED(closure))
{
    Ring *ring = ((Site *)self)->ring;
    return Py_NewRef(ring ? (PyObject *)ring : Py_None);
}

static int
Site_set_ring(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    Site *site = (Site *)self;
    if (value != NULL && value != Py_None && !Py_IS_TYPE(value, Ring_Type)) {
        raise_error("OptionTypeError", "ring %R: must be a Ring of this core, or None", value);
        return -1;
    }
    Ring *old = site->ring;
    SET(site->ring, value == NULL || value == Py_None ? NULL : (Ring *)Py_NewRef(value));
    RETIRE(old);
    site_wake(site);
    return 0;
}

static PyMethodDef Site_methods[] = {
    {"sample", (PyCFunction)(void (*)(void))Site_sample, METH_VARARGS | METH_KEYWORDS,
     "sample(probability, quota, first=None): set the sampling of the coming window."},
    {"read", Site_read, METH_NOARGS, "The exact counters, in the order of COUNTERS."},
    {"histogram", Site_histogram, METH_NOARGS, "The BUCKETS counts of the duration histogram, as a list."},
    {"take_peak", Site_take_peak, METH_NOARGS, "The peak of calls in flight since the last take_peak()."},
    {"clear", Site_clear, METH_NOARGS, "Set all counters to zero; core.advance() sees nothing of it."},
    {NULL},
};

static PyMemberDef Site_members[] = {
    {"id", T_UINT, offsetof(Site, id), READONLY, "number of the site in its registry"},
    {"name", T_OBJECT, offsetof(Site, name), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Site, weakrefs), READONLY, NULL},
    {NULL},
};

static PyGetSetDef Site_getset[] = {
    {"mode", Site_get_mode, Site_set_mode, "COUNT or TIME", NULL},
    {"tail_ns", Site_get_tail_ns, Site_set_tail_ns, "calls slower than this leave a record", NULL},
    {"ring", Site_get_ring, Site_set_ring, "where its records go, or None: to the recorder's ring", NULL},
    {"info", Site_get_object, Site_set_object, "whatever the registry keeps with the site",
     (void *)offsetof(Site, info)},
    {"size_of", Site_get_object, Site_set_object, "callable(*args, **kwargs) -> number, or None",
     (void *)offsetof(Site, size_of)},
    {"metrics", Site_get_object, Site_set_object, "dict: name -> [count, total, min, max], or None",
     (void *)offsetof(Site, metrics)},
    {NULL},
};

static PyType_Slot Site_slots[] = {
    {Py_tp_doc, "Site(id, name, info=None)\n--\n\nExact counters of one instrumented function or block."},
    {Py_tp_new, Site_new},
    {Py_tp_repr, Site_repr},
    {Py_tp_methods, Site_methods},
    {Py_tp_members, Site_members},
    {Py_tp_getset, Site_getset},
    {0, NULL},
};

static PyType_Spec Site_spec = {
    .name = "hotlap.core._native.Site",
    .basicsize = sizeof(Site),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = Site_slots,
};

#endif
