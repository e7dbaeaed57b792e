"""The archive: a compressed copy of each source and of the last answers, kept in memory."""

from __future__ import annotations

import lzma
import threading
import zlib

from hotlap import benchmark


class Archive:
    """Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._packed: dict[str, bytes] = {}

    @benchmark(type="concurrent")
    def keep(self, name: str, content: bytes) -> None:
        with self._lock:
            self._packed[name] = lzma.compress(content)

    @benchmark
    def checksum(self, name: str) -> int:
        return zlib.crc32(self._packed[name])

    def __len__(self) -> int:
        return len(self._packed)
