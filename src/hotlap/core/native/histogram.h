/* The buckets of the duration histogram: OpenTelemetry's base-2 exponential buckets, scale 5, in seconds.

   Bucket 0 counts zero durations. Bucket j >= 1 counts durations d with 2^((j-1+FIRST)/32) < d <= 2^((j+FIRST)/32)
   seconds, so they leave as an OTLP exponential histogram as they are. A duration is a whole number of nanoseconds,
   and the borders are found without floating point: in each octave the 32 borders lie at the same mantissas, so one
   small table of mantissas serves all octaves. */
#ifndef HOTLAP_HISTOGRAM_H
#define HOTLAP_HISTOGRAM_H

#include "base.h"

#define SCALE 5
#define PER_OCTAVE 32
#define BUCKET_FIRST (-957) /* 1 ns lies in (2^(-957/32), 2^(-956/32)] seconds */
#define BUCKETS 1550

static struct {
    uint64_t border[PER_OCTAVE + 1]; /* mantissas: floor(border * 2^(63 - octave of border)), ascending */
    uint8_t below[64];               /* for the six bits after the leading one: borders certainly below */
    int octave_zero;                 /* bucket of the first border in octave 0 */
} buckets;

/* The mantissas are those of 10^9 * 2^(k/32): a time of 2^(k/32) seconds in nanoseconds. */
static void
histogram_load(void)
{
    long double mantissas[PER_OCTAVE];
    int indexes[PER_OCTAVE];
    /* 10^9 lies in octave 29: of the borders 2^(k/32) s, k = 0..31, the last ones fall into octave 30. */
    for (int k = 0; k < PER_OCTAVE; k++) {
        long double ns = 1e9L * exp2l((long double)k / PER_OCTAVE);
        int octave = ilogbl(ns);
        mantissas[k] = ldexpl(ns, 63 - octave);
        indexes[k] = k - PER_OCTAVE * octave; /* index of this border, brought to octave 0 */
    }
    /* Rotate so that the mantissas ascend: those that fell into octave 30 come first. */
    int first = 0;
    while (first < PER_OCTAVE && ilogbl(1e9L * exp2l((long double)first / PER_OCTAVE)) == 29)
        first++;
    for (int i = 0; i < PER_OCTAVE; i++)
        buckets.border[i] = (uint64_t)mantissas[(first + i) % PER_OCTAVE];
    buckets.border[PER_OCTAVE] = UINT64_MAX;
    buckets.octave_zero = indexes[first % PER_OCTAVE];
    for (int cell = 0; cell < 64; cell++) {
        uint64_t low = (1ull << 63) | ((uint64_t)cell << 57);
        int n = 0;
        while (n < PER_OCTAVE && buckets.border[n] < low)
            n++;
        buckets.below[cell] = (uint8_t)n;
    }
}

/* A cell of 1/64 octave (in mantissa) is narrower than a bucket, so at most one border lies in it: one compare. */
static inline uint32_t
bucket_of(uint64_t ns)
{
    if (UNLIKELY(ns == 0))
        return 0;
    int octave = 63 - __builtin_clzll(ns);
    uint64_t mantissa = ns << (63 - octave);
    int below = buckets.below[(mantissa >> 57) & 63];
    below += mantissa > buckets.border[below];
    /* `below` borders of this octave lie below ns; the one above the last of them has this index: */
    int index = buckets.octave_zero + PER_OCTAVE * octave + below - 1;
    int bucket = index - BUCKET_FIRST + 1;
    return (uint32_t)(bucket < BUCKETS ? bucket : BUCKETS - 1);
}

#endif
