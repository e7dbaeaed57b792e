"""The public face: what `import hotlap` gives, and what it does not load."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

import hotlap
from hotlap import errors
from live import run_program

EXPORTED = {
    "BenchmarkConfig",
    "BenchmarkMetrics",
    "BenchmarkReport",
    "DebugLevel",
    "PerformanceBenchmarker",
    "BenchmarkResult",
    "BenchmarkType",
    "Context",
    "Cycle",
    "Finding",
    "HotlapError",
    "Report",
    "Score",
    "SiteSnapshot",
    "Stats",
    "Verdict",
    "__version__",
    "benchmark",
    "configure",
    "disable",
    "enable",
    "flush",
    "measure",
    "restore",
    "running",
    "snapshot",
    "start",
    "stop",
}
HEAVY = ("numpy", "structlog", "opentelemetry", "psutil", "typer", "rich")


def test_the_export_list_is_what_users_are_promised() -> None:
    """Every name is there, none beyond them, and the list is sorted."""
    assert set(hotlap.__all__) == EXPORTED
    assert hotlap.__all__ == sorted(hotlap.__all__)
    for name in hotlap.__all__:
        assert getattr(hotlap, name) is not None


def test_names_that_come_later_are_those_of_their_modules() -> None:
    """Asked for a second time they are plain attributes; dir() knows them before."""
    assert hotlap.start is importlib.import_module("hotlap.monitor").start
    assert hotlap.Stats is importlib.import_module("hotlap.model").Stats
    assert vars(hotlap)["start"] is hotlap.start
    assert set(dir(hotlap)) >= EXPORTED


def test_an_unknown_name_is_an_attribute_error() -> None:
    """With the name in it."""
    with pytest.raises(AttributeError, match="no attribute 'strat'"):
        hotlap.strat  # type: ignore[attr-defined]


def test_public_functions_say_what_they_do() -> None:
    """A docstring each."""
    for name in EXPORTED - {"__version__"}:
        assert inspect.getdoc(getattr(hotlap, name)), name


def test_importing_hotlap_loads_nothing_heavy(tmp_path: Path) -> None:
    """Nor does decorating, calling and measuring; start() does, and only then."""
    done = run_program(
        tmp_path,
        f"""
        import sys
        import hotlap

        @hotlap.benchmark
        def work(): pass

        work()
        with hotlap.measure("block") as block:
            block.record(rows=1)
        hotlap.disable(); hotlap.enable(); hotlap.restore(work)
        import threading
        assert not [name for name in {HEAVY!r} if name in sys.modules], sorted(sys.modules)
        assert "dataclasses" not in sys.modules or "hotlap.model" not in sys.modules
        assert threading.active_count() == 1
        dir(hotlap)
        assert "numpy" not in sys.modules
        hotlap.Report
        assert "numpy" not in sys.modules
        hotlap.start(sinks=[])
        assert "numpy" in sys.modules and "structlog" not in sys.modules
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_errors_are_hotlaps_and_those_of_python() -> None:
    """Each can be caught as HotlapError, and as the builtin that fits."""
    assert issubclass(errors.OptionError, hotlap.HotlapError)
    assert issubclass(errors.OptionTypeError, hotlap.HotlapError)
    assert issubclass(errors.OptionTypeError, TypeError)
    assert issubclass(errors.OptionError, ValueError)


def test_it_needs_these_and_no_others() -> None:
    """As the metadata says it to pip."""
    from importlib.metadata import metadata

    about = metadata("hotlap")
    needs = {line.partition(">")[0] for line in about.get_all("Requires-Dist") if "extra ==" not in line}
    assert needs == {"wrapt", "psutil", "numpy", "structlog", "opentelemetry-api"}
    assert (about["Requires-Python"], about["License-Expression"]) == (">=3.10", "MIT")
