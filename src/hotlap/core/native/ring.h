/* The ring: fixed-size records in one block, many writers, one reader at a time, the oldest overwritten.

   A writer takes the next number from `head`, claims its slot by swapping the slot's sequence for an odd one, writes,
   and publishes with the even number that belongs to it. A slot that another writer still holds (a whole lap behind)
   is not waited for: the record is dropped, and the reader counts it as lost like one that was overwritten. The
   reader copies a slot and believes the copy only if the sequence was right before and after; at a record that is
   just being written it stops, and the next drain goes on from there. So no writer waits, the reader needs no lock
   against writers (drain runs without the GIL), and every number that was taken is either drained once or counted in
   `lost`. Two drains at once are kept apart by `mutex`.

   Records are moved as words, each a relaxed atomic: a reader that loses the race sees a mixture, which it throws
   away, but the race itself is not undefined (Boehm 2012, "Can seqlocks get along with programming language memory
   models?"). */
#ifndef HOTLAP_RING_H
#define HOTLAP_RING_H

#include "base.h"

typedef struct {
    uint64_t start_ns, wall_ns;
    int64_t own_ns, cpu_ns;
    uint64_t gc_ns, trace_hi, trace_lo, span;
    double size;
    uint64_t run_ns, longest_ns;
    uint32_t thread, site, parent, in_flight;
    uint32_t voluntary, involuntary, minor_faults, suspensions;
    float weight;
    uint16_t major_faults, flags;
} Record;

#define LAYOUT_VERSION 1
#define NO_PARENT UINT32_MAX

enum {
    FLAG_ERROR = 1,
    FLAG_ASYNC = 2,
    FLAG_TAIL = 4,
    FLAG_FIRST = 8,
    FLAG_EVIDENCE = 16,
    FLAG_CANCELLED = 32,
    FLAG_BLOCK = 64,
    FLAG_GENERATOR = 128
};

struct Ring {
    PyObject_HEAD
    uint64_t head; /* the next number to be taken */
    uint64_t tail; /* the next number to be drained; the reader's */
    uint64_t lost;
    uint64_t capacity;
    uint64_t *sequence; /* per slot: 2n+1 while record n is written, 2n+2 when it is there */
    Record *records;
    pthread_mutex_t mutex;
};

static PyTypeObject *Ring_Type;

#define RECORD_WORDS (sizeof(Record) / sizeof(uint64_t))

static inline void
record_move(uint64_t *to, const uint64_t *from)
{
    for (size_t i = 0; i < RECORD_WORDS; i++)
        __atomic_store_n(&to[i], __atomic_load_n(&from[i], __ATOMIC_RELAXED), __ATOMIC_RELAXED);
}

/* Any thread, with or without the GIL. */
static void
ring_write(Ring *ring, const Record *record)
{
    uint64_t number = __atomic_fetch_add(&ring->head, 1, __ATOMIC_ACQ_REL);
    uint64_t slot = number & (ring->capacity - 1);
    uint64_t seen = __atomic_load_n(&ring->sequence[slot], __ATOMIC_RELAXED);
    if ((seen & 1) || seen > 2 * number ||
        !__atomic_compare_exchange_n(&ring->sequence[slot], &seen, 2 * number + 1, 0, __ATOMIC_ACQ_REL,
                                     __ATOMIC_RELAXED))
        return; /* taken by a writer a lap away: the reader finds the number missing */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    record_move((uint64_t *)&ring->records[slot], (const uint64_t *)record);
    __atomic_store_n(&ring->sequence[slot], 2 * number + 2, __ATOMIC_RELEASE);
}

/* The sequence of a slot, after giving a writer that has its number a moment to fill the slot. */
static uint64_t
ring_await(const uint64_t *sequence, uint64_t wanted)
{
    uint64_t seen = __atomic_load_n(sequence, __ATOMIC_ACQUIRE);
    for (int i = 0; seen < wanted && i < 200; i++)
        seen = __atomic_load_n(sequence, __ATOMIC_ACQUIRE);
    return seen;
}

/* Runs without the GIL, with `mutex` held. Returns the number of records copied to `out`, at most `most`. */
static uint64_t
ring_copy(Ring *ring, Record *out, uint64_t most)
{
    uint64_t copied = 0;
    uint64_t head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
    uint64_t tail = ring->tail;
    uint64_t lost = 0;
    if (head - tail > ring->capacity) {
        lost = head - tail - ring->capacity;
        tail = head - ring->capacity;
    }
    for (; tail != head && copied < most; tail++) {
        uint64_t slot = tail & (ring->capacity - 1);
        uint64_t sequence = ring_await(&ring->sequence[slot], 2 * tail + 2);
        if (sequence == 2 * tail + 1)
            break;
        if (sequence == 2 * tail + 2) {
            record_move((uint64_t *)&out[copied], (const uint64_t *)&ring->records[slot]);
            __atomic_thread_fence(__ATOMIC_ACQUIRE);
            if (__atomic_load_n(&ring->sequence[slot], __ATOMIC_RELAXED) == 2 * tail + 2) {
                copied++;
                continue;
            }
        }
        lost++; /* overwritten under our hands, dropped, or its writer took the number and stands still */
    }
    __atomic_store_n(&ring->tail, tail, __ATOMIC_RELAXED);
    __atomic_fetch_add(&ring->lost, lost, __ATOMIC_RELAXED);
    return copied;
}

static PyObject *
Ring_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"capacity", NULL};
    Py_ssize_t capacity;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n:Ring", names, &capacity))
        return NULL;
    if (capacity < 2 || (capacity & (capacity - 1)) != 0)
        return raise_error("OptionError", "ring capacity %zd: must be a power of two and at least 2; try 16384",
                           capacity);
    Ring *ring = (Ring *)type->tp_alloc(type, 0);
    if (ring == NULL)
        return NULL;
    ring->capacity = (uint64_t)capacity;
    ring->sequence = PyMem_RawCalloc((size_t)capacity, sizeof(uint64_t));
    ring->records = PyMem_RawCalloc((size_t)capacity, sizeof(Record));
    pthread_mutex_init(&ring->mutex, NULL);
    if (ring->sequence == NULL || ring->records == NULL) {
        Py_DECREF(ring);
        return PyErr_NoMemory();
    }
    return (PyObject *)ring;
}

static void
Ring_dealloc(PyObject *self)
{
    Ring *ring = (Ring *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyMem_RawFree(ring->sequence);
    PyMem_RawFree(ring->records);
    pthread_mutex_destroy(&ring->mutex);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
Ring_drain(PyObject *self, PyObject *args)
{
    Ring *ring = (Ring *)self;
    PyObject *limit = Py_None;
    if (!PyArg_ParseTuple(args, "|O:drain", &limit))
        return NULL;
    uint64_t most = ring->capacity;
    if (limit != Py_None) {
        Py_ssize_t wanted = PyNumber_AsSsize_t(limit, PyExc_OverflowError);
        if (wanted == -1 && PyErr_Occurred())
            return NULL;
        if (wanted < 0)
            return raise_error("OptionError", "drain limit %zd: must not be negative", wanted);
        if ((uint64_t)wanted < most)
            most = (uint64_t)wanted;
    }
    uint64_t waiting = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE) - __atomic_load_n(&ring->tail, __ATOMIC_RELAXED);
    if (waiting < most)
        most = waiting;
    PyObject *block = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(most * sizeof(Record)));
    if (block == NULL)
        return NULL;
    Record *out = (Record *)PyByteArray_AS_STRING(block);
    uint64_t copied;
    Py_BEGIN_ALLOW_THREADS
    pthread_mutex_lock(&ring->mutex);
    copied = ring_copy(ring, out, most);
    pthread_mutex_unlock(&ring->mutex);
    Py_END_ALLOW_THREADS
    if (copied < most && PyByteArray_Resize(block, (Py_ssize_t)(copied * sizeof(Record))) < 0) {
        Py_DECREF(block);
        return NULL;
    }
    return block;
}

/* In a forked child the mutex may be held by a thread that is not there any more. */
static void
ring_reset(Ring *ring)
{
    pthread_mutex_init(&ring->mutex, NULL);
    memset(ring->sequence, 0, ring->capacity * sizeof(uint64_t));
    ring->head = ring->tail = ring->lost = 0;
}

static PyObject *
Ring_clear(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Ring *ring = (Ring *)self;
    Py_BEGIN_ALLOW_THREADS
    pthread_mutex_lock(&ring->mutex);
    __atomic_store_n(&ring->tail, __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE), __ATOMIC_RELAXED);
    __atomic_store_n(&ring->lost, 0, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&ring->mutex);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
Ring_get_capacity(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(((Ring *)self)->capacity);
}

static PyObject *
Ring_get_written(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(__atomic_load_n(&((Ring *)self)->head, __ATOMIC_RELAXED));
}

static PyObject *
Ring_get_lost(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(__atomic_load_n(&((Ring *)self)->lost, __ATOMIC_RELAXED));
}

static PyMethodDef Ring_methods[] = {
    {"drain", Ring_drain, METH_VARARGS,
     "drain(limit=None) -> bytearray of whole records, oldest first; each record is drained once."},
    {"clear", Ring_clear, METH_NOARGS, "Forget what is in the ring, and what was lost."},
    {NULL},
};

static PyGetSetDef Ring_getset[] = {
    {"capacity", Ring_get_capacity, NULL, "records that fit", NULL},
    {"written", Ring_get_written, NULL, "records ever written", NULL},
    {"lost", Ring_get_lost, NULL, "records overwritten before they were drained, as of the last drain", NULL},
    {NULL},
};

static PyType_Slot Ring_slots[] = {
    {Py_tp_doc, "Ring(capacity)\n--\n\nLock-free, overwrite-oldest buffer of records; capacity is a power of two."},
    {Py_tp_new, Ring_new},
    {Py_tp_dealloc, Ring_dealloc},
    {Py_tp_methods, Ring_methods},
    {Py_tp_getset, Ring_getset},
    {0, NULL},
};

static PyType_Spec Ring_spec = {
    .name = "hotlap.core._native.Ring",
    .basicsize = sizeof(Ring),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = Ring_slots,
};

#endif
