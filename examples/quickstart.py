"""Quickstart: decorate a function, measure a block, read the report.

    python examples/quickstart.py

It counts what the standard library of this Python is made of.
"""

from __future__ import annotations

import ast
import sysconfig
import textwrap
from collections import Counter
from pathlib import Path

import hotlap

STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))


@hotlap.benchmark(slo="50ms", size="source")
def count_nodes(source: str) -> Counter[str]:
    """How often each kind of syntax node occurs in `source`."""
    return Counter(type(node).__name__ for node in ast.walk(ast.parse(source)))


def ms(seconds: float | None) -> str:
    """Milliseconds, or a dash where there is no evidence."""
    return "-" if seconds is None else f"{seconds * 1e3:.3f}"


def main(files: int = 40) -> None:
    hotlap.start(sinks=[])  # no sinks: this example reads the reports itself
    nodes: Counter[str] = Counter()
    for path in sorted(STANDARD_LIBRARY.glob("*.py"))[:files]:
        with hotlap.measure("read file") as reading:
            source = path.read_text(encoding="utf-8")
            reading.record(characters=len(source))
        nodes += count_nodes(source)

    print("most frequent:", ", ".join(f"{name} {count:,}" for name, count in nodes.most_common(3)))
    for report in hotlap.flush():
        stats = report.stats
        print(f"\n{stats.site}: {stats.calls} calls")
        print(f"  p50 {ms(stats.p50_s)} ms, p99 {ms(stats.p99_s)} ms")
        print(textwrap.indent(report.score.explain(), "  "))
        for finding in report.findings:
            print(f"  {finding.rule}: {finding.summary}")
    hotlap.stop()


if __name__ == "__main__":
    main()
