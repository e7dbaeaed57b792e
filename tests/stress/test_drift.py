"""The fast clock over half a minute: its error stays small, and time never runs backwards."""

from __future__ import annotations

import threading
import time

from hotlap import core

SECONDS = 30


def test_error_is_bounded() -> None:
    """Calibrated every quarter of a second, as unevenly as a busy machine does it: the error is bounded."""
    errors = []
    until = time.monotonic() + SECONDS
    core.calibrate()
    while time.monotonic() < until:
        time.sleep(0.25)
        errors.append(abs(core.calibrate()))
    errors.sort()
    clock = core.clock()
    print(f"{clock['kind']}: {len(errors)} looks, error {errors[len(errors) // 2]} ns, at most {errors[-1]} ns")
    before = time.monotonic_ns()
    now = core.now_ns()
    after = time.monotonic_ns()
    # A virtual machine that is held up within a pair of readings shows an error that is not the clock's.
    assert errors[len(errors) // 2] < 20_000
    assert before - 100_000 <= now - clock.get("lead_ns", 0) <= after + 100_000


def test_never_backwards() -> None:
    """One thread calibrates all the time; what others read never falls, in a thread or between two."""
    latest = [0]
    falls: list[tuple[int, int]] = []
    lock = threading.Lock()
    until = time.monotonic() + 5

    def read() -> None:
        last = 0
        while time.monotonic() < until:
            for _ in range(1000):
                now = core.now_ns()
                if now < last:
                    falls.append((last, now))
                last = now
            with lock:
                now = core.now_ns()
                if now < latest[0]:
                    falls.append((latest[0], now))
                latest[0] = now

    def calibrate() -> None:
        while time.monotonic() < until:
            core.calibrate()
            time.sleep(0.0015)

    threads = [threading.Thread(target=work) for work in (read, read, read, calibrate)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert falls == []
