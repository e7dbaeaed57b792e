"""The sockets that this process has open, and what the kernel knows of its TCP connections."""

from __future__ import annotations

import _socket
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from .procfs import Unreadable, read

__all__ = ["Connection", "connections", "identity", "is_client", "listening", "machine_counts", "tcp_info"]

_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)
_INFO_BYTES = 512  # more than any kernel has
# Offsets into struct tcp_info (linux/tcp.h), which only ever grows at its end:
_RTT_US, _RETRANSMITS, _ACKED, _RECEIVED, _SENT, _SENT_AGAIN = 68, 100, 120, 128, 200, 208
_PEER_HAS_CLOSED = frozenset({6, 8, 9, 11})  # TCP_TIME_WAIT, CLOSE_WAIT, LAST_ACK, CLOSING
_NOT_CONNECTED = frozenset({2, 7, 10})  # TCP_SYN_SENT, CLOSE, LISTEN


class Connection(NamedTuple):
    """One TCP connection since its beginning, as the kernel counts it."""

    bytes_sent: int  # payload, each byte once
    bytes_received: int
    retransmits: int  # segments
    rtt_s: float  # smoothed
    established: bool


def identity(descriptor: int) -> int:
    """What tells a socket from all others that were ever open, unlike its descriptor. OSError if it is closed."""
    return os.fstat(descriptor).st_ino


@contextmanager
def _borrowed(descriptor: int) -> Iterator[_socket.socket]:
    """A socket object on a descriptor that belongs to somebody else. OSError if it is no socket."""
    borrowed = _socket.socket(fileno=descriptor)
    try:
        yield borrowed
    finally:
        borrowed.detach()


def _open_sockets() -> Iterator[int]:
    """Descriptors of the process's sockets; none where the system does not list them."""
    with suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):  # closed in the meantime
                if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                    yield int(name)


def listening() -> frozenset[tuple[int, object]]:
    """Where this process accepts connections: its sockets' families, and their ports or paths."""
    found = set()
    for descriptor in _open_sockets():
        with suppress(OSError), _borrowed(descriptor) as one:
            if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                found.add(_end(one))
    return frozenset(found)


def _end(one: _socket.socket) -> tuple[int, object]:
    name = one.getsockname()
    internet = one.family in (socket.AF_INET, socket.AF_INET6)
    return (socket.AF_INET, name[1]) if internet else (one.family, name)


def is_client(descriptor: int, serving: frozenset[tuple[int, object]], asks: bool = True) -> bool | None:
    """Whether a socket is the end of one that asks: not one that this process accepted, as `serving` tells.

    For datagrams it is `asks`: whether the first was one sent. None for a pair of sockets within the process, for
    what is no socket, and for what has no address.
    """
    with suppress(OSError), _borrowed(descriptor) as one:
        if one.family in (socket.AF_INET, socket.AF_INET6):
            return asks if one.type == socket.SOCK_DGRAM else _end(one) not in serving
        if one.family == socket.AF_UNIX and (one.getsockname() or one.getpeername()):
            return not one.getsockname()
    return None


def tcp_info(descriptor: int) -> Connection | None:
    """What the kernel knows of a TCP connection; None for other sockets, and where it does not tell."""
    if _TCP_INFO is None:
        return None
    try:
        with _borrowed(descriptor) as one:
            if one.type != socket.SOCK_STREAM or one.family not in (socket.AF_INET, socket.AF_INET6):
                return None
            info = one.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _INFO_BYTES)
    except OSError:
        return None
    if len(info) < _RECEIVED + 8:  # before Linux 4.1
        return None
    state = info[0]
    # What was received includes the end of the stream as one byte, and what was acknowledged its beginning. After
    # a reset the end is not told from a byte: then it counts.
    received = _number(info, _RECEIVED, "=Q") - (state in _PEER_HAS_CLOSED)
    if len(info) >= _SENT_AGAIN + 8:  # since Linux 4.19
        sent = _number(info, _SENT, "=Q") - _number(info, _SENT_AGAIN, "=Q")
    else:
        sent = max(0, _number(info, _ACKED, "=Q") - 1)
    return Connection(
        sent,
        max(0, received),
        _number(info, _RETRANSMITS, "=I"),
        _number(info, _RTT_US, "=I") / 1e6,
        state not in _NOT_CONNECTED,
    )


def _number(info: bytes, offset: int, format: str) -> int:
    value: int = struct.unpack_from(format, info, offset)[0]
    return value


def connections(serving: frozenset[tuple[int, object]]) -> dict[int, Connection]:
    """The process's TCP connections, those that it has accepted left out, by identity."""
    found = {}
    for descriptor in _open_sockets():
        with suppress(OSError):
            info = tcp_info(descriptor)
            if info is not None and is_client(descriptor, serving):
                found[identity(descriptor)] = info
    return found


_TCP_COUNTS = {
    "segments_sent": "OutSegs",
    "segments_retransmitted": "RetransSegs",
    "connections_opened": "ActiveOpens",
    "connections_failed": "AttemptFails",
}


def machine_counts() -> dict[str, int]:
    """Counters of the network namespace: of all processes that share it, mostly the whole machine.

    What goes through the loopback interface is sent and received, and kept apart. Raises Unreadable.
    """
    counts = dict.fromkeys(("bytes_received", "bytes_sent", "loopback_bytes"), 0)
    for line in read("/proc/self/net/dev", whole=True).decode("ascii", "replace").splitlines()[2:]:
        name, _, numbers = line.partition(":")
        fields = numbers.split()
        if name.strip() == "lo":
            counts["loopback_bytes"] += int(fields[8])
        else:
            counts["bytes_received"] += int(fields[0])
            counts["bytes_sent"] += int(fields[8])
    tcp = [
        line.split()
        for line in read("/proc/self/net/snmp", whole=True).decode("ascii", "replace").splitlines()
        if line.startswith("Tcp:")
    ]
    if len(tcp) != 2:
        raise Unreadable("/proc/self/net/snmp: no lines for TCP")
    values = dict(zip(*tcp, strict=True))
    counts.update({name: int(values[field]) for name, field in _TCP_COUNTS.items()})
    return counts
