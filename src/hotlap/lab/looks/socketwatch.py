"""Watched sockets: what Python code does with its sockets, told to whoever listens, by stand-ins for their methods.

asyncio, http.client, urllib3, httpx and aiohttp all end at the methods of socket.socket and ssl.SSLSocket. What a
library in C does with sockets of its own is not told, nor what trio does, which holds on to the original methods.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from typing import Protocol

from .standins import Call, Replacement, StandIns

__all__ = ["Listener", "watched"]


class Listener(Protocol):
    """Is told after each call, on the thread that made it; times are those of time.perf_counter."""

    def connecting(self, descriptor: int, began: float, ended: float, error: int) -> None:
        """A stream socket was told to connect; `error` is 0 when it is connected now."""

    def connected(self, descriptor: int, ended: float, error: int) -> None:
        """A socket was asked for its pending error, as one is that was connecting in the background."""

    def accepted(self, descriptor: int) -> None:
        """This process serves the socket."""

    def sent(self, descriptor: int, began: float, count: int) -> None:
        """So many bytes were taken."""

    def received(self, descriptor: int, ended: float, count: int) -> None:
        """So many bytes were given; 0 at the end of the stream."""

    def shaking_hands(self, descriptor: int, began: float, ended: float, done: bool) -> None:
        """A TLS handshake was begun or carried on."""

    def resolved(self, began: float, ended: float) -> None:
        """A name was looked up, or was not found."""

    def closing(self, descriptor: int) -> None:
        """Before the socket is closed."""


def _descriptor(call: Call) -> int:
    """Of the socket whose method was called; -1 when it is closed."""
    number: int = call.args[0].fileno()
    return number


def _on_connect(listener: Listener, call: Call) -> None:
    """connect() raises what connect_ex() returns."""
    if call.args[0].type == socket.SOCK_STREAM and _descriptor(call) >= 0:
        error = (call.result or 0) if call.error is None else call.error
        listener.connecting(_descriptor(call), call.began, call.ended, error)


def _on_getsockopt(listener: Listener, call: Call) -> None:
    if call.args[1:3] == (socket.SOL_SOCKET, socket.SO_ERROR) and isinstance(call.result, int):
        listener.connected(_descriptor(call), call.ended, call.result)


def _on_send(listener: Listener, call: Call) -> None:
    if call.error is None:
        count = memoryview(call.args[1]).nbytes if call.result is None else call.result  # sendall gives None
        listener.sent(_descriptor(call), call.began, count)


def _on_receive(flags_at: int | None) -> Callable[[Listener, Call], None]:
    """`flags_at` is the place of the flags among the arguments."""

    def look(listener: Listener, call: Call) -> None:
        if call.error is not None:
            return
        flags = call.args[flags_at] if flags_at is not None and len(call.args) > flags_at else 0
        if flags & socket.MSG_PEEK:
            return
        given = call.result[0] if isinstance(call.result, tuple) else call.result
        listener.received(_descriptor(call), call.ended, given if isinstance(given, int) else len(given))

    return look


def _on_sendfile(listener: Listener, call: Call) -> None:
    if call.error is None and call.args and isinstance(call.args[0], int):
        listener.sent(call.args[0], call.began, call.result)


def _on_accept(listener: Listener, call: Call) -> None:
    if call.error is None:
        listener.accepted(call.result[0].fileno())


def _on_handshake(listener: Listener, call: Call) -> None:
    listener.shaking_hands(_descriptor(call), call.began, call.ended, call.error is None)


def _on_resolve(listener: Listener, call: Call) -> None:
    listener.resolved(call.began, call.ended)


def _on_close(listener: Listener, call: Call) -> None:
    listener.closing(_descriptor(call))


def _replacements() -> list[Replacement]:
    looks: dict[str, Callable[[Listener, Call], None]] = {
        "connect": _on_connect,
        "connect_ex": _on_connect,
        "getsockopt": _on_getsockopt,
        "accept": _on_accept,
        "send": _on_send,
        "sendall": _on_send,
        "sendto": _on_send,
        "sendmsg": _on_send,
        "recv": _on_receive(2),
        "recv_into": _on_receive(3),
        "recvfrom": _on_receive(2),
        "recvfrom_into": _on_receive(3),
        "recvmsg": _on_receive(3),
        "recvmsg_into": _on_receive(3),
    }
    made = [Replacement(socket.socket, name, look) for name, look in looks.items()]
    made += [
        Replacement(socket.socket, "_real_close", _on_close, before=True),
        Replacement(socket, "getaddrinfo", _on_resolve),
        Replacement(os, "sendfile", _on_sendfile),
    ]
    ssl = sys.modules.get("ssl")
    if ssl is not None:
        made += [
            Replacement(ssl.SSLSocket, "send", _on_send),
            Replacement(ssl.SSLSocket, "write", _on_send),
            Replacement(ssl.SSLSocket, "read", _on_receive(None)),
            Replacement(ssl.SSLSocket, "do_handshake", _on_handshake),
        ]
    return made


watched: StandIns[Listener] = StandIns(_replacements)
