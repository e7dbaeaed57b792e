"""Statistics: pure functions from arrays to numbers.

histogram   quantiles and moments of exponential-bucket histograms
summary     a window's columns -> one Stats for each site
"""
