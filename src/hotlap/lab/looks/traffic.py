"""Traffic: the connections, bytes and times of this process's sockets in some span.

Sockets are watched as Python code uses them (see socketwatch.py). What a library in C does by itself (libpq,
libcurl, gRPC, uvloop) is not seen there: of its TCP connections that stay open, the kernel's own counts are read.
"""

from __future__ import annotations

import errno
import math
import threading
from dataclasses import dataclass

from .cpu import CPUTracker
from .intervals import Intervals
from .sockets import Connection, connections, identity, is_client, listening, tcp_info
from .socketwatch import watched
from .tracker import Tracker

__all__ = ["NetworkTracker"]

_IN_PROGRESS = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN, errno.EALREADY})
_NEW = Connection(0, 0, 0, 0.0, False)


@dataclass(slots=True)
class _Socket:
    """What a tracker remembers of one."""

    client: bool | None
    connecting_since: float | None = None
    shaking_hands_since: float | None = None
    asked_at: float | None = None  # the first byte of a request was sent, and none of its answer has come
    answered_at: float | None = None  # the first byte of an answer came
    latest_at: float | None = None  # and more of it


class NetworkTracker(Tracker):
    """Connections, bytes and times of this process's sockets, from start() to stop(), or in a with block:

        with NetworkTracker() as net:
            fetch()
        print(net.connections, net.bytes_received, net.connect.total_s, net.first_byte.durations_s)

    All threads are counted, and the ends that ask, not those that this process serves. Bytes are those that Python
    code hands over: before encryption with the sockets of ssl, after it with asyncio's TLS, whose handshakes count as
    exchanges. As an observer of a run it sums up the spans between before() and after().
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # closing() may be called within any other, by the garbage collector
        self._reset()

    def _reset(self) -> None:
        self.cpu = CPUTracker(counters=False, children=False)  # the same spans
        self.resolve = Intervals()  # socket.getaddrinfo
        self.connect = Intervals()  # from the call to the established connection
        self.handshake = Intervals()  # of TLS, with sockets of ssl
        self.first_byte = Intervals()  # of an exchange: from the first byte sent to the first byte received
        self.rest = Intervals()  # of an answer that came in pieces: from its first byte to its last
        self.connections_failed = 0
        self.bytes_sent = 0
        self.bytes_received = 0
        self.send_calls = 0
        self.receive_calls = 0
        self.retransmits: int | None = None  # TCP segments; None where there was no TCP, or the kernel does not tell
        self.tcp_bytes_sent = 0  # payload, by the kernel's count: encrypted, without what was sent again
        self.tcp_bytes_received = 0
        self.unseen_connections = 0  # TCP connections that no Python code touched: made by a library in C
        self.unseen_bytes_sent = 0
        self.unseen_bytes_received = 0
        self.serves = False  # sockets that this process accepted were used, too: the server is in it
        self._round_trips_s: dict[int, float] = {}
        self._sockets: dict[int, _Socket] = {}
        self._first: dict[int, Connection] | None = None
        self._last: dict[int, Connection] = {}

    # -- a span -----------------------------------------------------------------------------------------------

    def start(self) -> NetworkTracker:
        """Forget all sums, and begin."""
        self.cancel()
        return super().start()

    def before(self) -> None:
        self._serving = listening()
        self._then = connections(self._serving)
        if self._first is None:
            self._first = self._then
        self._touched: set[int] = set()
        self._closed: dict[int, Connection] = {}
        watched.add(self)
        self.cpu.before()

    def after(self) -> None:
        self.cpu.after()
        watched.remove(self)
        with self._lock:
            for known in self._sockets.values():
                self._answered(known)
        self._last = connections(self._serving | listening())
        for one, now in {**self._last, **self._closed}.items():
            self._count(one, now, self._then.get(one, _NEW))

    def cancel(self) -> None:
        """End a span that does not count."""
        watched.remove(self)

    def _count(self, one: int, now: Connection, then: Connection) -> None:
        """Add what the kernel counted of one connection."""
        known = self._sockets.get(one)
        if known is not None and not known.client:
            return
        sent, received = now.bytes_sent - then.bytes_sent, now.bytes_received - then.bytes_received
        self.retransmits = (self.retransmits or 0) + now.retransmits - then.retransmits
        self.tcp_bytes_sent += sent
        self.tcp_bytes_received += received
        if (sent or received) and now.rtt_s > 0.0:
            self._round_trips_s[one] = now.rtt_s
        if one not in self._touched:
            self.unseen_bytes_sent += sent
            self.unseen_bytes_received += received
            self.unseen_connections += then is _NEW and now.established

    # -- what the watched sockets tell ------------------------------------------------------------------------------

    def _socket(self, descriptor: int, asks: bool) -> _Socket | None:
        """What is known of a socket, or is found out now; None when it is not to be counted."""
        if descriptor < 0:
            return None
        one = identity(descriptor)
        self._touched.add(one)
        known = self._sockets.get(one)
        if known is None:
            known = self._sockets[one] = _Socket(is_client(descriptor, self._serving, asks))
        if known.client is False:
            self.serves = True
        return known if known.client else None

    def connecting(self, descriptor: int, began: float, ended: float, error: int) -> None:
        """A stream socket was told to connect; `error` is 0 when it is connected now."""
        with self._lock:
            one = identity(descriptor)
            self._touched.add(one)
            known = self._sockets.setdefault(one, _Socket(True))
            known.client = True
            since = began if known.connecting_since is None else known.connecting_since
            known.connecting_since = None
            if error in (0, errno.EISCONN):
                self.connect.add(since, ended)
            elif error in _IN_PROGRESS:
                known.connecting_since = since
            else:
                self.connections_failed += 1

    def connected(self, descriptor: int, ended: float, error: int) -> None:
        """A socket that was connecting was asked whether it is done."""
        with self._lock:
            known = self._sockets.get(identity(descriptor))
            if known is not None:
                self._connected(known, ended, error)

    def _connected(self, known: _Socket, ended: float, error: int = 0) -> None:
        if known.connecting_since is None:
            return
        if error:
            self.connections_failed += 1
        else:
            self.connect.add(known.connecting_since, ended)
        known.connecting_since = None

    def sent(self, descriptor: int, began: float, count: int) -> None:
        with self._lock:
            known = self._socket(descriptor, True)
            if known is None:
                return
            self._connected(known, began)
            self.send_calls += 1
            self.bytes_sent += count
            if count and known.asked_at is None:
                self._answered(known)
                known.asked_at = began

    def received(self, descriptor: int, ended: float, count: int) -> None:
        with self._lock:
            known = self._socket(descriptor, False)
            if known is None:
                return
            self._connected(known, ended)
            self.receive_calls += 1
            self.bytes_received += count
            if count and known.asked_at is not None:
                self.first_byte.add(known.asked_at, ended)
                known.asked_at, known.answered_at = None, ended
            elif count:
                known.latest_at = ended

    def _answered(self, known: _Socket) -> None:
        """Nothing more of an answer will come."""
        if known.answered_at is not None and known.latest_at is not None:
            self.rest.add(known.answered_at, known.latest_at)
        known.answered_at = known.latest_at = None

    def accepted(self, descriptor: int) -> None:
        with self._lock:
            self._sockets[identity(descriptor)] = _Socket(False)

    def shaking_hands(self, descriptor: int, began: float, ended: float, done: bool) -> None:
        with self._lock:
            known = self._socket(descriptor, True)
            if known is None:
                return
            since = began if known.shaking_hands_since is None else known.shaking_hands_since
            known.shaking_hands_since = None if done else since
            if done:
                self.handshake.add(since, ended)

    def resolved(self, began: float, ended: float) -> None:
        self.resolve.add(began, ended)

    def closing(self, descriptor: int) -> None:
        """The last chance to ask the kernel."""
        with self._lock:
            if descriptor < 0:
                return
            one = identity(descriptor)
            info = tcp_info(descriptor)
            known = self._sockets.pop(one, None)
            if known is not None:
                self._answered(known)
            client = is_client(descriptor, self._serving) if known is None else known.client
            if info is not None and client:
                self._closed[one] = info
                self._touched.add(one)

    # -- the sums ---------------------------------------------------------------------------------------------

    @property
    def spans(self) -> int:
        """How many spans were summed up."""
        return self.cpu.spans

    @property
    def wall_s(self) -> float:
        return self.cpu.wall_s

    @property
    def connections(self) -> int:
        """Stream connections that were made by Python code."""
        return self.connect.count

    @property
    def exchanges(self) -> int:
        """Requests that were answered: bytes sent, and then bytes received."""
        return self.first_byte.count

    @property
    def connections_left_open(self) -> int:
        """TCP connections that are open now and were not at the start, whoever made them."""
        return len(self._last.keys() - (self._first or {}).keys())

    @property
    def round_trip_s(self) -> float | None:
        """Mean round-trip time of the TCP connections used, as the kernel measured it."""
        times = self._round_trips_s.values()
        return sum(times) / len(times) if times else None

    def share_of_time(self, what: Intervals) -> float:
        """Share of the wall time in which at least one such thing went on; NaN before anything was measured."""
        return min(1.0, what.covered_s / self.wall_s) if self.wall_s > 0.0 else math.nan
