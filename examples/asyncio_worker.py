"""An asyncio worker: what a coroutine waits for, and what it does not let others do meanwhile.

    python examples/asyncio_worker.py

Workers take file names from a queue, fetch each file from a small server on this machine, and digest it. The
digest is computed on the event loop, where it holds up everybody else: `longest_run_s` shows for how long.
"""

from __future__ import annotations

import asyncio
import hashlib
import sysconfig
from pathlib import Path

import hotlap

STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a line with the file it names."""
    name = (await reader.readline()).decode().strip()
    await asyncio.sleep(0.005)  # the network
    writer.write((STANDARD_LIBRARY / name).read_bytes())
    await writer.drain()
    writer.close()


@hotlap.benchmark(type="network", slo="100ms")
async def fetch(port: int, name: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{name}\n".encode())
    data = await reader.read()
    writer.close()
    return data


@hotlap.benchmark
async def digest(data: bytes) -> str:
    return hashlib.pbkdf2_hmac("sha256", data, b"salt", 5_000).hex()


async def work(port: int, names: asyncio.Queue[str], digests: dict[str, str]) -> None:
    while True:
        name = await names.get()
        async with hotlap.measure("job"):
            digests[name] = await digest(await fetch(port, name))
        names.task_done()


async def run(files: int, workers: int) -> dict[str, str]:
    names: asyncio.Queue[str] = asyncio.Queue()
    for path in sorted(STANDARD_LIBRARY.glob("*.py"))[:files]:
        names.put_nowait(path.name)
    digests: dict[str, str] = {}
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        tasks = [asyncio.create_task(work(port, names, digests)) for _ in range(workers)]
        await names.join()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return digests


def ms(seconds: float | None) -> str:
    """Milliseconds, or a dash where there is no evidence."""
    return "-" if seconds is None else f"{seconds * 1e3:.3f}"


def main(files: int = 60, workers: int = 4) -> None:
    hotlap.start(sinks=[])
    digests = asyncio.run(run(files, workers))
    print(f"{len(digests)} files digested")
    for report in hotlap.flush():
        stats = report.stats
        print(f"\n{stats.site}: {stats.calls} calls, mean {ms(stats.mean_s)} ms")
        if stats.run_s is not None:
            print(f"  running {ms(stats.run_s)} ms, suspended {ms(stats.suspended_s)} ms a call")
            print(f"  blocked the event loop for up to {ms(stats.longest_run_s)} ms")
    hotlap.stop()


if __name__ == "__main__":
    main()
