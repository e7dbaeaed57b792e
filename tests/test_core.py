"""The core as a whole: which one it is, its record, its switch, and its part in a fork; over both cores."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from typing import Any

import numpy
import pytest

from conftest import counts
from hotlap import core
from hotlap.core import record
from hotlap.errors import LayoutError
from probes import Records, make


class TestPick:
    def test_name(self) -> None:
        """HOTLAP_CORE decides, and the reason is said."""
        wanted = os.environ.get("HOTLAP_CORE", "auto")
        assert wanted in {core.NAME, "auto"}
        assert core.REASON

    @pytest.mark.parametrize(("wanted", "ok"), [("native", False), ("auto", True), ("python", True), ("c", False)])
    def test_missing(self, wanted: str, ok: bool) -> None:
        """Without the native core: an error for who forced it, the twin and the reason for the others."""
        code = (
            "import sys; sys.modules['hotlap.core._native'] = None\n"
            "from hotlap import core; print(core.NAME, '|', core.REASON)"
        )
        env = {**os.environ, "HOTLAP_CORE": wanted}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
        if ok:
            assert done.stdout.startswith("python | ")
            assert done.returncode == 0
        else:
            assert done.returncode != 0
            assert f"HOTLAP_CORE={wanted}" in done.stderr or f"'{wanted}'" in done.stderr


class TestLayout:
    def test_dtype(self) -> None:
        """The numpy dtype is the layout: no gaps, no overlaps, 128 bytes."""
        dtype = core.record_dtype()
        assert dtype is core.record_dtype()
        assert dtype.itemsize == core.RECORD_BYTES == 128
        end = 0
        for name, kind, offset in core.RECORD_LAYOUT:
            assert offset == end
            assert dtype.fields is not None
            assert dtype.fields[name][0] == numpy.dtype(kind)
            end += numpy.dtype(kind).itemsize
        assert end == core.RECORD_BYTES

    def test_check(self) -> None:
        """A core that writes another layout is refused."""
        good = types.SimpleNamespace(
            __name__="good",
            LAYOUT_VERSION=record.LAYOUT_VERSION,
            RECORD_BYTES=record.RECORD_BYTES,
            RECORD_LAYOUT=record.RECORD_LAYOUT,
        )
        record.check(good)
        with pytest.raises(LayoutError, match="LAYOUT_VERSION is 2"):
            record.check(types.SimpleNamespace(**{**vars(good), "LAYOUT_VERSION": 2}))


class TestSwitch:
    def test_disabled(self) -> None:
        """Switched off, calls pass uncounted; switched on, they count again."""
        probe, site = make(lambda x: x)
        core.enable(False)
        assert not core.enabled()
        assert probe(3) == 3
        later = core.FunctionProbe(lambda: 8, site)
        assert later() == 8
        assert counts(site)["calls"] == 0
        core.enable(True)
        assert core.enabled()
        probe(3)
        later()
        assert counts(site)["calls"] == 2

    def test_in_flight(self) -> None:
        """A call that is under way when it is switched off counts when it ends."""
        probe, site = make(lambda: core.enable(False))
        probe()
        read = counts(site)
        assert (read["calls"], read["in_flight"]) == (1, 0)


class TestFork:
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_child(self, registry: dict[str, core.Site], records: Records) -> None:
        """A child starts from zero, and calls that began before the fork never count there."""
        site = registry["f"] = core.Site(1, "f")
        answer, question = os.pipe()

        def body(fork: bool) -> int:
            if not fork:
                return 1
            pid = os.fork()
            if pid == 0:
                core.after_fork()
            return pid

        probe = core.FunctionProbe(body, site)

        def flow() -> Any:
            yield os.getpid()
            yield probe(True)

        flow_site = registry["g"] = core.Site(2, "g")
        flow_probe = core.FunctionProbe(flow, flow_site, core.FOLLOW_GENERATOR)
        probe(False)
        generator = flow_probe()
        parent = next(generator)
        next(generator)
        generator.close()
        if os.getpid() != parent:
            probe(False)
            read, flows = counts(site), counts(flow_site)
            rows = records()
            words = [
                read["calls"],
                read["timed"],
                read["in_flight"],
                flows["calls"],
                flows["in_flight"],
                len(rows),
            ]
            os.write(question, ",".join(map(str, words)).encode())
            os._exit(0)
        os.wait()
        assert os.read(answer, 100).decode() == "1,1,0,0,0,1"
        assert counts(site)["calls"] == 2
        assert counts(flow_site)["calls"] == 1
        os.close(answer)
        os.close(question)


@pytest.mark.parametrize(("wanted", "ok"), [("native", False), ("auto", True)])
def test_core_of_another_layout(wanted: str, ok: bool) -> None:
    """It is not used: an error for who forced it, the twin and the reason for the others."""
    code = (
        "import sys, types\n"
        "other = types.ModuleType('hotlap.core._native')\n"
        "other.LAYOUT_VERSION, other.NAME = 2, 'native'\n"
        "sys.modules['hotlap.core._native'] = other\n"
        "from hotlap import core; print(core.NAME, '|', core.REASON)"
    )
    env = {**os.environ, "HOTLAP_CORE": wanted}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert (done.returncode == 0) is ok
    assert "LAYOUT_VERSION is 2" in (done.stdout if ok else done.stderr)
    assert done.stdout.startswith("python | ") is ok
