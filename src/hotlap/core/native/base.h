/* What every part of the native core uses: the process-wide state, the per-thread scope, atomic helpers.

   Locking. On builds with a GIL every function here runs with the GIL held unless its comment says otherwise, and
   counters are plain loads and stores. On free-threaded builds the same macros are relaxed atomics: a counter is
   never lost, and a reader may see one counter of a site a moment before another. Objects that several threads may
   change there (blocks, metrics) are locked with LOCK, and what another thread may still be reading (a replaced hook
   or ring, a replaced __wrapped__) is let go with RETIRE, which on those builds keeps it for good: it is rare.

   Ownership. Sites are immortal: the scope of a thread, a record in flight and an open coroutine point to them
   without a reference. Their number is capped by the registry in Python. Everything else that is called into Python
   is called with a reference of our own, since what it calls may replace it (set_trace(None) in a trace hook). */
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
#define ADD(field, n) __atomic_add_fetch(&(field), (n), __ATOMIC_RELAXED)
#define GET(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define SET(field, n) __atomic_store_n(&(field), (n), __ATOMIC_RELAXED)
#define TAKE(flag) (!__atomic_exchange_n(&(flag), 1, __ATOMIC_ACQUIRE))
#define LET_GO(flag) __atomic_store_n(&(flag), 0, __ATOMIC_RELEASE)
#define LOCK(object) Py_BEGIN_CRITICAL_SECTION(object)
#define UNLOCK() Py_END_CRITICAL_SECTION()
#define RETIRE(object) ((void)(object))
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
#define TAKE(flag) ((flag) ? 0 : ((flag) = 1))
#define LET_GO(flag) ((flag) = 0)
#define LOCK(object) {
#define UNLOCK() }
#define RETIRE(object) Py_XDECREF(object)
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
   `context` is set, and never NULL, when the innermost one is a `with measure()` block: in a coroutine that nobody
   measures, such a block stays the scope of the thread while other tasks run, and is then no parent of theirs.

   Scopes end in the order opposite to how they began, but for blocks in suspended generators, and where greenlets
   switch stacks in the middle of calls. A scope is plain data, so nothing worse happens then than that a call finds
   another one's scope where it expected its own: see scope_leave(). */
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
    uint32_t id;   /* the kernel's thread id */
    uint32_t lost; /* scopes that did not end in order so far */
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

/* This thread's id for records. */
static inline uint32_t
thread_id(void)
{
    if (UNLIKELY(thread.stack_high == NULL) && thread_check(__builtin_frame_address(0)) < 0)
        PyErr_Clear();
    return thread.id;
}

/* The context of the running task or greenlet, borrowed; compared, never followed. A thread that never used one has
   the same stand-in for it throughout. */
static inline void *
context_of(const PyThreadState *state)
{
    return state->context != NULL ? (void *)state->context : (void *)&thread;
}

static inline void *
current_context(void)
{
    return context_of(PyThreadState_Get());
}

static inline Scope
scope_enter(Scope scope)
{
    Scope outer = thread.scope;
    thread.scope = scope;
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

/* A module of this name has been imported. Keeps a pending exception. */
static SLOW PyObject *
imported_module(const char *name)
{
    Pending pending = pending_set_aside();
    PyObject *module = PyDict_GetItemString(PyImport_GetModuleDict(), name);
    PyErr_Clear();
    pending_restore(pending);
    return module;
}

/* The scope that a call leaves is another one's. A block in a generator that is suspended: the caller's scope comes
   back. With greenlets the caller's may be over as well: no scope is better than one that never goes away. */
static SLOW void
scope_lost(const Scope *outer)
{
    thread.lost++;
    thread.scope = imported_module("greenlet") != NULL ? (Scope){NULL, 0, NULL} : *outer;
}

/* Ends the scope of a call of `ns` that began within `outer`. Returns its own time, without its children's, or -1 when
   that is not known. */
static inline int64_t
scope_leave(const Scope *outer, const Site *site, uint64_t ns)
{
    if (UNLIKELY(thread.scope.site != site)) {
        scope_lost(outer);
        return -1;
    }
    uint64_t child_ns = thread.scope.child_ns;
    thread.scope = *outer;
    thread.scope.child_ns += ns;
    return ns > child_ns ? (int64_t)(ns - child_ns) : 0;
}

/* ---- failures of functions that users gave ---- */

static int
raise_pending(void *exception)
{
    PyErr_SetObject((PyObject *)Py_TYPE((PyObject *)exception), (PyObject *)exception);
    Py_DECREF((PyObject *)exception);
    return -1;
}

/* A KeyboardInterrupt that came while a hook ran is the program's, not the hook's: it is raised again as soon as
   the interpreter looks for signals. Steals `exception`, an instance. */
static SLOW void
raise_later(PyObject *exception)
{
#if defined(__linux__)
    int main_thread = thread_id() == (uint32_t)getpid();
#else
    int main_thread = 0;
#endif
    if (main_thread && Py_AddPendingCall(raise_pending, exception) == 0)
        return;
    PyThreadState_SetAsyncExc(PyThread_get_thread_ident(), (PyObject *)Py_TYPE(exception));
    Py_DECREF(exception);
}

/* One of the user's functions raised: clears that, and tells Python. Returns 1 if the function is to be called no
   more, 0 if it was not its fault: an interrupt, or a lack of stack or memory. */
static SLOW int
report_fault(const char *kind, PyObject *site)
{
    int host = PyErr_ExceptionMatches(PyExc_RecursionError) || PyErr_ExceptionMatches(PyExc_MemoryError);
    Pending fault = pending_set_aside();
    PyErr_NormalizeException(&fault.type, &fault.value, &fault.traceback);
    int interrupt = fault.value != NULL && !PyErr_GivenExceptionMatches(fault.value, PyExc_Exception);
    if (interrupt) {
        raise_later(Py_NewRef(fault.value));
    }
    else if (!host && core.hooks.fault != NULL && fault.value != NULL) {
        PyObject *hook = Py_NewRef(core.hooks.fault);
        PyObject *done = PyObject_CallFunction(hook, "sOO", kind, site ? site : Py_None, fault.value);
        if (done == NULL && !PyErr_ExceptionMatches(PyExc_Exception)) {
            Pending late = pending_set_aside();
            PyErr_NormalizeException(&late.type, &late.value, &late.traceback);
            raise_later(Py_NewRef(late.value));
            Py_XDECREF(late.type);
            Py_XDECREF(late.value);
            Py_XDECREF(late.traceback);
        }
        PyErr_Clear();
        Py_XDECREF(done);
        Py_DECREF(hook);
    }
    Py_XDECREF(fault.type);
    Py_XDECREF(fault.value);
    Py_XDECREF(fault.traceback);
    return !interrupt && !host;
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
