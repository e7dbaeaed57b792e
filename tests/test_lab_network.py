"""Network: against real servers on loopback, what was sent, received and waited for is known exactly."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hotlap.lab.kinds.network import Network, NetworkTracker
from hotlap.lab.looks.sockets import machine_counts, tcp_info
from hotlap.lab.looks.socketwatch import watched
from kinds import examined

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells this, others do not")

SERVER = """
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        size = int(self.path.rpartition("/")[2])
        head = f"HTTP/1.1 200 OK\\r\\nContent-Length: {size}\\r\\n\\r\\n".encode()
        if self.path.startswith("/pieces"):
            self.wfile.write(head)
            self.wfile.write(bytes(size))
        else:
            self.wfile.write(head + bytes(size))
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""

ECHO = """
import socket, threading
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)

def serve(one):
    with one:
        while data := one.recv(65536):
            one.sendall(data)

while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""


@pytest.fixture(scope="module")
def started() -> Iterator[Callable[[str], int]]:
    """Starts a server in a process of its own, and gives its port."""
    processes: list[subprocess.Popen[str]] = []

    def start(script: str) -> int:
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        return int(process.stdout.readline())

    yield start
    for process in processes:
        process.kill()
        with process:
            pass


@pytest.fixture(scope="module")
def port(started: Callable[[str], int]) -> int:
    """Of an HTTP server: GET /1000 gives 1,000 bytes."""
    return started(SERVER)


@pytest.fixture(scope="module")
def echo(started: Callable[[str], int]) -> int:
    return started(ECHO)


@pytest.fixture(autouse=True)
def originals() -> Iterator[None]:
    """What was replaced is back when nobody looks any more."""
    yield
    assert not watched.listeners
    assert "recv" not in vars(socket.socket)
    assert vars(socket.socket)["accept"].__module__ == "socket"
    assert not hasattr(os.sendfile, "_hotlap_stands_in_for")


def receive(one: socket.socket, size: int) -> None:
    while size:
        size -= len(one.recv(size))


def ask(one: socket.socket, size: int) -> None:
    one.sendall(bytes(size))
    receive(one, size)


def connect_and_ask(port: int, size: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as one:
        ask(one, size)


def head(size: int) -> int:
    return len(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")


def get(port: int, path: str) -> bytes:
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        connection.request("GET", path)
        return connection.getresponse().read()


REQUEST = len("GET /1000 HTTP/1.1\r\nHost: 127.0.0.1:\r\nAccept-Encoding: identity\r\n\r\n")


# -- the tracker --------------------------------------------------------------------------------------------------


def test_bytes_and_connections_are_exact(echo: int) -> None:
    """What Python code sent and received, and the same by the kernel's count."""
    with NetworkTracker() as net:
        connect_and_ask(echo, 1000)
        connect_and_ask(echo, 234)
    assert net.connections == 2
    assert net.exchanges == 2
    assert (net.bytes_sent, net.bytes_received) == (1234, 1234)
    assert net.send_calls == 2
    assert (net.tcp_bytes_sent, net.tcp_bytes_received) == (1234, 1234)
    assert net.retransmits == 0
    assert net.connections_left_open == 0
    assert not net.unseen_bytes_sent
    assert not net.serves


def test_the_times_lie_within_the_span(echo: int) -> None:
    """Connecting and waiting for the first byte are parts of the time, one after the other."""
    with NetworkTracker() as net:
        connect_and_ask(echo, 1000)
    assert net.connect.total_s > 0.0
    assert net.first_byte.total_s > 0.0
    assert net.connect.total_s + net.first_byte.total_s < net.wall_s
    assert net.round_trip_s is not None
    assert 0.0 < net.round_trip_s < net.wall_s
    assert 0.0 < net.share_of_time(net.connect) < 1.0


def test_the_first_byte_is_waited_for_from_the_request_on() -> None:
    """A server that thinks for 50 ms, and then needs 30 ms between the pieces of its answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            one, _ = server.accept()
            with one:
                one.recv(100)
                time.sleep(0.05)
                one.sendall(b"one")
                time.sleep(0.03)
                one.sendall(b"two")

        thread = threading.Thread(target=serve)
        thread.start()
        with NetworkTracker() as net, socket.create_connection(server.getsockname()) as one:
            one.sendall(b"?")
            receive(one, 6)
        thread.join()
    assert net.exchanges == 1
    assert net.first_byte.total_s >= 0.05
    assert net.rest.count == 1
    assert net.rest.total_s >= 0.029
    assert net.first_byte.total_s + net.rest.total_s <= net.wall_s


def test_a_connection_that_stays_open_is_used_again(port: int) -> None:
    """Made once, before anybody looked: its exchanges are seen, and no connection."""
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        for wanted in range(2):
            with NetworkTracker() as net:
                connection.request("GET", "/1000")
                assert len(connection.getresponse().read()) == 1000
            assert net.connections == (0 if wanted else 1)
            assert net.exchanges == 1
            assert net.bytes_sent == REQUEST + len(str(port))
            assert net.bytes_received == head(1000) + 1000
            assert net.connections_left_open == (0 if wanted else 1)


async def ask_async(port: int, size: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(bytes(size))
    await reader.readexactly(size)
    writer.close()
    await writer.wait_closed()


def test_asyncio_uses_the_same_sockets(echo: int) -> None:
    """Its streams, its own pair of sockets left out."""
    with NetworkTracker() as net:
        asyncio.run(ask_async(echo, 5000))
    assert net.connections == 1
    assert net.exchanges == 1
    assert (net.bytes_sent, net.bytes_received) == (5000, 5000)
    assert 0.0 < net.connect.total_s < net.wall_s


def test_what_goes_on_side_by_side_takes_its_time_once() -> None:
    """Three answers that each take 50 ms, waited for together."""

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(10)
            await asyncio.sleep(0.05)
            writer.write(bytes(10))
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with net:
                await asyncio.gather(*(ask_async(port, 10) for _ in range(3)))

    net = NetworkTracker()
    asyncio.run(main())
    assert net.exchanges == 3
    assert net.first_byte.total_s >= 0.15
    assert net.first_byte.covered_s < net.first_byte.total_s
    assert net.serves
    assert (net.bytes_sent, net.bytes_received) == (30, 30)


def test_the_server_in_the_same_process_is_not_counted() -> None:
    """Its bytes are the other end's, whether its connections were accepted before or meanwhile."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as early,
        server.accept()[0] as early_served,
        NetworkTracker() as net,
        socket.create_connection(server.getsockname()) as late,
        server.accept()[0] as late_served,
    ):
        for asking, serving in ((early, early_served), (late, late_served)):
            asking.sendall(bytes(100))
            receive(serving, 100)
            serving.sendall(bytes(7))
            receive(asking, 7)
    assert net.serves
    assert net.connections == 1
    assert (net.bytes_sent, net.bytes_received) == (200, 14)
    assert (net.tcp_bytes_sent, net.tcp_bytes_received) == (200, 14)
    assert net.exchanges == 2


def test_a_connection_that_is_refused_is_a_failure() -> None:
    """For blocking sockets, for those that connect in the background, and for asyncio."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    with NetworkTracker() as net:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        with pytest.raises(ConnectionRefusedError):
            asyncio.run(ask_async(address[1], 1))
        with socket.socket() as one:
            assert one.connect_ex(address) != 0
    assert net.connections_failed == 3
    assert net.connections == 0


def test_reads_that_find_nothing_are_no_exchange() -> None:
    """A socket that would block, times out or ends gives no first byte; looking ahead is no receiving."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        NetworkTracker() as net,
        socket.create_connection(server.getsockname()) as one,
        server.accept()[0] as served,
    ):
        one.settimeout(0.01)
        one.sendall(b"?")
        with pytest.raises(TimeoutError):
            one.recv(10)
        one.setblocking(False)
        with pytest.raises(BlockingIOError):
            one.recv(10)
        one.setblocking(True)
        served.sendall(served.recv(1) + b"2345")
        assert one.recv(10, socket.MSG_PEEK) == b"?2345"
        assert one.recv(10) == b"?2345"
        served.shutdown(socket.SHUT_WR)
        assert one.recv(10) == b""
    assert net.exchanges == 1
    assert net.bytes_received == 5
    assert net.receive_calls == 2
    assert net.tcp_bytes_received == 5


@pytest.mark.parametrize("how", ["recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into"])
def test_all_ways_to_receive_are_seen(how: str, echo: int) -> None:
    """Each gives its bytes in another way."""
    buffer = bytearray(100)
    arguments: dict[str, Any] = {"recvmsg_into": [buffer]}
    with NetworkTracker() as net, socket.create_connection(("127.0.0.1", echo)) as one:
        one.sendall(bytes(10))
        getattr(one, how)(arguments.get(how, buffer if "into" in how else 100))
    assert net.bytes_received == 10
    assert net.exchanges == 1


@pytest.mark.parametrize("how", ["send", "sendall", "sendmsg", "sendfile"])
def test_all_ways_to_send_are_seen(how: str, echo: int, tmp_path: Path) -> None:
    """Once each, although some are made of others."""
    path = tmp_path / "file"
    path.write_bytes(bytes(70_000))
    with NetworkTracker() as net, socket.create_connection(("127.0.0.1", echo)) as one, open(path, "rb") as file:
        data: dict[str, Any] = {"sendfile": file, "sendmsg": [bytes(300), bytes(200)]}
        sent = getattr(one, how)(data.get(how, memoryview(bytes(500))))
        size = 70_000 if how == "sendfile" else 500
        assert sent in {size, None}
        receive(one, size)
    assert net.bytes_sent == size
    assert net.bytes_received == size
    assert net.exchanges == 1


def test_datagrams_are_exchanges_without_a_connection() -> None:
    """The one that asks first is counted, the one that is asked is not."""
    with (
        socket.socket(type=socket.SOCK_DGRAM) as server,
        socket.socket(type=socket.SOCK_DGRAM) as one,
        NetworkTracker() as net,
    ):
        server.bind(("127.0.0.1", 0))
        one.connect(server.getsockname())
        one.send(bytes(20))
        _, address = server.recvfrom(100)
        server.sendto(bytes(30), address)
        one.recv(100)
    assert net.connections == 0
    assert net.exchanges == 1
    assert (net.bytes_sent, net.bytes_received) == (20, 30)
    assert net.retransmits is None


def test_unix_sockets_are_seen_and_pairs_are_not(tmp_path: Path) -> None:
    """A server on a path is a server; two ends within the process are nobody's network."""
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as one:
        server.bind(str(tmp_path / "socket"))
        server.listen()
        first, second = socket.socketpair()
        with NetworkTracker() as net, first, second:
            one.connect(str(tmp_path / "socket"))
            with server.accept()[0] as served:
                one.sendall(bytes(40))
                receive(served, 40)
                served.sendall(bytes(50))
                receive(one, 50)
            first.sendall(bytes(1000))
            receive(second, 1000)
    assert net.connections == 1
    assert (net.bytes_sent, net.bytes_received) == (40, 50)


def test_names_that_are_looked_up_are_timed(echo: int) -> None:
    """By http.client and its like, and by asyncio, which does it in a thread."""
    with NetworkTracker() as net:
        socket.create_connection(("localhost", echo)).close()
        asyncio.run(asyncio.wait_for(_open_and_close("localhost", echo), 10))
    assert net.resolve.count == 2
    assert 0.0 < net.resolve.total_s < net.wall_s


async def _open_and_close(host: str, port: int) -> None:
    _, writer = await asyncio.open_connection(host, port, family=socket.AF_INET)
    writer.close()
    await writer.wait_closed()


def test_a_library_that_uses_its_own_sockets_is_seen_by_the_kernels_count(echo: int) -> None:
    """No Python code touches them: the bytes of connections that stay open are known, their times are not."""
    with socket.create_connection(("127.0.0.1", echo)) as one, NetworkTracker() as net:
        os.write(one.fileno(), bytes(300))
        size = 300
        while size:
            size -= len(os.read(one.fileno(), size))
    assert (net.bytes_sent, net.bytes_received) == (0, 0)
    assert (net.unseen_bytes_sent, net.unseen_bytes_received) == (300, 300)
    assert net.unseen_connections == 0
    assert net.exchanges == 0


@pytest.mark.slow
def test_segments_that_were_sent_again_are_counted() -> None:
    """A server whose queue is full drops the request for a connection, which is sent again after a second."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        first = [socket.socket() for _ in range(2)]
        with first[0], first[1], socket.socket() as one:
            for other in first:
                other.setblocking(False)
                other.connect_ex(server.getsockname())
            one.setblocking(False)
            with NetworkTracker() as net:
                one.connect_ex(server.getsockname())
                until = time.monotonic() + 10.0
                while time.monotonic() < until:
                    info = tcp_info(one.fileno())
                    if info is None or info.retransmits:
                        break
                    time.sleep(0.05)
    assert net.retransmits is not None
    assert net.retransmits >= 1
    assert net.connections == 0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made for the occasion, with its key in the same file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the program openssl")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    key = path.with_suffix(".key")
    order = f"req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -keyout {key} -out {path}"
    subprocess.run([openssl, *order.split()], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path


def test_tls_is_counted_before_its_encryption(certificate: Path) -> None:
    """The bytes of the code, the handshake's time, and the kernel's count of what went through the wire."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            one, _ = server.accept()
            with context.wrap_socket(one, server_side=True) as served:
                receive(served, 1000)
                served.sendall(bytes(2000))

        thread = threading.Thread(target=serve)
        thread.start()
        trusting = ssl.create_default_context(cafile=str(certificate))
        with (
            NetworkTracker() as net,
            socket.create_connection(server.getsockname()) as plain,
            trusting.wrap_socket(plain, server_hostname="localhost") as one,
        ):
            one.sendall(bytes(1000))
            receive(one, 2000)
        thread.join()
    assert net.connections == 1
    assert net.handshake.count == 1
    assert (net.bytes_sent, net.bytes_received) == (1000, 2000)
    assert net.exchanges == 1
    assert net.tcp_bytes_sent > 1000
    assert net.tcp_bytes_received > 2000
    assert net.connect.total_s + net.handshake.total_s + net.first_byte.total_s < net.wall_s


def test_an_observer_that_fails_breaks_no_socket(echo: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call goes on as if nobody looked."""

    def fails(*_: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(NetworkTracker, "sent", fails)
    with NetworkTracker() as net:
        connect_and_ask(echo, 100)
    assert net.connections == 1
    assert net.bytes_sent == 0


# -- the kind -----------------------------------------------------------------------------------------------------


def test_each_call_is_counted_exactly(port: int) -> None:
    """Bytes, connections and exchanges of one call, and the distribution of its times."""
    outcome, found = examined(Network, get, port, "/1000", iterations=5, warmup_iterations=1)
    details = found.details
    assert details["calls"] == outcome.series.calls.sum()
    assert details["looked_at_calls"] >= 3
    assert details["connections_per_call"] == 1.0
    assert details["exchanges_per_call"] == 1.0
    assert details["bytes_received_per_call"] == head(1000) + 1000
    assert details["bytes_received_total"] == details["looked_at_calls"] * (head(1000) + 1000)
    assert details["tcp_bytes_sent_per_call"] == details["bytes_sent_per_call"] == REQUEST + len(str(port))
    assert details["retransmitted_segments_total"] == 0
    for phase in ("connect", "first_byte"):
        assert 0.0 < details[f"{phase}_s_median"] <= details[f"{phase}_s_p95"] <= details[f"{phase}_s_max"]
        assert 0.0 < details[f"{phase}_share"] < 1.0
    assert "tls_handshake_share" not in details
    assert "in this network namespace" in details["machine_counts"]
    assert json.loads(json.dumps(details)) == details


def test_the_machines_counters_are_of_the_timed_calls(port: int) -> None:
    """At least what the calls themselves sent through the loopback interface; more, if others used it."""
    before = machine_counts()["loopback_bytes"]
    _, found = examined(Network, get, port, "/50000", iterations=4, warmup_iterations=0)
    after = machine_counts()["loopback_bytes"]
    details = found.details
    assert details["calls"] * 50_000 <= details["machine_loopback_bytes_total"] <= after - before
    assert details["machine_connections_opened_total"] >= details["calls"]


def test_an_async_function_is_looked_at_in_its_event_loop(echo: int) -> None:
    """With its waiting, which is the event loop's."""
    _, found = examined(Network, ask_async, echo, 3000, iterations=3, warmup_iterations=0)
    assert found.details["connections_per_call"] == 1.0
    assert found.details["bytes_sent_per_call"] == 3000.0
    assert found.details["exchanges_per_call"] == 1.0


def connect_only(port: int) -> None:
    socket.create_connection(("127.0.0.1", port)).close()


def test_a_new_connection_in_each_call_is_advised_against(echo: int) -> None:
    """With the share of the time that it takes."""
    _, found = examined(Network, connect_only, echo, iterations=3, warmup_iterations=0)
    assert found.details["connect_share"] > 0.1
    assert any("makes a new connection in each call" in sentence for sentence in found.advice)


def test_connections_that_are_left_open_are_told(echo: int) -> None:
    """As many as there were calls."""
    kept: list[socket.socket] = []

    def leaks() -> None:
        kept.append(socket.create_connection(("127.0.0.1", echo)))

    _, found = examined(Network, leaks, iterations=3, warmup_iterations=0, loops=1)
    for one in kept:
        one.close()
    assert found.details["connections_left_open"] == found.details["looked_at_calls"]
    assert any("does not close what it opens" in sentence for sentence in found.advice)


def test_answers_that_are_waited_for_in_turn_are_advised_against() -> None:
    """Eight questions, one after the other, to a server that thinks for 2 ms."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            one, _ = server.accept()
            with one:
                while data := one.recv(100):
                    time.sleep(0.002)
                    one.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        with socket.create_connection(server.getsockname()) as one:

            def asks_in_turn() -> None:
                for _ in range(8):
                    ask(one, 10)

            _, found = examined(Network, asks_in_turn, iterations=3, warmup_iterations=0)
        thread.join()
    assert found.details["exchanges_per_call"] == 8.0
    assert found.details["connections_per_call"] == 0.0
    assert any("waits for an answer 8 times a call" in sentence for sentence in found.advice)
    assert any("server runs in the same process" in sentence for sentence in found.notes)


@pytest.mark.slow
def test_an_answer_in_pieces_that_waits_for_an_acknowledgement_is_found(port: int) -> None:
    """Linux acknowledges the first packets of a connection at once, and then after 40 ms."""
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:

        def asks() -> None:
            connection.request("GET", "/pieces/1000")
            connection.getresponse().read()

        _, found = examined(Network, asks, iterations=5, warmup_iterations=20)
    assert any("holds an acknowledgement back" in sentence for sentence in found.advice)


def test_what_cannot_be_seen_is_said() -> None:
    """A call that uses no socket of Python's may still use others."""
    _, found = examined(Network, sum, [1, 2], iterations=3, warmup_iterations=0)
    assert any("library in C" in sentence for sentence in found.notes)
    assert found.details["bytes_sent_total"] == 0
    assert found.details["retransmitted_segments"].startswith("not readable")


def test_a_call_that_fails_is_looked_at_as_well() -> None:
    """Refused connections are counted; the failures are the run's to report."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    _, found = examined(Network, connect_only, port, iterations=3, warmup_iterations=0)
    assert found.details["connections_failed_per_call"] == 1.0
    assert found.details["connections_total"] == 0
    assert any("failed" in sentence for sentence in found.notes)


def test_no_time_left_is_no_look_and_no_failure() -> None:
    """That the sockets were not looked at is said, in the details and in the notes."""
    _, found = examined(Network, time.sleep, 0.05, budget_s=0.06, iterations=2, warmup_iterations=0)
    assert found.details["sockets"].startswith("not looked at: ")
    assert any("not looked at" in sentence for sentence in found.notes)
    assert "bytes_sent_total" not in found.details
    assert found.details["wait_share"] > 0.5
