"""A slow query and a cached one, against a real SQLite table.

    python examples/lab/sqlite_cache.py

The report of the cached one says itself that it looks results up: times of a cache are easily taken for times of work.
"""

from __future__ import annotations

import sqlite3
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from hotlap import BenchmarkConfig, PerformanceBenchmarker

ROWS = 50_000


class Orders:
    """Orders in a table without an index, so that each look reads all of it."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path)
        with self._connection:
            self._connection.execute("CREATE TABLE orders (customer INTEGER, price INTEGER)")
            self._connection.executemany(
                "INSERT INTO orders VALUES (?, ?)", ((i * 7919 % 1000, i % 97) for i in range(ROWS))
            )

    def total(self, customer: int) -> int:
        query = "SELECT sum(price) FROM orders WHERE customer = ?"
        total: int = self._connection.execute(query, (customer,)).fetchone()[0]
        return total

    def close(self) -> None:
        self._connection.close()


def main() -> None:
    lab = PerformanceBenchmarker()
    with TemporaryDirectory() as directory:
        orders = Orders(Path(directory) / "orders.db")
        slow = lab.benchmark_io(orders.total, 42, config=BenchmarkConfig(iterations=50))
        fast = lab.benchmark_function(lru_cache(orders.total), 42)
        orders.close()
    for name, report in (("query", slow), ("cached", fast)):
        print(f"{name:8}{1e6 * report.summary['p50_execution_time']:10.2f} us   {report.result_category.value}")
    print(next(note for note in fast.verdict.notes if "cache" in note))


if __name__ == "__main__":
    main()
