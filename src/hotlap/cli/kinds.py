"""What a table shows of each kind of benchmark: what a person wants to know. All else is in the report's file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..options import BenchmarkType
from ..rules.words import megabytes, rate
from .output import digits, duration, share

__all__ = ["rows", "sentences"]

Unit = Callable[[Any], str]


def _size(count: float) -> str:
    return megabytes(count / 1e6) if count else "0 bytes"


def _a_call(count: float) -> str:
    return f"{digits(count)} a call"


def _times(factor: float) -> str:
    return f"{digits(factor)} times"


def _users(count: float) -> str:
    return "1 user" if count == 1 else f"{digits(count)} users"


class Row(NamedTuple):
    """A number in the details of a report, by its path in them, and what else to say of it."""

    label: str
    path: str
    unit: Unit
    note: str = ""  # a template; without one of its own values it is left out
    of: Sequence[str] = ()  # paths of these
    note_unit: Unit | None = None  # None: as the number's
    rare: bool = False  # left out when it is 0


def _took(label: str, name: str) -> Row:
    """A step of an exchange over the network."""
    return Row(label, f"{name}_s_median", duration, "{} of its time", (f"{name}_share",), share)


_CALLS = ("fewest_calls_of_a_user", "most_calls_of_a_user")
_SHOWN: Mapping[BenchmarkType, Sequence[Row]] = {
    BenchmarkType.MEMORY: (
        Row("peak of a call", "peak_bytes.median", _size, "at most {}", ("peak_bytes.max",)),
        Row("allocations", "allocations.median", _a_call),
        Row("held by its result", "result_bytes.median", _size, "at most {}", ("result_bytes.max",)),
        Row("in reference cycles", "cyclic_bytes.median", _size, "until garbage is collected", rare=True),
        Row(
            "kept by a call",
            "leak.bytes_per_call",
            _size,
            "interval: {} to {}",
            ("leak.bytes_per_call_low", "leak.bytes_per_call_high"),
        ),
        Row("resident memory", "rss.end_mb", megabytes, "{} before the first call", ("rss.start_mb",)),
        Row("collections", "gc.collections_per_1000_calls", digits, "in 1,000 calls"),
        Row("garbage collector", "gc.share_of_time", share, "longest pause {}", ("gc.longest_pause_s",), duration),
    ),
    BenchmarkType.CPU: (
        Row("CPU time of a call", "cpu_s_per_call", duration),
        Row("in user mode", "user_s_per_call", duration),
        Row("in the kernel", "system_s_per_call", duration),
        Row("in other threads", "other_threads_cpu_s_per_call", duration, rare=True),
        Row("in child processes", "children_user_s_per_call", duration, rare=True),
        Row("cores used", "cores_used", digits, "of {}", ("cores_available",)),
        Row("CPU efficiency", "cpu_efficiency", share, "CPU time by wall time"),
        Row("waits for a CPU", "queue_wait_s_per_call", duration),
        Row("waits otherwise", "wait_s_per_call", duration),
        Row("voluntary switches", "voluntary_switches_per_call", _a_call),
        Row("involuntary switches", "involuntary_switches_per_call", _a_call),
        Row("migrations", "migrations_per_call", _a_call),
        Row("instructions", "instructions_per_call", _a_call, "{} a cycle", ("instructions_per_cycle",), digits),
        Row("cache misses", "cache_misses_per_call", _a_call, "{} of references", ("cache_misses_share",), share),
        Row("branch misses", "branch_misses_per_call", _a_call, "{} of branches", ("branch_misses_share",), share),
        Row("threads that compute", "threads_computing", digits),
    ),
    BenchmarkType.I_O: (
        Row("reads", "bytes_read_per_call", _size, "system calls: {}", ("read_calls_per_call",), digits),
        Row("writes", "bytes_written_per_call", _size, "system calls: {}", ("write_calls_per_call",), digits),
        Row("from a disk", "disk_bytes_read_per_call", _size),
        Row("to a disk", "disk_bytes_written_per_call", _size),
        Row("not from a disk", "not_from_disk_share", share, "of what it reads"),
        Row("fsync", "fsync_calls_per_call", _a_call, "{} each", ("fsync_s_mean",), duration),
        Row("time in fsync", "fsync_share", share),
        Row("waits", "wait_s_per_call", duration, "{} of its time", ("wait_share",), share),
        Row("waits for a CPU", "queue_wait_s_per_call", duration),
        Row("voluntary switches", "voluntary_switches_per_call", _a_call),
    ),
    BenchmarkType.NETWORK: (
        Row("connections", "connections_per_call", _a_call),
        Row("failed connections", "connections_failed_per_call", _a_call, rare=True),
        Row("left open", "connections_left_open", digits, "of {}", ("connections_total",), rare=True),
        Row("requests answered", "exchanges_per_call", _a_call),
        Row("sent", "bytes_sent_per_call", _size, "system calls: {}", ("send_calls_per_call",), digits),
        Row("received", "bytes_received_per_call", _size, "system calls: {}", ("receive_calls_per_call",), digits),
        _took("name look-up", "resolve"),
        _took("connecting", "connect"),
        _took("TLS handshake", "tls_handshake"),
        _took("first byte", "first_byte"),
        Row(
            "rest of an answer", "rest_of_answer_s_median", duration, "{} of its time", ("rest_of_answer_share",), share
        ),
        Row("round trip", "round_trip_s_mean", duration),
        Row("segments sent again", "retransmitted_segments_total", digits),
        Row("waits", "wait_s_per_call", duration, "{} of its time", ("wait_share",), share),
    ),
    BenchmarkType.CONCURRENT: (
        Row("users", "users", digits, "{}", ("kind_of_users",), str),
        Row("alone", "alone.throughput", rate, "interval: {} to {}", ("alone.throughput_interval",)),
        Row("speed-up", "speed_up", _times, "interval: {} to {}", ("speed_up_interval",)),
        Row("a call takes", "slower_than_alone", _times, "what it takes alone"),
        Row("latency", "latency.p50_s", duration, "p95 {}, p99 {}", ("latency.p95_s", "latency.p99_s")),
        Row("calls due", "due", digits, "{}", ("arrival_rate",), rate),
        Row("never begun", "not_begun", digits, rare=True),
        Row("utilisation", "utilisation", share, "of the users' time"),
        Row("waits for a user", "wait.mean_s", duration, "p99 {}", ("wait.p99_s",)),
        Row("generator's lag", "lag.mean_s", duration, "p99 {}", ("lag.p99_s",)),
        Row("calls at once", "in_flight_mean", digits, "at most {}", ("in_flight_peak",)),
        Row("waits", "waiting_share", share, "of its time"),
        Row("cores used", "cores_used", digits),
        Row(
            "fairness", "fairness", digits, "{} to {} calls a user", ("fewest_calls_of_a_user", "most_calls_of_a_user")
        ),
        Row("interpreter's lock", "interpreter_lock.wait_s", duration, "until another thread has it"),
        Row("cut off", "cut_off", digits, "calls", rare=True),
    ),
    BenchmarkType.STRESS: (
        Row("one user", "capacity.per_user", rate),
        Row("highest throughput", "capacity.highest", rate, "with {}", ("capacity.highest_at",), _users),
        Row("efficiency", "capacity.efficiency", share, "with {}", ("capacity.tried",), _users),
        Row("failures begin", "first_failing_level", _users),
        Row("interpreter's lock", "interpreter_lock.wait_s", duration, "until another thread has it"),
    ),
}
_SENTENCES = ("leak.sentence", "capacity.sentence")


def rows(kind: BenchmarkType, details: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Label, number and note of what there is."""
    for row in _SHOWN.get(kind, ()):
        (value,) = _values(details, (row.path,)) or (None,)
        if isinstance(value, (int, float)) and (value or not row.rare):
            given = _values(details, row.of)
            note = row.note.format(*map(row.note_unit or row.unit, given)) if given or not row.of else ""
            yield row.label, row.unit(value), note


def sentences(details: Mapping[str, Any]) -> Iterator[str]:
    """What the details say in words: verdicts, and what could not be looked at, and why."""
    for (said,) in filter(None, (_values(details, (path,)) for path in _SENTENCES)):
        yield said
    for path, value in _texts(details):
        if value.startswith("not ") or "not_readable" in path:
            name = " ".join(part for part in path if part != "not_readable").replace("_", " ")
            yield f"{name}: {value}"


def _values(details: Mapping[str, Any], paths: Sequence[str]) -> list[Any]:
    """All of them, the items of lists one by one; none when one is not known."""
    found: list[Any] = []
    for path in paths:
        value: Any = details
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        found += value if isinstance(value, (list, tuple)) else [value]
    return [] if any(each is None or (isinstance(each, float) and math.isnan(each)) for each in found) else found


def _texts(details: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    for key, value in details.items():
        if isinstance(value, Mapping):
            yield from _texts(value, (*above, key))
        elif isinstance(value, str):
            yield (*above, key), value
