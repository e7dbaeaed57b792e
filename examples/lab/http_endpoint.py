"""An HTTP endpoint under ten users: a real server on loopback, threads that call it, and what it does at a fixed rate.

    python examples/lab/http_endpoint.py

Ten users who each wait for an answer before they ask again never ask much faster than the server answers. So the
second benchmark has its calls arrive at a fixed rate: there, waiting counts from the moment a call was due.
"""

from __future__ import annotations

import threading
import time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from hotlap import BenchmarkConfig, PerformanceBenchmarker

USERS = 10


class Hello(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # the answer in one packet: two of them wait for each other

    def do_GET(self) -> None:
        time.sleep(0.002)  # what a database would take
        body = b'{"hello": "world"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Client:
    """One connection for each thread, kept open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._local = threading.local()
        self._connections: list[HTTPConnection] = []

    def get(self) -> bytes:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = HTTPConnection("127.0.0.1", self._port, timeout=10)
            self._connections.append(connection)
        connection.request("GET", "/")
        body: bytes = connection.getresponse().read()
        return body

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = Client(server.server_port)
    lab = PerformanceBenchmarker()
    closed = lab.benchmark_concurrent(client.get, config=BenchmarkConfig(iterations=600, concurrent_users=USERS))
    opened = lab.benchmark_concurrent(
        client.get, config=BenchmarkConfig(iterations=200, concurrent_users=USERS, arrival_rate=100.0)
    )
    client.close()
    server.shutdown()
    server.server_close()
    for name, report in ((f"{USERS} users", closed), ("100 calls/s", opened)):
        p50, p95 = (1e3 * report.summary[f"{key}_execution_time"] for key in ("p50", "p95"))
        print(f"{name:12} p50 {p50:.1f} ms, p95 {p95:.1f} ms, {report.summary['success_rate']:.0%} answered")


if __name__ == "__main__":
    main()
