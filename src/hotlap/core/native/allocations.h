/* Allocations: how often one thread asks Python's allocators for memory, which nothing in Python can tell.

   Only the allocators that are called with the GIL held are watched (objects, and memory of PyMem_Malloc): they may be
   exchanged under it, and the counter needs no lock. While nobody counts, ours are not there, and cost nothing.
   Whoever has put allocators of his own over ours since (tracemalloc, when it was started in between) points to ours
   from his: ours then stay below his for good, and only pass on. Without the GIL there is no counting. */
#ifndef HOTLAP_ALLOCATIONS_H
#define HOTLAP_ALLOCATIONS_H

#include "base.h"

#define WATCHED 2

static const PyMemAllocatorDomain watched[WATCHED] = {PYMEM_DOMAIN_OBJ, PYMEM_DOMAIN_MEM};
static struct {
    PyMemAllocatorEx below[WATCHED]; /* what was there before, and does the work */
    int there[WATCHED];              /* ours are in place, or below another's */
    int on;
    unsigned long thread; /* that counts */
    uint64_t count;
} allocations;

static inline void
allocations_add(void)
{
    if (allocations.on && PyThread_get_thread_ident() == allocations.thread)
        allocations.count++;
}

static void *
allocations_malloc(void *below, size_t size)
{
    PyMemAllocatorEx *real = below;
    allocations_add();
    return real->malloc(real->ctx, size);
}

static void *
allocations_calloc(void *below, size_t count, size_t size)
{
    PyMemAllocatorEx *real = below;
    allocations_add();
    return real->calloc(real->ctx, count, size);
}

/* A block that is made larger or smaller is one that was asked for, too. */
static void *
allocations_realloc(void *below, void *block, size_t size)
{
    PyMemAllocatorEx *real = below;
    allocations_add();
    return real->realloc(real->ctx, block, size);
}

static void
allocations_free(void *below, void *block)
{
    PyMemAllocatorEx *real = below;
    real->free(real->ctx, block);
}

static PyObject *
native_allocations_begin(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
#ifdef Py_GIL_DISABLED
    Py_RETURN_FALSE;
#else
    if (allocations.on)
        Py_RETURN_FALSE;
    for (int i = 0; i < WATCHED; i++) {
        if (allocations.there[i])
            continue;
        PyMem_GetAllocator(watched[i], &allocations.below[i]);
        PyMemAllocatorEx ours = {&allocations.below[i], allocations_malloc, allocations_calloc, allocations_realloc,
                                 allocations_free};
        PyMem_SetAllocator(watched[i], &ours);
        allocations.there[i] = 1;
    }
    allocations.thread = PyThread_get_thread_ident();
    allocations.count = 0;
    allocations.on = 1;
    Py_RETURN_TRUE;
#endif
}

static PyObject *
native_allocations_end(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    allocations.on = 0;
    for (int i = 0; i < WATCHED; i++) {
        PyMemAllocatorEx now;
        if (!allocations.there[i])
            continue;
        PyMem_GetAllocator(watched[i], &now);
        if (now.malloc == allocations_malloc && now.ctx == &allocations.below[i]) {
            PyMem_SetAllocator(watched[i], &allocations.below[i]);
            allocations.there[i] = 0;
        }
    }
    return PyLong_FromUnsignedLongLong(allocations.count);
}

#endif
