"""What is special to the native core: its types seen from Python, and its module."""

from __future__ import annotations

import copy
import gc
import operator
import pickle
import sys
from typing import Any

import pytest
import wrapt

from conftest import counts
from hotlap import core
from hotlap.errors import HotlapError, OptionError
from subjects import FOLLOW_ALL, generate, plain, run, site

if core.NAME != "native":
    pytest.skip("the Python core is under test", allow_module_level=True)


class TestTypes:
    def test_bases(self) -> None:
        """A probe is a wrapt.FunctionWrapper, made in C."""
        assert core.FunctionProbe.__mro__[:3] == (core.FunctionProbe, core.Probe, wrapt.FunctionWrapper)
        assert core.Probe.__module__ == "hotlap.core._native"

    def test_uninitialised(self) -> None:
        """A probe that __init__ never saw says so in every use."""
        for kind in (core.Probe, core.FunctionProbe):
            empty = kind.__new__(kind)
            with pytest.raises(HotlapError, match="not initialised"):
                empty()
            for use in (copy.copy, copy.deepcopy, pickle.dumps, operator.methodcaller("__reduce__")):
                with pytest.raises((HotlapError, ValueError)):
                    use(empty)
            with pytest.raises((AttributeError, ValueError)):
                empty._self_site
            kind.__get__(empty, 1, int)
            gc.collect()
            del empty

    def test_not_subclassed(self) -> None:
        """Stand-ins, sites and rings have no subclasses, and stand-ins no constructor."""
        item = core.FunctionProbe(generate, site(), FOLLOW_ALL)()
        for kind in (type(item), core.Site, core.Ring):
            with pytest.raises(TypeError, match="not an acceptable base type"):
                type("Sub", (kind,), {})
        with pytest.raises(TypeError, match="cannot create"):
            type(item)()

    def test_deep_nesting(self) -> None:
        """Freeing a long chain does not recurse on the C stack."""
        where = site()
        chain: Any = plain
        for _ in range(5_000):  # many more, and wrapt itself recurses in making one
            chain = core.Probe(chain, where)
        del chain

        def body(inner: Any) -> Any:
            yield 1
            yield inner

        link = core.FunctionProbe(body, where, FOLLOW_ALL)
        chain = None
        for _ in range(100_000):
            chain = link(chain)
            next(chain)
        del chain
        assert counts(where)["in_flight"] == 0


class TestModule:
    def test_other_interpreters(self) -> None:
        """The native core is refused in a second interpreter, with the reason, and the first one goes on."""
        run(
            """
            import sys
            from hotlap import core
            try:
                import _xxsubinterpreters as interpreters
            except ImportError:
                import _interpreters as interpreters
            assert core.NAME == "native"
            code = '''
            import sys
            sys.path[:] = PATH
            try:
                import hotlap.core._native
            except ImportError as error:
                assert "interpreter" in str(error), error
            else:
                raise SystemExit("imported")
            '''
            import textwrap
            code = textwrap.dedent(code).replace("PATH", repr(sys.path))
            for legacy in (True, False):
                try:
                    number = interpreters.create(isolated=not legacy)
                except TypeError:
                    number = interpreters.create("legacy" if legacy else "isolated")
                failed = interpreters.run_string(number, code)
                assert not failed, failed
                interpreters.destroy(number)
            probe = core.FunctionProbe(lambda: 1, core.Site(1, "a"))
            assert probe() == 1
            """
        )

    def test_imported_again(self) -> None:
        """The module that comes of a second import has the same types."""
        run(
            """
            import sys
            from hotlap import core
            from hotlap.core import _native as first
            probe = core.FunctionProbe(lambda: 1, core.Site(1, "a"))
            del sys.modules["hotlap.core._native"]
            import importlib
            second = importlib.import_module("hotlap.core._native")
            assert second is not first and second.Probe is first.Probe and second.Site is first.Site
            assert probe() == 1 and second.clock()["kind"] == first.clock()["kind"]
            """
        )

    @pytest.mark.parametrize("capacity", [2**40, 2**61, sys.maxsize // 128 + 1])
    def test_ring_too_large(self, capacity: int) -> None:
        with pytest.raises((MemoryError, OptionError, OverflowError)):
            core.Ring(capacity)


def test_names() -> None:
    """The stub, the module, and the Python twin have the same public names."""
    import ast
    import pathlib

    from hotlap.core import _native, _python

    stub = ast.parse(pathlib.Path(core.__file__).with_name("_native.pyi").read_text())
    declared = set()
    for node in stub.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            declared.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            declared.add(node.target.id)
        elif isinstance(node, ast.Assign) and not isinstance(node.value, ast.Call):  # no type variable
            declared |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    there = {name for name in vars(_native) if not name.startswith("__")}
    assert declared == there
    assert set(core._EITHER) <= there & set(vars(_python))
