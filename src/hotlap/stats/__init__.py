"""Statistics: pure functions from arrays to numbers.

histogram, summary    of a window of the live recorder: exponential buckets, columns -> one Stats for each site
sample                of a series in the order of its measurement: moments, quantiles, omitted requests
bootstrap             intervals of means and quantiles
comparison            of the means of processes: permutation tests, equivalence, rankings
outliers, modality    values far from the others; several humps
changepoint, steady   where a series changes its level; whether and from where on it is steady
relation, growth      how one column goes with another; whether time goes with a power of a size
capacity, overload    how throughput bends over the number of users; whether more arrives than gets done
leak                  what calls keep
distributions         Student's t and the binomial, for the others
"""
