"""A gate for CI: ends with status 1 when a function is too slow, fails, or leaks.

    python examples/lab/ci_gate.py

From a shell, `hotlap bench module:function --baseline before.json --max-slower 10` does the same.
"""

from __future__ import annotations

import json
import sys

from hotlap import BenchmarkConfig, PerformanceBenchmarker

DOCUMENT = json.dumps([{"id": number, "name": f"item {number}", "price": number / 7} for number in range(500)])


def parse() -> int:
    return len(json.loads(DOCUMENT))


def main() -> int:
    lab = PerformanceBenchmarker()
    # It times the calls, as benchmark_function does, and then looks for a leak in further ones.
    report = lab.benchmark_memory(parse, config=BenchmarkConfig(performance_threshold=0.05, error_threshold=0.0))
    print(f"parse: {report.verdict.sentence}, score {report.performance_score:.0f}, {report.result_category.value}")
    for advice in report.recommendations:
        print(f"  {advice}")
    return 0 if report.verdict.passed else 1


if __name__ == "__main__":
    sys.exit(main())
