"""What hotlap costs, as ratios measured in one run: `python -m tests.benchmarks`, from the repository's root.

Never collected by pytest, and nothing is asserted: a table gives each figure with its aim and its limit.

    timing      interleaved rounds of alternating variants
    processes   a section in several processes, whose figures are joined
    table       the row, and how a table of them is printed
    subjects    what is called: bare functions, the empty wrapper, the closures
    peers       other libraries, as their users call them
    recording   the recorder in the states that are timed
    call        a function call, a method call, switched off, counting only, and the peers
    block       `with measure("x")`
    coroutine   an async call, with and without a suspension
    twin        the core in Python
    memory      what 1,000 sites hold
    importing   `import hotlap` over `import wrapt`
    cycle       draining, reducing, and a whole cycle
"""
