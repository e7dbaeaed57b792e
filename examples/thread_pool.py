"""A thread pool: how long the work takes, and what changes when more of it is in flight.

    python examples/thread_pool.py

Threads compress the standard library's source files. zlib lets go of the interpreter lock, so that they work
side by side; the log they share has one lock, and they wait for it. The report tells waiting from working.
"""

from __future__ import annotations

import sysconfig
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hotlap

STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
log_lock = threading.Lock()
log: list[str] = []


@hotlap.benchmark(type="cpu", size="data")
def compress(data: bytes) -> bytes:
    return zlib.compress(data, level=9)


@hotlap.benchmark(type="concurrent")
def write_log(line: str) -> None:
    with log_lock:
        log.append(line)
        time.sleep(0.001)  # a slow disk, with the lock held


def archive(path: Path) -> float:
    """Compress one file; returns what is left of its size, as a fraction."""
    with hotlap.measure("archive") as archiving:
        data = path.read_bytes()
        left = len(compress(data)) / max(len(data), 1)
        archiving.record(bytes=len(data))
        write_log(f"{path.name} {left:.2f}")
    return left


def ms(seconds: float | None) -> str:
    """Milliseconds, or a dash where there is no evidence."""
    return "-" if seconds is None else f"{seconds * 1e3:.3f}"


def main(files: int = 120, threads: int = 4) -> None:
    hotlap.start(sinks=[])
    paths = sorted(STANDARD_LIBRARY.glob("*.py"))[:files]
    with ThreadPoolExecutor(threads) as pool:
        left = list(pool.map(archive, paths))
    print(f"{len(left)} files, compressed to {sum(left) / len(left):.0%} on average")

    print(f"\n{'site':<24}{'calls':>6}{'p50 ms':>9}{'p99 ms':>9}{'CPU/wall':>10}{'peak in flight':>16}")
    for report in hotlap.flush():
        stats = report.stats
        cpu = "-" if stats.cpu_fraction is None else f"{stats.cpu_fraction:.0%}"
        print(
            f"{stats.site.rpartition('.')[2]:<24}{stats.calls:>6}{ms(stats.p50_s):>9}{ms(stats.p99_s):>9}"
            f"{cpu:>10}{stats.in_flight_peak:>16}"
        )
    hotlap.stop()


if __name__ == "__main__":
    main()
