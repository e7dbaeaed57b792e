"""Two algorithms against each other: bubble sort and quick sort on 800 numbers.

    python examples/lab/sorting.py

They take turns, so that both see the same machine, and what is said of their difference has an interval.
"""

from __future__ import annotations

import random

from hotlap import BenchmarkConfig, PerformanceBenchmarker


def bubble_sort(numbers: list[int]) -> list[int]:
    result = list(numbers)
    for last in range(len(result) - 1, 0, -1):
        for i in range(last):
            if result[i] > result[i + 1]:
                result[i], result[i + 1] = result[i + 1], result[i]
    return result


def quick_sort(numbers: list[int]) -> list[int]:
    if len(numbers) < 2:
        return numbers
    pivot, rest = numbers[0], numbers[1:]
    smaller, larger = [x for x in rest if x < pivot], [x for x in rest if x >= pivot]
    return [*quick_sort(smaller), pivot, *quick_sort(larger)]


def main() -> None:
    numbers = random.Random(1).sample(range(10_000), 800)
    lab = PerformanceBenchmarker()
    reports = lab.compare_functions(
        [(bubble_sort, "bubble sort"), (quick_sort, "quick sort")], numbers, config=BenchmarkConfig(iterations=40)
    )
    for name, report in reports.items():
        mean_ms = 1e3 * report.summary["avg_execution_time"]
        print(f"{name:12}{mean_ms:8.2f} ms   {report.details['comparison']['sentence']}")


if __name__ == "__main__":
    main()
