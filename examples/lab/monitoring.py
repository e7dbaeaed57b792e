"""Continuous monitoring: a thread that benchmarks one function again and again, against its own first report.

    python examples/lab/monitoring.py

The function becomes slower while the program runs. Each round is compared with the baseline; the live recorder
(`hotlap.start()`) does without such a thread, where the function is called by the program itself.
"""

from __future__ import annotations

import threading

from hotlap import BenchmarkConfig, PerformanceBenchmarker
from hotlap.lab.baseline import judged

ROUNDS = 4


class Catalogue:
    """A list that is searched from its beginning; it grows."""

    def __init__(self) -> None:
        self.names = [f"item {number}" for number in range(500)]

    def grow(self) -> None:
        self.names += [f"item {len(self.names) + number}" for number in range(1500)]

    def find_last(self) -> int:
        return self.names.index(self.names[-1])


def watch(catalogue: Catalogue, stop: threading.Event) -> None:
    lab = PerformanceBenchmarker()
    config = BenchmarkConfig(iterations=50, warmup_iterations=5)
    first = lab.benchmark_function(catalogue.find_last, config=config)
    for number in range(1, ROUNDS):
        if stop.wait(0.1):
            return
        catalogue.grow()
        report = lab.benchmark_function(catalogue.find_last, config=config)
        found = judged(first, report, allowed=0.2)
        print(f"round {number}: {1e6 * report.summary['avg_execution_time']:6.1f} us, ", end="")
        print(f"{'regressed' if found.regressed else 'as before'}: {found.sentence}")


def main() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=watch, args=(Catalogue(), stop))
    thread.start()
    thread.join()


if __name__ == "__main__":
    main()
