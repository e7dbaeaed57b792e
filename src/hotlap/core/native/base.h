/* What every part of the native core uses: the process-wide state, the per-thread scope, atomic helpers.

   Locking. On builds with a GIL every function here runs with the GIL held unless its comment says otherwise, and
   counters are plain loads and stores. On free-threaded builds the same macros are relaxed atomics: a counter is
   never lost, and a reader may see one counter of a site a moment before another.

   Ownership. Sites are immortal: the scope of a thread, a record in flight and an open coroutine point to them
   without a reference. Their number is capped by the registry in Python. */
#ifndef HOTLAP_BASE_H
#define HOTLAP_BASE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/resource.h>
#include <sys/syscall.h>
#endif

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define SLOW __attribute__((noinline, cold))

#ifdef Py_GIL_DISABLED
#define ADD(field, n) (__atomic_fetch_add(&(field), (n), __ATOMIC_RELAXED) + (n))
#define GET(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define SET(field, n) __atomic_store_n(&(field), (n), __ATOMIC_RELAXED)
#define RAISE_TO(field, n)                                                                                            \
    do {                                                                                                              \
        __typeof__(field) seen_ = GET(field);                                                                         \
        while (seen_ < (n) && !__atomic_compare_exchange_n(&(field), &seen_, (n), 1, __ATOMIC_RELAXED,                \
                                                           __ATOMIC_RELAXED)) {                                       \
        }                                                                                                             \
    } while (0)
#define LOWER_TO(field, n)                                                                                            \
    do {                                                                                                              \
        __typeof__(field) seen_ = GET(field);                                                                         \
        while (seen_ > (n) && !__atomic_compare_exchange_n(&(field), &seen_, (n), 1, __ATOMIC_RELAXED,                \
                                                           __ATOMIC_RELAXED)) {                                       \
        }                                                                                                             \
    } while (0)
#else
#define ADD(field, n) ((field) += (n))
#define GET(field) (field)
#define SET(field, n) ((field) = (n))
#define RAISE_TO(field, n)                                                                                            \
    do {                                                                                                              \
        if ((field) < (n))                                                                                            \
            (field) = (n);                                                                                            \
    } while (0)
#define LOWER_TO(field, n)                                                                                            \
    do {                                                                                                              \
        if ((field) > (n))                                                                                            \
            (field) = (n);                                                                                            \
    } while (0)
#endif

typedef struct Site Site;
typedef struct Ring Ring;

/* Set by Python through the set_... functions; strong references, NULL when unset. */
typedef struct {
    PyObject *sites;    /* dict: name -> Site */
    PyObject *missing;  /* callable(name, options) -> Site */
    PyObject *decorate; /* callable(name, options, function) -> probe */
    PyObject *trace;    /* callable() -> (trace_hi, trace_lo, span) or None */
    PyObject *fault;    /* callable(kind, site or None, exception) */
    Ring *ring;
} Hooks;

static struct {
    int enabled;         /* hotlap.enable() / disable() */
    uint32_t generation; /* number of forks behind us: calls that began before the last one do not count */
    uint64_t gc_ns;      /* time spent in the collector so far, in this process */
    uint64_t gc_start;
    uint64_t samples;     /* sampled calls so far, and what sampling them cost */
    uint64_t samples_ns;
    Hooks hooks;
} core = {.enabled = 1};

/* The innermost measured call that this thread is in. `child_ns` is the time of the calls that it made so far.
   `context` is set when the innermost one is a `with measure()` block: in a coroutine that nobody measures, such a
   block stays the scope of the thread while other tasks run, and is then no parent of theirs. */
typedef struct {
    Site *site;
    uint64_t child_ns;
    void *context;
} Scope;

typedef struct {
    Scope scope;
    char *stack_limit; /* the whole address space until thread_check() has looked */
    char *stack_low;
    char *stack_high;
    uint32_t id; /* the kernel's thread id */
} Thread;

/* initial-exec: one instruction instead of a call to reach it; the few bytes fit the loader's reserve. */
static __thread Thread thread __attribute__((tls_model("initial-exec"))) = {.stack_limit = (char *)UINTPTR_MAX};

/* First call on a thread, or one close to the end of its stack. Returns -1 with RecursionError set.

   A probe recurses on the C stack where plain Python does not (3.11 and later), so a recursion limit that was
   raised would end in a crash. A stack that is not the thread's own (other libraries may bring one) is left alone. */
static SLOW int
thread_check(char *here)
{
    if (thread.stack_high == NULL) {
        void *low = NULL;
        size_t size = 0;
#if defined(__linux__)
        pthread_attr_t attributes;
        if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
            pthread_attr_getstack(&attributes, &low, &size);
            pthread_attr_destroy(&attributes);
        }
        thread.id = (uint32_t)syscall(SYS_gettid);
#else
        thread.id = (uint32_t)PyThread_get_thread_ident();
#endif
        size_t margin = size / 8 < (256 << 10) ? size / 8 : (256 << 10);
        thread.stack_low = low;
        thread.stack_high = (char *)low + size + 1; /* + 1: never NULL, so that the look happens once */
        thread.stack_limit = (char *)low + margin;
    }
    if (here >= thread.stack_limit || here < thread.stack_low || here >= thread.stack_high)
        return 0;
    PyErr_SetString(PyExc_RecursionError, "maximum recursion depth exceeded: no C stack left for a measured call");
    return -1;
}

#define STACK_IS_SHORT() UNLIKELY((char *)__builtin_frame_address(0) < thread.stack_limit)

/* The context of the running task or greenlet, borrowed; compared, never followed. */
static inline void *
current_context(void)
{
    return PyThreadState_Get()->context;
}

static inline uint64_t
current_context_version(void)
{
    return PyThreadState_Get()->context_ver;
}

static inline Scope
scope_enter(Site *site, uint64_t child_ns, void *context)
{
    Scope outer = thread.scope;
    thread.scope = (Scope){site, child_ns, context};
    return outer;
}

/* The pending exception is set aside around everything that may run Python while one is on its way. */
typedef struct {
    PyObject *type, *value, *traceback;
} Pending;

static inline Pending
pending_set_aside(void)
{
    Pending pending;
    PyErr_Fetch(&pending.type, &pending.value, &pending.traceback);
    return pending;
}

static inline void
pending_restore(Pending pending)
{
    PyErr_Restore(pending.type, pending.value, pending.traceback);
}

/* Tells Python that one of the user's functions failed, and clears the error. It will not be called again. */
static SLOW void
report_fault(const char *kind, PyObject *site)
{
    Pending fault = pending_set_aside();
    PyErr_NormalizeException(&fault.type, &fault.value, &fault.traceback);
    if (core.hooks.fault != NULL && fault.value != NULL) {
        PyObject *done = PyObject_CallFunction(core.hooks.fault, "sOO", kind, site ? site : Py_None, fault.value);
        if (done == NULL)
            PyErr_Clear();
        Py_XDECREF(done);
    }
    Py_XDECREF(fault.type);
    Py_XDECREF(fault.value);
    Py_XDECREF(fault.traceback);
}

/* Raises one of hotlap.errors by name. Always returns NULL. */
static SLOW PyObject *
raise_error(const char *name, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    PyObject *message = PyUnicode_FromFormatV(format, arguments);
    va_end(arguments);
    PyObject *errors = message ? PyImport_ImportModule("hotlap.errors") : NULL;
    PyObject *type = errors ? PyObject_GetAttrString(errors, name) : NULL;
    if (type != NULL)
        PyErr_SetObject(type, message);
    Py_XDECREF(type);
    Py_XDECREF(errors);
    Py_XDECREF(message);
    return NULL;
}

#endif
