"""Network: what a call sends, receives and waits for.

While calls are timed, only the waiting is looked at, and the counters that the kernel has for the machine's
interfaces: it has none for a process. Then the sockets of a few more calls are watched (see traffic.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...options import BenchmarkType
from ...rules.words import duration, number, share
from ...stats.sample import quantiles
from ..examination import Examination
from ..looks.cpu import CPUTracker
from ..looks.intervals import Intervals
from ..looks.look import Look
from ..looks.sockets import machine_counts
from ..looks.tally import Tally, amounts
from ..looks.traffic import NetworkTracker
from .kind import Kind

if TYPE_CHECKING:
    from ..progress import Reporter
    from ..runs.limits import Guard
    from ..runs.run import Observer, Outcome

__all__ = ["Network", "NetworkTracker"]

# What is worth a sentence:
_EACH_CALL = 0.9  # times a call
_SHARE = 0.1  # of the time
_WAITING = 0.5
_IN_TURN = 5  # exchanges a call
_AT_ONCE = 1.5  # exchanges that go on together
_SMALL = 200  # bytes
_SENDS = 10
_DELAYED_S = 0.038, 0.05  # TCP_DELACK_MIN is 40 ms
_LOOKS = 3  # calls that were looked at, from which on "each call" may be said


class _Machine:
    """The machine's counters from the first iteration to the last: an observer."""

    def __init__(self) -> None:
        self.tally = Tally(machine=machine_counts)
        self._began = False

    def before(self) -> None:
        if not self._began:
            self._began = True
            self.tally.before()

    def after(self) -> None: ...


class Network(Kind):
    """What a call sends, receives and waits for."""

    type = BenchmarkType.NETWORK

    def observers(self) -> tuple[Observer, ...]:
        self._machine = _Machine()
        self._cpu = CPUTracker(counters=False, children=False)
        return self._machine, self._cpu

    def examine(self, outcome: Outcome, guard: Guard, reporter: Reporter) -> Examination:
        self._machine.tally.after()
        net = NetworkTracker()
        look = Look.again(self, outcome, guard, reporter, net, phase="looking at sockets")
        net.cancel()
        calls = int(outcome.series.calls.sum())
        details = {**_details(net, look), **self._timed_details(calls)}
        return Examination(
            details=details,
            advice=_advice(self.subject.name, net, look),
            notes=[*_notes(net, look, self._cpu), *look.notes],
            interrupted=look.interrupted,
        )

    def _timed_details(self, calls: int) -> dict[str, Any]:
        """What was counted while the calls were timed."""
        tally, cpu = self._machine.tally, self._cpu
        details = amounts(((f"machine_{name}", value) for name, value in tally.totals.items()), 0)
        if tally.totals:
            details["machine_counts"] = (
                "of all processes in this network namespace, from the first iteration to the last"
            )
        details |= amounts(
            (
                ("wait_s", cpu.wait_s),
                ("queue_wait_s", cpu.queue_wait_s),
                ("voluntary_switches", cpu.voluntary_switches),
            ),
            calls,
        )
        details["calls"] = calls
        if cpu.wait_s is not None and cpu.wall_s > 0.0:
            details["wait_share"] = min(1.0, cpu.wait_s / cpu.wall_s)
        missing = {**tally.not_readable, **cpu.not_readable}
        return details | {name: f"not readable: {reason}" for name, reason in missing.items()}


def _details(net: NetworkTracker, look: Look) -> dict[str, Any]:
    if not look.calls:
        return {"sockets": f"not looked at: {look.reason}"}
    phases = {
        "resolve": net.resolve,
        "connect": net.connect,
        "tls_handshake": net.handshake,
        "first_byte": net.first_byte,
        "rest_of_answer": net.rest,
    }
    unseen = (
        ("unseen_connections", net.unseen_connections),
        ("unseen_bytes_sent", net.unseen_bytes_sent),
        ("unseen_bytes_received", net.unseen_bytes_received),
    )
    details = {
        "looked_at_calls": look.calls,
        **amounts(
            (
                ("connections", net.connections),
                ("connections_failed", net.connections_failed),
                ("exchanges", net.exchanges),
                ("bytes_sent", net.bytes_sent),
                ("bytes_received", net.bytes_received),
                ("send_calls", net.send_calls),
                ("receive_calls", net.receive_calls),
                ("tcp_bytes_sent", net.tcp_bytes_sent),
                ("tcp_bytes_received", net.tcp_bytes_received),
                ("retransmitted_segments", net.retransmits),
                *(unseen if any(value for _, value in unseen) else ()),
                *((f"{name}_s", phase.total_s) for name, phase in phases.items() if phase.count),
            ),
            look.calls,
        ),
        "connections_left_open": net.connections_left_open,
    }
    if net.retransmits is None:
        details["retransmitted_segments"] = "not readable: no TCP connection was seen"
    if net.round_trip_s is not None:
        details["round_trip_s_mean"] = net.round_trip_s
    for name, phase in phases.items():
        if phase.count:
            median, p95 = quantiles(phase.durations_s, (0.5, 0.95)).tolist()
            details[f"{name}_s_median"], details[f"{name}_s_p95"] = median, p95
            details[f"{name}_s_max"] = max(phase.durations_s)
            details[f"{name}_share"] = net.share_of_time(phase)
    return details


def _advice(name: str, net: NetworkTracker, look: Look) -> list[str]:
    said: list[str] = []
    calls = look.calls
    if calls < _LOOKS:
        return said
    per_call = net.connections / calls
    connecting = net.share_of_time(net.connect)
    if per_call >= _EACH_CALL and connecting >= _SHARE:
        said.append(
            f"{name} makes {_count(per_call, 'new connection')} in each call, and connecting takes "
            f"{share(connecting)} of its time ({duration(net.connect.total_s / net.connections)} each): keep "
            "connections open (a session, a client or a pool that lives longer than the call)."
        )
    shaking = net.share_of_time(net.handshake)
    if net.handshake.count / calls >= _EACH_CALL and shaking >= _SHARE:
        said.append(
            f"{name} makes {_count(net.handshake.count / calls, 'TLS handshake')} in each call, for "
            f"{share(shaking)} of its time: connections that stay open need one in their life."
        )
    resolving = net.share_of_time(net.resolve)
    if net.resolve.count / calls >= _EACH_CALL and resolving >= _SHARE:
        said.append(
            f"It looks names up {_times(net.resolve.count / calls)} a call, which takes {share(resolving)} of its "
            "time: keep connections open, or the address."
        )
    waiting, exchanges = net.share_of_time(net.first_byte), net.exchanges / calls
    at_once = net.first_byte.total_s / net.first_byte.covered_s if net.first_byte.covered_s > 0.0 else 0.0
    if exchanges >= _IN_TURN and waiting >= _WAITING and at_once < _AT_ONCE:
        said.append(
            f"It waits for an answer {number(exchanges)} times a call, one after the other, for {share(waiting)} of "
            f"its time ({duration(net.first_byte.total_s / net.exchanges)} each): ask for many things at once, or "
            "side by side."
        )
    said += _delayed(net)
    if net.exchanges and net.send_calls / net.exchanges >= _SENDS and net.bytes_sent / net.send_calls < _SMALL:
        said.append(
            f"It sends a request of {number(net.bytes_sent / net.exchanges)} bytes with "
            f"{number(net.send_calls / net.exchanges)} system calls: collect it, and send it at once."
        )
    if net.retransmits:
        said.append(
            f"{net.retransmits} TCP segments had to be sent again in {calls} calls: the network, or a server whose "
            "queue of connections is full, loses packets."
        )
    if net.connections_left_open >= max(_LOOKS, _EACH_CALL * calls):
        said.append(
            f"{net.connections_left_open} connections were still open after {calls} calls: it does not close what it "
            "opens."
        )
    return said


def _delayed(net: NetworkTracker) -> list[str]:
    """Waits as long as Linux holds an acknowledgement back, where the one side sends in pieces (Nagle, RFC 896)."""
    said = []
    if net.exchanges and net.rest.count >= 0.5 * net.exchanges and _is_delay(net.rest):
        said.append(
            f"The rest of an answer comes {duration(_median(net.rest))} after its first bytes. That is how long Linux "
            "holds an acknowledgement back, for which a server waits that sends an answer in pieces: let it send the "
            "answer at once, or set TCP_NODELAY."
        )
    if net.exchanges and net.send_calls >= 2 * net.exchanges and _is_delay(net.first_byte):
        said.append(
            f"A request is sent in {number(net.send_calls / net.exchanges)} pieces, and its answer comes after "
            f"{duration(_median(net.first_byte))}. That is how long Linux holds an acknowledgement back, for which "
            "the second piece waits: send it at once, or set TCP_NODELAY."
        )
    return said


def _median(what: Intervals) -> float:
    return float(quantiles(what.durations_s, (0.5,))[0])


def _is_delay(what: Intervals) -> bool:
    return bool(what.durations_s) and _DELAYED_S[0] <= _median(what) <= _DELAYED_S[1]


def _times(count: float) -> str:
    return "once" if count == 1.0 else f"{number(count)} times"


def _count(count: float, noun: str) -> str:
    return f"a {noun}" if count == 1.0 else f"{number(count)} {noun}s"


def _notes(net: NetworkTracker, look: Look, cpu: CPUTracker) -> list[str]:
    said = []
    if not look.calls:
        return [f"Its sockets were not looked at: {look.reason}."]
    nothing = not (net.bytes_sent or net.bytes_received or net.connections or net.connections_failed)
    unseen = net.unseen_bytes_sent + net.unseen_bytes_received
    if unseen:
        said.append(
            f"{number(unseen / look.calls)} bytes a call went through TCP connections that no Python code touched, "
            "those of a library in C: the kernel counted them; when a request was sent and answered is not known."
        )
    elif nothing:
        said.append(
            "No Python code sent, received or connected anything in this process. Sockets of child processes, those "
            "that a library in C opens and closes within a call, and its sockets other than TCP, would not be seen."
        )
    if net.serves:
        said.append(
            "The server runs in the same process: its bytes are not counted, but it competes for the interpreter."
        )
    if look.failed:
        said.append(f"{look.failed} of the {look.calls} calls whose sockets were looked at failed.")
    return said
