"""Regression detection: a change is held against a baseline that was measured before it.

    python examples/lab/regression.py

Both are measured in fresh processes, and compared by the processes' means: what a process draws by lot at its start
(memory layout, hash seed) is no regression.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hotlap import BenchmarkConfig, PerformanceBenchmarker
from hotlap.lab.baseline import judged

WORDS = [f"word{number % 500}" for number in range(4000)]


def count_words() -> int:
    return len(set(WORDS))


def count_words_changed() -> int:
    seen: list[str] = []
    for word in WORDS:
        if word not in seen:  # looks through all of the list
            seen.append(word)
    return len(seen)


def main() -> None:
    lab = PerformanceBenchmarker()
    config = BenchmarkConfig(iterations=10, warmup_iterations=2, isolate=4)
    with TemporaryDirectory() as directory:
        path = lab.export_report(lab.benchmark_function(count_words, config=config), Path(directory) / "before.json")
        before = lab.load_report(path)
        for change in (count_words, count_words_changed):
            found = judged(before, lab.benchmark_function(change, config=config), allowed=1.0)
            verdict = "REGRESSED" if found.regressed else "doubtful" if found.doubtful else "ok"
            print(f"{change.__name__:20} {verdict:10} {found.sentence}")


if __name__ == "__main__":
    main()
